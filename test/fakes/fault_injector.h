// Decides which calls of a simulated device fail: the n-th of some kinds, or
// those that touch a range. Shared by the simulated devices.

#ifndef PCACHEFS_TEST_FAKES_FAULT_INJECTOR_H_
#define PCACHEFS_TEST_FAKES_FAULT_INJECTOR_H_

#include <cstdint>
#include <limits>
#include <vector>

namespace pcachefs {

// A value; not thread-safe. Kinds of calls are single bits, so that masks name
// several.
class FaultInjector {
 public:
  static constexpr uint64_t kForever = std::numeric_limits<uint64_t>::max();

  // The call number `index` (0 = the next) of those in `kinds` fails, once.
  void FailNth(uint32_t kinds, uint64_t index) {
    rules_.push_back({.kinds = kinds, .skip = index, .times = 1});
  }

  // Every call of `kinds` that touches the range fails, `times` times.
  void FailRange(uint32_t kinds, uint64_t offset, uint64_t length,
                 uint64_t times = kForever) {
    rules_.push_back({kinds, offset, offset + length, 0, times});
  }

  void Clear() { rules_.clear(); }

  // True if a fault was handed out since the last Clear or construction.
  bool fired() const { return fired_; }

  // Counts the call. Calls without a place have length 0 and touch every range.
  bool ShouldFail(uint32_t kind, uint64_t offset, uint64_t length) {
    bool fail = false;
    for (Rule& rule : rules_) {
      if ((rule.kinds & kind) == 0 || rule.times == 0) continue;
      const bool touches =
          length == 0 || (offset < rule.end && rule.begin < offset + length);
      if (!touches) continue;
      if (rule.skip > 0) {
        --rule.skip;
        continue;
      }
      if (rule.times != kForever) --rule.times;
      fail = true;
    }
    fired_ |= fail;
    return fail;
  }

 private:
  struct Rule {
    uint32_t kinds = 0;
    uint64_t begin = 0;
    uint64_t end = std::numeric_limits<uint64_t>::max();
    uint64_t skip = 0;   // calls that still pass
    uint64_t times = 0;  // failures left
  };

  std::vector<Rule> rules_;
  bool fired_ = false;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FAKES_FAULT_INJECTOR_H_
