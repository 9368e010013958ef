// A directory for one test, removed with all that is in it; files in it as bytes.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "replicator/base/bytes.h"
#include "tests/support/read_file.h"

namespace walfs::test {

class ScratchDirectory {
 public:
  ScratchDirectory() : ScratchDirectory(std::filesystem::temp_directory_path().string()) {}
  explicit ScratchDirectory(const std::string& parent) {
    path_ = parent + "/walfs-unit-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  std::string make(const std::string& name) const {
    std::filesystem::create_directory(path(name));
    return path(name);
  }

 private:
  std::string path_;
};

inline Bytes read_whole(const std::string& path) {
  return read_file_as<Bytes>(path);
}

inline void write_whole(const std::string& path, ByteView bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

}  // namespace walfs::test
