// Holds answers back until what they acknowledge is in the store (`--durability sync`).
//
// A request that committed a transaction was executed, and its answer is kept in the shared state;
// the thread that served it goes on with other requests meanwhile.
#pragma once

#include <functional>

namespace walfs {

class ReplyGate {
 public:
  virtual ~ReplyGate() = default;
  // Whether what the calling thread has done since its last call has committed a transaction of a
  // database, so that its answer must wait.
  virtual bool take_committed() = 0;
  // Whether that also counts for a request that a server which died has executed before. Else all
  // of those wait.
  virtual bool judges_repeated() const { return false; }
  // Calls answer once, from any thread: with 0 when everything that was committed before this call
  // is in the store, or with the errno that the application is to see instead.
  virtual void wait(std::function<void(int error)> answer) = 0;
};

}  // namespace walfs
