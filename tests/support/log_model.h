// A directory as the log describes it, in the plainest way: whole files as bytes. What the catalog,
// the plans and restores are compared with. And a maker of random points that lead from state to
// state as a writer's do.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "replicator/change.h"
#include "replicator/hash.h"

namespace walfs::test {

struct ModelFile {
  Attributes attributes;
  uint32_t block_size = 0;  // 0: never had content.
  bool database = false;
  Bytes content;
};

inline std::vector<uint64_t> model_hashes(const ModelFile& file) {
  std::vector<uint64_t> hashes;
  if (file.block_size == 0) return hashes;
  for (size_t at = 0; at < file.content.size(); at += file.block_size) {
    const size_t size = std::min<size_t>(file.block_size, file.content.size() - at);
    hashes.push_back(block_hash(at / file.block_size, ByteView(file.content).subspan(at, size),
                                file.block_size));
  }
  return hashes;
}

inline uint64_t model_checksum(const ModelFile& file) {
  uint64_t sum = 0;
  for (const uint64_t hash : model_hashes(file)) sum += hash;
  return sum;
}

struct Model {
  std::map<FileId, ModelFile> files;
  std::map<std::pair<FileId, std::string>, FileId> entries;

  void apply(const Point& point) {
    for (const Change& change : point.changes) {
      std::visit([this](const auto& one) { apply_one(one); }, change);
    }
  }

 private:
  void apply_one(const SetFile& change) { files[change.id].attributes = change.attributes; }
  void apply_one(const DropFile& change) { files.erase(change.id); }
  void apply_one(const SetEntry& change) {
    if (change.child == kNoFile) {
      entries.erase({change.parent, change.name});
    } else {
      entries[{change.parent, change.name}] = change.child;
    }
  }
  void apply_one(const SetContent& change) {
    ModelFile& file = files[change.id];
    if (change.reset) file.content.clear();
    file.block_size = change.block_size;
    file.database = change.database;
    file.content.resize(change.size);
    for (const BlockChange& block : change.blocks) {
      const auto begin =
          file.content.begin() + static_cast<std::ptrdiff_t>(block.index * change.block_size);
      const uint64_t size = stored_block_size(block.index, change.block_size, change.size);
      std::fill_n(begin, size, uint8_t{0});
      std::copy(block.data.begin(), block.data.end(), begin);
    }
  }
};

// Makes points by chance; owns the bytes that their blocks refer to.
class RandomLog {
 public:
  explicit RandomLog(uint32_t seed) : random_(seed) {
    Attributes root;
    root.type = FileType::kDirectory;
    root.mode = 0755;
    model_.files[kRootId].attributes = root;
  }

  const Model& state() const { return model_; }

  // The next point, without position and time; state() follows it.
  Point next() {
    Point point;
    const size_t count = below(3) + 1;
    for (size_t i = 0; i < count; ++i) {
      Point part;
      step(part);
      model_.apply(part);
      std::move(part.changes.begin(), part.changes.end(), std::back_inserter(point.changes));
    }
    return point;
  }

  size_t below(size_t limit) { return random_() % limit; }

  // The change that makes a file's content what `content` is.
  SetContent difference(FileId id, Bytes content, uint32_t block_size) {
    const ModelFile& old = model_.files[id];
    ModelFile file = old;
    file.content = std::move(content);
    file.block_size = block_size;
    SetContent change;
    change.id = id;
    change.block_size = block_size;
    change.size = file.content.size();
    change.reset = old.block_size != 0 && old.block_size != block_size;
    change.database = below(2) == 0;
    const std::vector<uint64_t> before = change.reset ? std::vector<uint64_t>() : model_hashes(old);
    const std::vector<uint64_t> after = model_hashes(file);
    for (uint64_t i = 0; i < after.size(); ++i) {
      const uint64_t known = i < before.size() ? before[i] : kZeroBlockHash;
      if (after[i] == known && below(10) != 0) continue;
      BlockChange block{i, after[i], {}, 0};
      if (after[i] != kZeroBlockHash) {
        const uint64_t size = stored_block_size(i, block_size, change.size);
        const auto begin =
            file.content.begin() + static_cast<std::ptrdiff_t>(i * uint64_t{block_size});
        buffers_.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(size));
        block.data = buffers_.back();
      }
      change.blocks.push_back(block);
    }
    if (below(4) != 0) change.checksum = model_checksum(file);
    return change;
  }

 private:
  static constexpr uint32_t kBlockSizes[] = {512, 1024, 4096};

  void step(Point& point) {
    const size_t what = below(20);
    if (model_.files.size() < 3 || what < 3) return create(point);
    if (what < 5) return truncate(point);
    if (what == 5) return reset(point);
    if (what == 6) return unlink(point);
    if (what == 7) return rename(point);
    if (what == 8) return hard_link(point);
    if (what == 9) return change_attributes(point);
    write(point);
  }

