// How a mount begins and ends, also when its processes are killed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <thread>

#include "tests/support/mounted_directory.h"

namespace walfs::test {
namespace {

// For mounts that are to be refused: the replica is never written.
Output try_mount(const std::string& source, const std::string& mountpoint) {
  return run_program({walfs_binary(), "mount", source, mountpoint, "--replica",
                      "file:///nonexistent/walfs-replica"});
}

bool all_ended(const MountedDirectory& mounted) {
  return wait_until([&] {
    return has_ended(mounted.pid("keeper_pid")) && has_ended(mounted.pid("server_pid")) &&
           has_ended(mounted.pid("flusher_pid"));
  });
}

void write_through(const MountedDirectory& mounted, const std::string& name) {
  int fd = open(mounted.path(name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(write(fd, "text", 4), 4);
  close(fd);
}

TEST(MountLifecycle, ASecondMountOfTheSourceIsRefusedAndNamesTheHolder) {
  MountedDirectory mounted;
  TemporaryDirectory other;
  Output output = try_mount(mounted.source(), other.path());
  EXPECT_EQ(output.status, 1);
  EXPECT_NE(output.text.find("pid " + std::to_string(mounted.pid("keeper_pid"))), std::string::npos)
      << output.text;
  EXPECT_NE(output.text.find(mounted.path()), std::string::npos) << output.text;
}

TEST(MountLifecycle, ASecondMountOnTheMountPointIsRefused) {
  MountedDirectory mounted;
  TemporaryDirectory other;
  Output output = try_mount(other.path(), mounted.path());
  EXPECT_EQ(output.status, 1);
  EXPECT_NE(output.text.find("already mounted"), std::string::npos) << output.text;
}

TEST(MountLifecycle, AMountPointInsideOfTheSourceIsRefused) {
  TemporaryDirectory place;
  std::filesystem::create_directory(place.path() + "/inside");
  Output output = try_mount(place.path(), place.path() + "/inside");
  EXPECT_EQ(output.status, 2) << output.text;
}

// Reached through our own mount it would wait for us while we wait for it.
TEST(MountLifecycle, AReplicaOrCredentialsInsideOfTheSourceAreRefused) {
  TemporaryDirectory place;
  const std::string inside = place.path() + "/inside";
  const auto refused = [&](const std::string& replica, const std::string& credentials) {
    const Output output = run_program({walfs_binary(), "mount", place.path(), "--replica", replica,
                                       "--credentials-file", credentials});
    EXPECT_EQ(output.status, 2) << output.text;
    EXPECT_NE(output.text.find("outside"), std::string::npos) << output.text;
    EXPECT_FALSE(mount_at(place.path()));
  };
  refused("file://" + inside, "/nonexistent");
  refused("file://" + inside + "/../deeper/still", "/nonexistent");
  refused("file:///nonexistent", inside);
  std::filesystem::create_symlink(place.path(), place.path() + "-link");
  refused("file://" + place.path() + "-link/replica", "/nonexistent");
  std::filesystem::remove(place.path() + "-link");
}

TEST(MountLifecycle, AMissingSourceIsNamed) {
  Output output = try_mount("/nonexistent/walfs", "/nonexistent/walfs");
  EXPECT_NE(output.status, 0);
  EXPECT_NE(output.text.find("/nonexistent/walfs"), std::string::npos) << output.text;
}

TEST(MountLifecycle, MountsOverItsOwnSource) {
  TemporaryDirectory place;
  {
    MountedDirectory mounted({}, Seconds(60), place.path(), place.path());
    std::ofstream(place.path() + "/file") << "text";
    EXPECT_FALSE(std::filesystem::exists(place.path() + "/.walfs"));
  }
  EXPECT_TRUE(std::filesystem::exists(place.path() + "/.walfs"));
  EXPECT_EQ(std::filesystem::file_size(place.path() + "/file"), 4u);
}

TEST(MountLifecycle, PathsNeedNotBeUtf8) {
  TemporaryDirectory place;
  const std::string source = place.path() + "/caf\xe9";
  std::filesystem::create_directory(source);
  MountedDirectory mounted({}, Seconds(120), source, source);
  write_through(mounted, "na\xefve");
  EXPECT_TRUE(std::filesystem::exists(source + "/na\xefve"));
  const Output status = run_program({walfs_binary(), "status", source, "--json"});
  EXPECT_EQ(status.status, 0) << status.text;
}

TEST(MountLifecycle, UnmountEndsEveryProcessAndTheSocket) {
  MountedDirectory mounted;
  write_through(mounted, "file");
  mounted.unmount();
  EXPECT_TRUE(all_ended(mounted));
  EXPECT_FALSE(std::filesystem::exists(control_socket_path(mounted.path())));
  EXPECT_EQ(std::filesystem::file_size(mounted.source() + "/file"), 4u);
}

TEST(MountLifecycle, PlainUmountEndsEveryProcess) {
  MountedDirectory mounted;
  write_through(mounted, "file");
  Output output = run_program({"umount", mounted.path()});
  ASSERT_EQ(output.status, 0) << output.text;
  EXPECT_TRUE(all_ended(mounted));
  EXPECT_EQ(std::filesystem::file_size(mounted.source() + "/file"), 4u);
}

TEST(MountLifecycle, MountsAgainRightAfterUnmounting) {
  MountedDirectory mounted;
  for (int round = 0; round < 5; ++round) {
    write_through(mounted, "file" + std::to_string(round));
    mounted.unmount();
    mounted.mount();
  }
}

TEST(MountLifecycle, ABusyUnmountNamesWhoIsUsingIt) {
  MountedDirectory mounted;
  write_through(mounted, "held");
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  Child holder([&] {
    int fd = open(mounted.path("held").c_str(), O_RDONLY);
    if (fd < 0 || write(ends[1], "x", 1) != 1) return 1;
    pause();
    return 0;
  });
  char ready = 0;
  ASSERT_EQ(read(ends[0], &ready, 1), 1);
  Output output = run_program({walfs_binary(), "unmount", mounted.path()});
  EXPECT_EQ(output.status, 1);
  EXPECT_NE(output.text.find("pid " + std::to_string(holder.pid())), std::string::npos)
      << output.text;
  EXPECT_NE(output.text.find("held"), std::string::npos) << output.text;
  EXPECT_TRUE(mount_at(mounted.path()));
  close(ends[0]);
  close(ends[1]);
}

TEST(MountLifecycle, SigtermUnmounts) {
  MountedDirectory mounted;
  write_through(mounted, "file");
  ASSERT_EQ(kill(mounted.pid("keeper_pid"), SIGTERM), 0);
  EXPECT_TRUE(all_ended(mounted));
  EXPECT_FALSE(mount_at(mounted.path()));
  EXPECT_EQ(std::filesystem::file_size(mounted.source() + "/file"), 4u);
}

TEST(MountLifecycle, SigtermDetachesABusyMountAfterItsTimeout) {
  MountedDirectory mounted({"--unmount-timeout=500ms"});
  write_through(mounted, "held");
  int held = open(mounted.path("held").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(pwrite(held, "TEXT", 4, 0), 4);
  ASSERT_EQ(kill(mounted.pid("keeper_pid"), SIGTERM), 0);
  EXPECT_TRUE(all_ended(mounted));
  EXPECT_FALSE(mount_at(mounted.path()));
  close(held);
  std::string text;
  std::ifstream(mounted.source() + "/held") >> text;
  EXPECT_EQ(text, "TEXT") << "what was written before must have arrived";
}

TEST(MountLifecycle, AKilledFlusherIsStartedAgain) {
  MountedDirectory mounted;
  ASSERT_EQ(kill(mounted.pid("flusher_pid"), SIGKILL), 0);
  EXPECT_TRUE(wait_until([&] {
    auto status = control_request(mounted.path(), {{"command", "status"}}, 5000);
    return status && status->value("flusher_pid", 0) != mounted.pid("flusher_pid");
  }));
  int fd = open(mounted.path("late").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  ASSERT_EQ(write(fd, "text", 4), 4);
  EXPECT_TRUE(wait_until([&] {
    std::error_code error;
    return std::filesystem::file_size(mounted.source() + "/late", error) == 4;
  })) << "the new flusher must flush";
  close(fd);
}

// An application in the middle of its writes must get an error, not hang.
int write_until_error(const std::string& path) {
  int fd = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  if (fd < 0) return 0;
  char page[4096] = {};
  for (int i = 0; i < 10000000; ++i) {
    if (pwrite(fd, page, sizeof page, (i % 64) * 4096) < 0) return 0;
    if (i % 16 == 0 && fsync(fd) != 0) return 0;
  }
  return 1;
}

// How many rounds of writes succeeded until the file `stop` appeared.
int write_until_stopped(const std::string& path, const std::string& stop) {
  int fd = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  char page[4096] = {};
  for (int i = 0; access(stop.c_str(), F_OK) != 0; ++i) {
    if (pwrite(fd, page, sizeof page, (i % 64) * 4096) < 0) return 1;
    if (i % 16 == 0 && fsync(fd) != 0) return 2;
  }
  return 0;
}

int server_of(const MountedDirectory& mounted) {
  const auto status = control_request(mounted.path(), {{"command", "status"}}, 30000);
  return status ? status->value("server_pid", 0) : 0;
}

TEST(MountLifecycle, AServerThatIsKilledIsReplaced) {
  MountedDirectory mounted;
  TemporaryDirectory outside;
  const std::string stop = outside.path() + "/stop";
  Child writer([&] { return write_until_stopped(mounted.path("file"), stop); });
  ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(mounted.source() + "/file"); }));
  ASSERT_EQ(kill(mounted.pid("server_pid"), SIGKILL), 0);
  write_through(mounted, "other");
  std::ofstream(stop) << "now";
  EXPECT_EQ(writer.wait(), 0);
  EXPECT_NE(server_of(mounted), mounted.pid("server_pid"));
}

// The flusher waits for an answer of the server before the mount is ready. A fifth death in a row
// of the same request would be an error.
TEST(MountLifecycle, AServerThatDiesBeforeTheMountIsReadyIsReplaced) {
  setenv("WALFS_CRASH_POINTS", "read:2,servers:4", 1);
  for (int i = 0; i < 3; ++i) {
    MountedDirectory mounted;
    ASSERT_GT(mounted.pid("server_pid"), 0);
  }
  unsetenv("WALFS_CRASH_POINTS");
}

// The same program stands for the next version.
TEST(MountLifecycle, AnUpgradeIsNotNoticed) {
  MountedDirectory mounted;
  TemporaryDirectory outside;
  const std::string stop = outside.path() + "/stop";
  Child writer([&] { return write_until_stopped(mounted.path("file"), stop); });
  ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(mounted.source() + "/file"); }));
  const std::string binary = outside.path() + "/walfs-next";
  std::filesystem::copy_file(walfs_binary(), binary);
  for (int i = 0; i < 3; ++i) {
    const Output output = run_program({binary, "upgrade", mounted.path()});
    EXPECT_EQ(output.status, 0) << output.text;
  }
  std::ofstream(stop) << "now";
  EXPECT_EQ(writer.wait(), 0);
  // Status may name a flusher that is just being replaced.
  const auto is_next = [&](const char* who) {
    const auto status = control_request(mounted.path(), {{"command", "status"}}, 30000);
    if (!status) return false;
    EXPECT_EQ(status->value("keeper_pid", 0), mounted.pid("keeper_pid"));
    std::error_code gone;
    const std::string link = "/proc/" + std::to_string(status->value(who, 0)) + "/exe";
    return std::filesystem::read_symlink(link, gone) == binary;
  };
  for (const char* who : {"keeper_pid", "server_pid", "flusher_pid"})
    EXPECT_TRUE(wait_until([&] { return is_next(who); })) << who;
}

