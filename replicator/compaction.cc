#include "replicator/compaction.h"

namespace walfs {
namespace {

// What may become one segment of a level, as it grows piece by piece.
class Run {
 public:
  // Of pieces below `size_enough` that came in windows before the one of `before_ns`.
  Run(unsigned level, int64_t window_ns, int64_t before_ns, uint64_t size_enough, uint64_t size_max,
      const std::set<Position>& borders)
      : level_(level),
        window_ns_(window_ns),
        before_ns_(before_ns),
        size_enough_(size_enough),
        size_max_(size_max),
        borders_(borders) {}

  bool can_take(const LogPiece& piece) const {
    if (piece.segment.level >= level_ || piece.segment.size >= size_enough_ ||
        window_of(piece.came_ns) >= window_of(before_ns_))
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
  int64_t window_of(int64_t time_ns) const {
    return time_ns / window_ns_ - (time_ns % window_ns_ < 0 ? 1 : 0);
  }

  const unsigned level_;
  const int64_t window_ns_;
  const int64_t before_ns_;
  const uint64_t size_enough_;
  const uint64_t size_max_;
  const std::set<Position>& borders_;
  std::vector<LogPiece> pieces_;
  uint64_t size_ = 0;
};

// The first run that is enough, of the longest ones that are possible.
template <typename IsEnough>
std::optional<Compaction> first_run(Run run, unsigned level, const std::vector<LogPiece>& pieces,
                                    const IsEnough& is_enough) {
  for (const LogPiece& piece : pieces) {
    if (!run.can_take(piece)) {
      if (is_enough(run.pieces())) return Compaction{level, run.pieces()};
      run.clear();
    }
    if (run.can_take(piece)) run.take(piece);
  }
  if (is_enough(run.pieces())) return Compaction{level, run.pieces()};
  return std::nullopt;
}

}  // namespace

// From the highest level down: what is that old already needs no steps in between.
std::optional<Compaction> plan_compaction(const std::vector<LogPiece>& pieces,
                                          const std::set<Position>& borders,
                                          const CompactionPolicy& policy, int64_t now_ns) {
  for (auto level = static_cast<unsigned>(policy.levels.size()); level > 0; --level) {
    const auto& [window_ns, count_min] = policy.levels[level - 1];
    auto due = first_run(
        Run(level, window_ns, now_ns, policy.size_enough, policy.size_max, borders), level, pieces,
        [count = count_min](const std::vector<LogPiece>& run) { return run.size() >= count; });
    if (due) return due;
  }
  return std::nullopt;
}

// The window in which the last piece came has to have ended so long ago.
std::optional<Compaction> plan_thinning(const std::vector<LogPiece>& pieces,
                                        const std::set<Position>& borders,
                                        const CompactionPolicy& policy, int64_t now_ns) {
  if (policy.thin_after_ns == 0) return std::nullopt;
  const unsigned level = policy.thinned_level();
  const auto has_several_points = [now_ns](const std::vector<LogPiece>& run) {
    return !run.empty() && run.back().thin_from_ns <= now_ns &&
           run.front().segment.range.first != run.back().segment.range.last;
  };
  return first_run(Run(level, policy.thin_window_ns, now_ns - policy.thin_after_ns, UINT64_MAX,
                       policy.size_max, borders),
                   level, pieces, has_several_points);
}

}  // namespace walfs
