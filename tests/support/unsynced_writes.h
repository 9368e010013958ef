// What was written to files and not synced since: of that a power cut keeps, loses or garbles any
// sector. Names and sizes are durable at once.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <string>

#include "replicator/base/bytes.h"
#include "replicator/base/file_descriptor.h"

namespace walfs::test {

class UnsyncedWrites {
 public:
  static constexpr uint64_t kSector = 512;
  using Read = std::function<Bytes(uint64_t offset, size_t size)>;

  // Before the write is made; `read` reads the file.
  void note(uint64_t inode, uint64_t offset, size_t size, const Read& read) {
    auto& sectors = files_[inode];
    for (uint64_t sector = offset / kSector; sector * kSector < offset + size; ++sector)
      if (!sectors.contains(sector)) sectors[sector] = read(sector * kSector, kSector);
  }
  // Or another file has the inode now.
  void synced(uint64_t inode) { files_.erase(inode); }
  void truncated(uint64_t inode, uint64_t size) {
    auto& sectors = files_[inode];
    sectors.erase(sectors.lower_bound((size + kSector - 1) / kSector), sectors.end());
  }

  // The power fails. How many sectors were lost or garbled.
  size_t strike(const std::string& directory, std::mt19937& random) {
    size_t damaged = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
      struct stat attributes {};
      if (::lstat(entry.path().c_str(), &attributes) != 0 || !S_ISREG(attributes.st_mode)) continue;
      const auto file = files_.find(attributes.st_ino);
      if (file == files_.end()) continue;
      const FileDescriptor fd(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
      for (const auto& [sector, before] : file->second)
        damaged += strike_sector(fd.get(), sector * kSector, before, random) ? 1 : 0;
      files_.erase(file);
    }
    return damaged;
  }

 private:
  static bool strike_sector(int fd, uint64_t offset, Bytes before, std::mt19937& random) {
    Bytes now(kSector);
    const ssize_t size = ::pread(fd, now.data(), now.size(), static_cast<off_t>(offset));
    const uint32_t what = random() % 4;
    if (size <= 0 || what > 1) return false;
    now.resize(static_cast<size_t>(size));
    before.resize(now.size(), 0);
    // Bytes that were written as they had been stay as they are, whatever becomes of the sector.
    for (size_t i = 0; i < now.size(); ++i)
      if (now[i] != before[i]) now[i] = what == 0 ? before[i] : static_cast<uint8_t>(random());
    return ::pwrite(fd, now.data(), now.size(), static_cast<off_t>(offset)) > 0;
  }

  std::map<uint64_t, std::map<uint64_t, Bytes>> files_;  // By inode and sector: what was there.
};

}  // namespace walfs::test