TEST(MountLifecycle, AnUpgradeOfWhatIsNotMountedSaysSo) {
  TemporaryDirectory outside;
  const Output output = run_program({walfs_binary(), "upgrade", outside.path()});
  EXPECT_EQ(output.status, 1);
  EXPECT_NE(output.text.find(outside.path()), std::string::npos) << output.text;
}

// A server that is stopped is alive, and serves nobody.
TEST(MountLifecycle, AServerThatHangsIsReplaced) {
  MountedDirectory mounted;
  ASSERT_EQ(kill(mounted.pid("server_pid"), SIGSTOP), 0);
  write_through(mounted, "file");
  EXPECT_NE(server_of(mounted), mounted.pid("server_pid"));
}

// Nothing is queued then: the request is lost to those who look at the device.
TEST(MountLifecycle, AServerThatHangsWithTheOnlyRequestIsReplaced) {
  setenv("WALFS_CRASH_POINTS", "read:200,stop", 1);
  MountedDirectory mounted;
  unsetenv("WALFS_CRASH_POINTS");
  const int first = server_of(mounted);
  for (int i = 0; i < 1000 && server_of(mounted) == first; ++i)
    write_through(mounted, "file" + std::to_string(i));
  EXPECT_NE(server_of(mounted), first);
}

TEST(MountLifecycle, KeeperAndServerKilledTogetherLeaveNoProcessAndNoMount) {
  MountedDirectory mounted;
  Child writer([&] { return write_until_error(mounted.path("file")); });
  ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(mounted.source() + "/file"); }));
  ASSERT_EQ(kill(mounted.pid("keeper_pid"), SIGKILL), 0);
  ASSERT_EQ(kill(mounted.pid("server_pid"), SIGKILL), 0);
  EXPECT_EQ(writer.wait(), 0);
  EXPECT_TRUE(all_ended(mounted));
  EXPECT_TRUE(wait_until([&] { return !mount_at(mounted.path()); }));
}