  template <typename Wanted>
  std::vector<FileId> which(Wanted wanted) const {
    std::vector<FileId> found;
    for (const auto& [id, file] : model_.files) {
      if (wanted(file)) found.push_back(id);
    }
    return found;
  }
  FileId any_directory() {
    const auto found =
        which([](const ModelFile& file) { return file.attributes.type == FileType::kDirectory; });
    return found[below(found.size())];
  }
  FileId any_regular() {
    const auto found =
        which([](const ModelFile& file) { return file.attributes.type == FileType::kRegular; });
    return found.empty() ? kNoFile : found[below(found.size())];
  }
  std::string fresh_name() { return "n" + std::to_string(names_++); }

  void create(Point& point) {
    Attributes attributes;
    const size_t kind = below(8);
    attributes.type = kind == 0   ? FileType::kDirectory
                      : kind == 1 ? FileType::kSymlink
                                  : FileType::kRegular;
    attributes.mode = 0600 + static_cast<uint32_t>(below(64));
    attributes.mtime_ns = static_cast<int64_t>(below(1'000'000'000)) * 1000;
    if (attributes.type == FileType::kSymlink) attributes.symlink_target = "anywhere/else";
    const FileId id = next_id_++;
    point.changes.push_back(SetFile{id, attributes});
    point.changes.push_back(SetEntry{any_directory(), fresh_name(), id});
  }

  void write(Point& point) {
    const FileId id = any_regular();
    if (id == kNoFile) return create(point);
    ModelFile& file = model_.files[id];
    const uint32_t block_size = file.block_size != 0 ? file.block_size : kBlockSizes[below(3)];
    Bytes content = file.content;
    const size_t offset = below(12 * block_size);
    const size_t size = below(4 * block_size) + 1;
    if (content.size() < offset + size) content.resize(offset + size);
    const bool zeros = below(6) == 0;
    for (size_t i = offset; i < offset + size; ++i) {
      content[i] = zeros ? uint8_t{0} : static_cast<uint8_t>(random_() >> 7);
    }
    point.changes.push_back(difference(id, std::move(content), block_size));
  }

  void truncate(Point& point) {
    const FileId id = any_regular();
    if (id == kNoFile) return create(point);
    const ModelFile& file = model_.files[id];
    if (file.block_size == 0) return write(point);
    Bytes content = file.content;
    content.resize(below(14 * file.block_size));
    point.changes.push_back(difference(id, std::move(content), file.block_size));
  }

  void reset(Point& point) {
    const FileId id = any_regular();
    if (id == kNoFile) return create(point);
    point.changes.push_back(difference(id, model_.files[id].content, kBlockSizes[below(3)]));
  }

  void change_attributes(Point& point) {
    auto file = model_.files.begin();
    std::advance(file, static_cast<std::ptrdiff_t>(below(model_.files.size())));
    Attributes attributes = file->second.attributes;
    attributes.mode = 0700 + static_cast<uint32_t>(below(64));
    attributes.mtime_ns += 1000;
    point.changes.push_back(SetFile{file->first, attributes});
  }

  // An entry of something that is no directory; moving those about could make cycles.
  const std::pair<const std::pair<FileId, std::string>, FileId>* any_entry() {
    std::vector<const std::pair<const std::pair<FileId, std::string>, FileId>*> found;
    for (const auto& entry : model_.entries) {
      if (model_.files.at(entry.second).attributes.type != FileType::kDirectory) {
        found.push_back(&entry);
      }
    }
    return found.empty() ? nullptr : found[below(found.size())];
  }

  void unlink(Point& point) {
    const auto* entry = any_entry();
    if (entry == nullptr) return create(point);
    point.changes.push_back(SetEntry{entry->first.first, entry->first.second, kNoFile});
    const auto links = std::count_if(model_.entries.begin(), model_.entries.end(),
                                     [&](const auto& one) { return one.second == entry->second; });
    if (links == 1) point.changes.push_back(DropFile{entry->second});
  }

  void rename(Point& point) {
    const auto* entry = any_entry();
    if (entry == nullptr) return create(point);
    point.changes.push_back(SetEntry{entry->first.first, entry->first.second, kNoFile});
    point.changes.push_back(SetEntry{any_directory(), fresh_name(), entry->second});
  }

  void hard_link(Point& point) {
    const auto* entry = any_entry();
    if (entry == nullptr) return create(point);
    point.changes.push_back(SetEntry{any_directory(), fresh_name(), entry->second});
  }

  std::mt19937 random_;
  Model model_;
  FileId next_id_ = kRootId + 1;
  uint64_t names_ = 0;
  std::deque<Bytes> buffers_;
};

}  // namespace walfs::test
