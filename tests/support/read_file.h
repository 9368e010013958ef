// The whole of a file at once: the iterators of a stream take most of a test's time when nothing is
// optimised.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

namespace walfs::test {

// Empty if there is no such file.
template <typename Container>
Container read_file_as(const std::filesystem::path& path) {
  std::error_code missing;
  const auto size = std::filesystem::file_size(path, missing);
  Container content(missing ? 0 : size, 0);
  std::ifstream in(path, std::ios::binary);
  in.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<size_t>(in.gcount()));
  return content;
}

}  // namespace walfs::test