TEST(MountLifecycle, ServesOnWithoutItsKeeperUntilUnmounted) {
  MountedDirectory mounted;
  ASSERT_EQ(kill(mounted.pid("keeper_pid"), SIGKILL), 0);
  ASSERT_TRUE(wait_until([&] { return has_ended(mounted.pid("keeper_pid")); }));
  write_through(mounted, "file");
  const Output status = run_program({walfs_binary(), "status", mounted.path()});
  EXPECT_NE(status.text.find("  reduced     the keeper is gone: "), std::string::npos)
      << status.text;
  Output output = run_program({walfs_binary(), "unmount", mounted.path()});
  EXPECT_EQ(output.status, 0) << output.text;
  EXPECT_TRUE(all_ended(mounted));
  EXPECT_EQ(std::filesystem::file_size(mounted.source() + "/file"), 4u);
  EXPECT_FALSE(std::filesystem::exists(control_socket_path(mounted.path())));
}

// The threads of a killed process end one after the other, and with the last of them its lock.
TEST(MountLifecycle, WaitsForTheLockOfAProcessThatHasEnded) {
  TemporaryDirectory place;
  const std::string source = place.path() + "/source";
  std::filesystem::create_directories(source + "/.walfs");
  const pid_t ended = fork();
  if (ended == 0) _exit(0);
  waitpid(ended, nullptr, 0);
  const std::string path = source + "/.walfs/lock";
  std::ofstream(path) << nlohmann::json{{"pid", ended}, {"host", "here"}, {"mountpoint", "/m"}};
  const int lock = open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(lock, LOCK_EX | LOCK_NB), 0);
  std::thread releases([&] {
    usleep(300'000);
    close(lock);
  });
  MountedDirectory mounted({}, Seconds(120), source, source);
  releases.join();
  write_through(mounted, "file");
}

