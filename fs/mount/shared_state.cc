#include "fs/mount/shared_state.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace walfs {

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(std::atomic<SlotState>::is_always_lock_free);

Result<FileDescriptor> make_shared_state() {
  FileDescriptor fd(memfd_create("walfs-state", MFD_CLOEXEC));
  if (!fd.valid() || ftruncate(fd.get(), sizeof(SharedState)) != 0)
    return error_from_errno("cannot create a memfd", errno);
  const uint64_t format = kSharedStateFormat;
  if (pwrite(fd.get(), &format, sizeof format, offsetof(SharedState, format)) != sizeof format)
    return error_from_errno("cannot write a memfd", errno);
  return fd;
}

Result<SharedState*> map_shared_state(int fd) {
  void* memory =
      mmap(nullptr, sizeof(SharedState), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (memory == MAP_FAILED) return error_from_errno("cannot map the shared state", errno);
  auto* state = static_cast<SharedState*>(memory);
  if (state->format == kSharedStateFormat) return state;
  munmap(memory, sizeof(SharedState));
  return Error{Errc::kUnsupported, "the mount was made by a walfs of another version"};
}

}  // namespace walfs
