// The keeper: mounts, holds the mount, starts the server and the flusher, and ends all of it.
//
// It reaches the backing directory only through descriptors that it opened before it mounted, and
// never looks at a path inside of the mount.
#pragma once

#include <cstddef>
#include <functional>

#include "fs/mount/options.h"
#include "replicator/base/result.h"

namespace walfs {

constexpr size_t kOptionsSizeMax = 1U << 20;
constexpr int kDetach = 2;  // MNT_DETACH, for those who cannot include <sys/mount.h>.

// Serves until the mount is gone. `ready` is called once: when the mount serves, or with what kept
// it from doing so. Returns the exit status. options.source and options.mountpoint are real paths.
int run_keeper(const MountOptions& options, const std::function<void(const Status&)>& ready);

// The process `walfs keep-internal N`: a keeper that has become this program goes on; N is what it
// has left itself. Returns the exit status.
int run_keeper_again(int held_fd);

// `walfs upgrade`: the program that runs this takes the place of the one that serves the mount.
// Prints what serves now.
Status run_upgrade_command(const std::string& mountpoint, int64_t timeout_ms);

// `walfs mount`: in the foreground runs the keeper; else starts it as a daemon and returns as soon
// as the mount serves. Prints what went wrong to standard error. Returns the exit status.
int run_mount_command(MountOptions options);

// `walfs unmount`: ships everything, unmounts, and returns when the processes have ended. With
// force it goes on when something could not be shipped.
Status run_unmount_command(const std::string& mountpoint, int64_t timeout_ms, bool force);

}  // namespace walfs
