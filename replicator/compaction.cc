#include "replicator/compaction.h"

namespace walfs {
namespace {

// What may be put together at one level, as it grows piece by piece.
class Run {
 public:
  Run(unsigned level, const CompactionPolicy& policy, const std::set<Position>& borders,
      int64_t now_ns)
      : level_(level),
        window_ns_(policy.levels[level - 1].window_ns),
        size_max_(policy.size_max),
        borders_(borders),
        now_ns_(now_ns) {}

  bool can_take(const LogPiece& piece) const {
    if (piece.segment.level >= level_ || window_of(piece.came_ns) >= window_of(now_ns_))
      return false;
    if (pieces_.empty()) return true;
    const LogPiece& before = pieces_.back();
    const Position end = before.segment.range.last;
    return piece.segment.range.first == end.next() && !borders_.contains(end) &&
           window_of(piece.came_ns) == window_of(before.came_ns) &&
           size_ + piece.segment.size <= size_max_;
  }
  void take(const LogPiece& piece) {
    pieces_.push_back(piece);
    size_ += piece.segment.size;
  }
  void clear() {
    pieces_.clear();
    size_ = 0;
  }
  const std::vector<LogPiece>& pieces() const { return pieces_; }

 private:
  int64_t window_of(int64_t time_ns) const { return time_ns / window_ns_; }

  const unsigned level_;
  const int64_t window_ns_;
  const uint64_t size_max_;
  const std::set<Position>& borders_;
  const int64_t now_ns_;
  std::vector<LogPiece> pieces_;
  uint64_t size_ = 0;
};

std::optional<Compaction> plan_level(unsigned level, const std::vector<LogPiece>& pieces,
                                     const std::set<Position>& borders,
                                     const CompactionPolicy& policy, int64_t now_ns) {
  const size_t count_min = policy.levels[level - 1].count_min;
  Run run(level, policy, borders, now_ns);
  for (const LogPiece& piece : pieces) {
    if (!run.can_take(piece)) {
      if (run.pieces().size() >= count_min) return Compaction{level, run.pieces()};
      run.clear();
    }
    if (run.can_take(piece)) run.take(piece);
  }
  if (run.pieces().size() >= count_min) return Compaction{level, run.pieces()};
  return std::nullopt;
}

}  // namespace

// From the highest level down: what is that old already needs no steps in between.
std::optional<Compaction> plan_compaction(const std::vector<LogPiece>& pieces,
                                          const std::set<Position>& borders,
                                          const CompactionPolicy& policy, int64_t now_ns) {
  for (auto level = static_cast<unsigned>(policy.levels.size()); level > 0; --level) {
    if (auto due = plan_level(level, pieces, borders, policy, now_ns)) return due;
  }
  return std::nullopt;
}

}  // namespace walfs
