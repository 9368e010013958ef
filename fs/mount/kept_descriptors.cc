#include "fs/mount/kept_descriptors.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

namespace walfs {
namespace {

union ControlRoom {
  char bytes[CMSG_SPACE(sizeof(int))];
  cmsghdr align;
};

msghdr message_of(iovec& data, ControlRoom& room, bool with_descriptor) {
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!with_descriptor) return message;
  message.msg_control = room.bytes;
  message.msg_controllen = sizeof room.bytes;
  return message;
}

void send_number(int channel, uint32_t number, int fd) {
  if (channel < 0) return;
  iovec data = {&number, sizeof number};
  ControlRoom room = {};
  msghdr message = message_of(data, room, fd >= 0);
  if (fd >= 0) {
    cmsghdr* control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(control), &fd, sizeof fd);
  }
  // ETOOMANYREFS: too many are on their way; the keeper takes them.
  while (sendmsg(channel, &message, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR && errno != ETOOMANYREFS) return;
    poll(nullptr, 0, 1);
  }
}

}  // namespace

void keep_descriptor(int channel, uint32_t number, int fd) {
  send_number(channel, number, fd);
}

void drop_descriptor(int channel, uint32_t number) {
  send_number(channel, number, -1);
}

void receive_descriptors(int channel) {
  while (true) {
    uint32_t number = 0;
    iovec data = {&number, sizeof number};
    ControlRoom room = {};
    msghdr message = message_of(data, room, true);
    const ssize_t size = recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size < 0 && errno == EINTR) continue;
    if (size != sizeof number) return;
    const int kept = kKeptDescriptorBase + static_cast<int>(number);
    const cmsghdr* control = CMSG_FIRSTHDR(&message);
    if (control == nullptr) {
      close(kept);
      continue;
    }
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(control), sizeof fd);
    // Without CLOEXEC: the next server inherits it.
    static bool told = false;
    if (dup2(fd, kept) < 0 && !std::exchange(told, true)) {
      spdlog::error(
          "more inodes are in use than the system allows open files: those would not "
          "outlive the server ({})",
          std::strerror(errno));
    }
    close(fd);
  }
}

void close_unwanted_descriptors(bool (*wanted)(void*, uint32_t), void* context) {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return;
  std::vector<int> unwanted;
  while (const dirent* entry = readdir(directory)) {
    const long fd = std::strtol(entry->d_name, nullptr, 10);
    if (fd < kKeptDescriptorBase || fd == dirfd(directory)) continue;
    if (!wanted(context, static_cast<uint32_t>(fd - kKeptDescriptorBase)))
      unwanted.push_back(static_cast<int>(fd));
  }
  closedir(directory);
  for (const int fd : unwanted) close(fd);
}

}  // namespace walfs
