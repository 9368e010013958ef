// Acting for the process that made a request: what it creates belongs to it from the first instant.
#pragma once

#include <sys/types.h>

namespace walfs {

struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
  mode_t umask = 0;
};

// Must run once in every thread that uses ActAs: gives the thread its own umask and keeps its
// capabilities when the file-system uid changes. Returns 0 or errno.
int prepare_thread_to_act_as_callers();

// While it lives, new files made by this thread get the caller's owner, group and umask. The
// kernel applies default ACLs and setgid directories as ever; permissions were checked before the
// request was sent, so they are not checked again.
class ActAs {
 public:
  explicit ActAs(const Caller& caller);
  ~ActAs();
  ActAs(const ActAs&) = delete;
  ActAs& operator=(const ActAs&) = delete;

 private:
  bool switched_;
};

}  // namespace walfs