TEST(MountLifecycle, WhatACrashLeftIsTakenAwayByTheNextMount) {
  MountedDirectory mounted;
  for (const char* who : {"flusher_pid", "keeper_pid", "server_pid"})
    kill(mounted.pid(who), SIGSTOP);
  for (const char* who : {"flusher_pid", "keeper_pid", "server_pid"})
    kill(mounted.pid(who), SIGKILL);
  ASSERT_TRUE(all_ended(mounted));
  ASSERT_TRUE(mount_at(mounted.path())) << "all three died at once: nobody could clean up";
  mounted.mount();
  write_through(mounted, "file");
}

// The kernel gives the number of a mount that is gone to the next one.
TEST(MountLifecycle, EndsAlsoIfAnotherMountGetsItsNumberAtOnce) {
  MountedDirectory mounted;
  const int number = mount_at(mounted.path())->mount_id;
  kill(mounted.pid("keeper_pid"), SIGSTOP);
  ASSERT_EQ(umount2(mounted.path().c_str(), 0), 0);
  TemporaryDirectory place;
  std::vector<std::string> others;
  const bool taken = wait_until([&] {
    others.push_back(place.path() + "/" + std::to_string(others.size()));
    std::filesystem::create_directory(others.back());
    EXPECT_EQ(mount("none", others.back().c_str(), "tmpfs", 0, nullptr), 0);
    return mount_at(others.back())->mount_id == number;
  });
  EXPECT_TRUE(taken);
  EXPECT_TRUE(wait_until([&] { return has_ended(mounted.pid("server_pid")); }));
  kill(mounted.pid("keeper_pid"), SIGCONT);
  EXPECT_TRUE(all_ended(mounted));
  for (const std::string& other : others) umount2(other.c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace walfs::test
