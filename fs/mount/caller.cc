#include "fs/mount/caller.h"

#include <linux/securebits.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace walfs {
namespace {

constexpr mode_t kUnknownUmask = ~mode_t{0};
thread_local mode_t thread_umask = kUnknownUmask;

}  // namespace

int prepare_thread_to_act_as_callers() {
  if (unshare(CLONE_FS) != 0) return errno;
  // setfsuid() to another user would drop the thread's CAP_DAC_OVERRIDE and with it the access to
  // directories that the caller reaches through a supplementary group only.
  int bits = prctl(PR_GET_SECUREBITS);
  if (bits < 0) return errno;
  if (geteuid() == 0 && prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) != 0) return errno;
  return 0;
}

ActAs::ActAs(const Caller& caller) : switched_(caller.uid != 0 || caller.gid != 0) {
  if (thread_umask != caller.umask) {
    ::umask(caller.umask);
    thread_umask = caller.umask;
  }
  if (!switched_) return;
  setfsgid(caller.gid);
  setfsuid(caller.uid);
}

ActAs::~ActAs() {
  if (!switched_) return;
  setfsuid(geteuid());
  setfsgid(getegid());
}

}  // namespace walfs
