// A set of numbers as sorted, disjoint intervals: the moments at which a state
// of an image could have been cut off.

#ifndef PCACHEFS_TEST_SIM_INTERVAL_SET_H_
#define PCACHEFS_TEST_SIM_INTERVAL_SET_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace pcachefs {

// A value; not thread-safe.
class IntervalSet {
 public:
  static constexpr uint64_t kEnd = std::numeric_limits<uint64_t>::max();

  // [begin, end); empty if begin >= end.
  struct Interval {
    uint64_t begin = 0;
    uint64_t end = kEnd;

    friend bool operator==(const Interval&, const Interval&) = default;
  };

  IntervalSet() = default;
  explicit IntervalSet(Interval interval) { Add(interval); }

  // May be called in any order of intervals.
  void Add(Interval interval) {
    if (interval.begin >= interval.end) return;
    std::vector<Interval> merged;
    for (const Interval& other : intervals_) {
      if (other.end < interval.begin || interval.end < other.begin) {
        merged.push_back(other);
      } else {
        interval.begin = std::min(interval.begin, other.begin);
        interval.end = std::max(interval.end, other.end);
      }
    }
    size_t place = 0;
    while (place < merged.size() && merged[place].begin < interval.begin) {
      ++place;
    }
    merged.insert(merged.begin() + place, interval);
    intervals_ = std::move(merged);
  }

  // Keeps what is in both.
  void Intersect(const IntervalSet& other) {
    std::vector<Interval> common;
    for (const Interval& mine : intervals_) {
      for (const Interval& theirs : other.intervals_) {
        const Interval both = {std::max(mine.begin, theirs.begin),
                               std::min(mine.end, theirs.end)};
        if (both.begin < both.end) common.push_back(both);
      }
    }
    intervals_ = std::move(common);
  }

  bool empty() const { return intervals_.empty(); }
  const std::vector<Interval>& intervals() const { return intervals_; }
  // Requires: !empty().
  uint64_t first() const { return intervals_.front().begin; }
  uint64_t end() const { return intervals_.back().end; }

 private:
  std::vector<Interval> intervals_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_INTERVAL_SET_H_
