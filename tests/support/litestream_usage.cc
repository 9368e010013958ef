#include "tests/support/litestream_usage.h"

#include <lz4.h>
#include <lz4frame.h>

#include <algorithm>
#include <utility>

namespace walfs::test {
namespace {

constexpr int64_t kMinuteS = 60;
constexpr int64_t kHourS = 3600;
constexpr int64_t kDayS = 24 * kHourS;
constexpr uint64_t kFrameHeaderSize = 24;  // Of a frame in a write-ahead log.
// A page with one row, which Litestream's own table has, compressed; its number is that of no other
// page.
constexpr uint64_t kOwnPageSize = 60;
constexpr uint64_t kOwnPage = UINT64_MAX;

uint64_t lz4_frame_size(ByteView content) {
  Bytes out(LZ4F_compressFrameBound(content.size(), nullptr));
  return LZ4F_compressFrame(out.data(), out.size(), content.data(), content.size(), nullptr);
}

uint64_t requests_for(uint64_t keys) {
  return keys == 0 ? 1 : (keys + 999) / 1000;
}

int64_t in_ns(int64_t second) {
  return second * kNsPerSecond;
}

}  // namespace

uint64_t lz4_block_size(ByteView content) {
  Bytes out(static_cast<size_t>(LZ4_compressBound(static_cast<int>(content.size()))));
  return static_cast<uint64_t>(LZ4_compress_default(
      reinterpret_cast<const char*>(content.data()), reinterpret_cast<char*>(out.data()),
      static_cast<int>(content.size()), static_cast<int>(out.size())));
}

bool LitestreamCheckpoints::is_due(int64_t second, uint64_t pages) {
  constexpr uint64_t kPagesMax = 1000;
  pages_ += pages;
  if (pages == 0 || (second - checkpointed_ < kMinuteS && pages_ < kPagesMax)) return false;
  checkpointed_ = second;
  pages_ = 0;
  return true;
}

LitestreamWal::LitestreamWal(UsageMeter& meter, ReadDatabase database, int64_t second)
    : meter_(meter), database_(std::move(database)) {
  put_snapshot(second);
}

void LitestreamWal::pass(int64_t second, const std::vector<WrittenPage>& pages) {
  if (!pages.empty()) {
    Bytes frames;
    for (const WrittenPage& page : pages) {
      Bytes header(kFrameHeaderSize);  // Its last eight bytes are a checksum.
      for (size_t i = 16; i < header.size(); ++i)
        header[i] = static_cast<uint8_t>((frames.size() * 31 + i * 197) >> 3);
      frames.insert(frames.end(), header.begin(), header.end());
      frames.insert(frames.end(), page.content.begin(), page.content.end());
    }
    put_piece(second, lz4_frame_size(frames));
  }
  if (checkpoints_.is_due(second, pages.size())) put_piece(second, kOwnPageSize);
  if (second % kHourS == 0) look(second);
}

void LitestreamWal::put_piece(int64_t second, uint64_t size) {
  meter_.put(in_ns(second), size);
  pieces_.push_back(size);
}

void LitestreamWal::put_snapshot(int64_t second) {
  snapshot_size_ = lz4_frame_size(database_());
  snapshot_second_ = second;
  meter_.put(in_ns(second), snapshot_size_);
}

void LitestreamWal::look(int64_t second) {
  const bool is_old = second - snapshot_second_ > kDayS;
  const uint64_t old_size = snapshot_size_;
  if (is_old) put_snapshot(second);
  meter_.count_lists(2 + 2 + requests_for(pieces_.size()));
  if (!is_old) return;
  meter_.remove(in_ns(second), old_size);
  for (const uint64_t size : pieces_) meter_.remove(in_ns(second), size);
  meter_.count_deletes(1 + (pieces_.size() + 999) / 1000);
  pieces_.clear();
}

LitestreamLtx::LitestreamLtx(UsageMeter& meter, SizePages database, int64_t second)
    : meter_(meter), database_(std::move(database)) {
  Pages pages;
  for (const uint64_t size : database_()) pages[pages.size() + 1] = size;
  add_transaction(second, pages);
  take_snapshot(second);
}

void LitestreamLtx::pass(int64_t second, const std::vector<WrittenPage>& written) {
  constexpr int64_t kWindows[] = {0, 30, 300, kHourS};
  constexpr int64_t kTrimEvery = 15;
  Pages pages;
  for (const WrittenPage& page : written) pages[page.page] = lz4_block_size(page.content);
  if (!pages.empty()) add_transaction(second, pages);
  if (checkpoints_.is_due(second, written.size()))
    add_transaction(second, {{kOwnPage, kOwnPageSize}});
  if (second % kTrimEvery == 0) trim_level_0(second);
  for (size_t level = 1; level < levels_.size(); ++level)
    if (second % kWindows[level] == 0) compact(level, second);
  if (second % kDayS == 0) take_snapshot(second);
}

// The index has three numbers of variable length for each page.
uint64_t LitestreamLtx::file_size(const Pages& pages) {
  constexpr uint64_t kIndexEntry = 8;
  uint64_t size = 100 + 6 + 9 + 16;
  for (const auto& [page, block] : pages) size += 10 + block + kIndexEntry;
  return size;
}

void LitestreamLtx::put(std::vector<File>& level, File file) {
  file.size = file_size(file.pages);
  meter_.put(in_ns(file.second), file.size);
  level.push_back(std::move(file));
}

void LitestreamLtx::list(const std::vector<File>& level) {
  meter_.count_lists(requests_for(level.size()));
}

void LitestreamLtx::add_transaction(int64_t second, Pages pages) {
  ++last_;
  put(levels_[0], {last_, last_, second, 0, std::move(pages)});
}

void LitestreamLtx::compact(size_t level, int64_t second) {
  std::vector<File>& sources = levels_[level - 1];
  const bool has_made = !levels_[level].empty();
  const uint64_t made = has_made ? levels_[level].back().last : 0;
  if (sources.empty() || (has_made && sources.back().last <= levels_[level].back().first)) return;
  list(sources);
  File file{made + 1, 0, second, 0, {}};
  const auto is_new = [&](const File& source) { return source.first > made; };
  for (auto source = std::find_if(sources.begin(), sources.end(), is_new); source != sources.end();
       ++source) {
    if (level > 1) meter_.count_gets(1);
    for (const auto& [page, block] : std::exchange(source->pages, {})) file.pages[page] = block;
    file.last = source->last;
  }
  if (file.last == 0) return;
  put(levels_[level], std::move(file));
  if (level == 1) trim_level_0(second);
}

template <typename IsOld>
void LitestreamLtx::remove_old(std::vector<File>& level, int64_t second, const IsOld& is_old) {
  list(level);
  uint64_t removed = 0;
  while (level.size() - removed > 1 && is_old(level[removed]))
    meter_.remove(in_ns(second), level[removed++].size);
  level.erase(level.begin(), level.begin() + static_cast<std::ptrdiff_t>(removed));
  meter_.count_deletes((removed + 999) / 1000);
}

void LitestreamLtx::trim_level_0(int64_t second) {
  constexpr int64_t kKeep = 300;
  list(levels_[1]);
  if (levels_[1].empty()) return;
  const uint64_t made = levels_[1].back().last;
  remove_old(levels_[0], second,
             [&](const File& file) { return file.second <= second - kKeep && file.last <= made; });
}

void LitestreamLtx::take_snapshot(int64_t second) {
  if (snapshots_.empty() || snapshots_.back().last < last_) {
    Pages pages;
    for (const uint64_t size : database_()) pages[pages.size() + 1] = size;
    put(snapshots_, {1, last_, second, 0, std::move(pages)});
    snapshots_.back().pages.clear();
  }
  remove_old(snapshots_, second, [&](const File& file) { return file.second <= second - kDayS; });
  const uint64_t oldest = snapshots_.front().last;
  for (size_t level = 1; level < levels_.size(); ++level)
    remove_old(levels_[level], second, [&](const File& file) { return file.last < oldest; });
}

}  // namespace walfs::test
