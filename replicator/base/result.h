// Result<T>: a value, or an Error that says what the caller should do about it.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace walfs {

// What the caller should do, not where the failure came from.
enum class Errc {
  kUsage,         // The request itself is wrong: tell the user, do not try again.
  kNothingThere,  // The object, file or replica does not exist.
  kConflict,      // Somebody else holds it or was first (a lost conditional PUT, a lock).
  kDenied,        // Credentials or permissions: tell the user; trying again later may help.
  kRetry,         // A passing fault (network, 5xx, SlowDown): try again later.
  kDamaged,       // Content that fails a checksum or a bound: do not use it, name it.
  kNoSpace,       // A disk or a quota is full.
  kUnsupported,   // The store, kernel or file format cannot do this.
  kCancelled,     // The caller asked to stop.
  kIo,            // Any other failure of the local system.
};

struct Error {
  Errc code = Errc::kIo;
  std::string message;  // One sentence for a person: what happened, to which file or URL.
};

// An Error from errno: `what` names the action and the file ("cannot open /x/y").
Error error_from_errno(std::string what, int error_number);

// For content that fails a check: `what` goes on after "<name> is damaged: ".
Error damaged(const std::string& name, const std::string& what);

// The exit status of the program for an error: 2 for kUsage, 3 for kNothingThere, else 1.
int exit_code(const Error& error);

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: likewise

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }
  T& operator*() & { return std::get<0>(state_); }
  const T& operator*() const& { return std::get<0>(state_); }
  T&& operator*() && { return std::get<0>(std::move(state_)); }
  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT: implicit by design
  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const { return error_; }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;

// WALFS_TRY(expr): return the error of a Status. WALFS_ASSIGN(decl, expr): or take the value.
#define WALFS_TRY(expr)                                   \
  do {                                                    \
    if (auto walfs_status = (expr); !walfs_status.ok()) { \
      return walfs_status.error();                        \
    }                                                     \
  } while (false)
#define WALFS_CONCAT_INNER(a, b) a##b
#define WALFS_CONCAT(a, b) WALFS_CONCAT_INNER(a, b)
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration cannot stand in parentheses.
#define WALFS_ASSIGN_IMPL(result, decl, expr) \
  auto result = (expr);                       \
  if (!result.ok()) return result.error();    \
  decl = std::move(result).value()
#define WALFS_ASSIGN(decl, expr) \
  WALFS_ASSIGN_IMPL(WALFS_CONCAT(walfs_result_, __LINE__), decl, expr)
// NOLINTEND(bugprone-macro-parentheses)

}  // namespace walfs
