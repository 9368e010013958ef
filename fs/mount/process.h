// Child processes of the mount and the messages between them.
#pragma once

#include <sys/types.h>

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "replicator/base/file_descriptor.h"
#include "replicator/base/result.h"

namespace walfs {

// Runs this program anew with the hidden subcommand. The child gets `descriptors` as 3, 4, ... in
// order (-1 leaves a number closed) and no others but 0, 1 and 2; it is in a process group of its
// own and has no signal blocked. With keep_from, the descriptors from that number on are inherited,
// too.
Result<pid_t> spawn_self(const std::string& subcommand, const std::vector<std::string>& arguments,
                         const std::vector<int>& descriptors, int keep_from = 0);

// A connected pair of SOCK_SEQPACKET sockets.
Result<std::pair<FileDescriptor, FileDescriptor>> make_channel();
// One message. False when the other side is gone.
bool send_message(int channel, const nlohmann::json& message);
// The next message; nothing when the other side is gone or the time is over (-1: no limit).
std::optional<nlohmann::json> receive_message(int channel, int64_t timeout_ms);

// A memfd that holds the text, positioned at its start; and reading it back.
Result<FileDescriptor> make_text_memfd(const char* name, const std::string& text);
Result<std::string> read_text_fd(int fd, size_t size_max);

// The exit status (128 + signal if it was killed), or nothing while it runs after the timeout.
std::optional<int> wait_for_exit(pid_t pid, int64_t timeout_ms);
int status_of_wait(int wait_status);

// umount2(2) in a process of its own, because it waits for the mount's pages to be written and
// who serves the mount must not wait for it. Returns 0 or errno; ETIMEDOUT if it goes on.
int unmount_by_helper(const std::string& mountpoint, int flags, int64_t timeout_ms);
// What the helper runs: `unmount-internal MOUNTPOINT FLAGS`. Exits with the errno.
int run_unmount_helper(const std::string& mountpoint, int flags);

// As many open files as the system allows at all; how many.
uint64_t raise_descriptor_limit();

int64_t now_ms();  // Monotonic.

}  // namespace walfs
