#include "replicator/base/result.h"

#include <cerrno>
#include <cstring>

namespace walfs {

Error error_from_errno(std::string what, int error_number) {
  Errc code = Errc::kIo;
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      code = Errc::kNothingThere;
      break;
    case EEXIST:
    case EBUSY:
      code = Errc::kConflict;
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      code = Errc::kDenied;
      break;
    case ENOSPC:
    case EDQUOT:
      code = Errc::kNoSpace;
      break;
    case EOPNOTSUPP:
    case ENOSYS:
      code = Errc::kUnsupported;
      break;
    case EINTR:
    case EAGAIN:
      code = Errc::kRetry;
      break;
    default:
      break;
  }
  return Error{code, std::move(what) + ": " + std::strerror(error_number)};
}

Error damaged(const std::string& name, const std::string& what) {
  return Error{Errc::kDamaged, name + " is damaged: " + what};
}

int exit_code(const Error& error) {
  if (error.code == Errc::kUsage) return 2;
  if (error.code == Errc::kNothingThere) return 3;
  return 1;
}

}  // namespace walfs
