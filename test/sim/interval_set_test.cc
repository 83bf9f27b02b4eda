#include "test/sim/interval_set.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using Interval = IntervalSet::Interval;

TEST(IntervalSet, AddMergesWhatTouches) {
  IntervalSet set;
  set.Add({10, 20});
  set.Add({30, 40});
  set.Add({5, 5});
  EXPECT_THAT(set.intervals(), ElementsAre(Interval{10, 20}, Interval{30, 40}));
  set.Add({20, 30});
  EXPECT_THAT(set.intervals(), ElementsAre(Interval{10, 40}));
  set.Add({0, 2});
  EXPECT_THAT(set.intervals(), ElementsAre(Interval{0, 2}, Interval{10, 40}));
}

TEST(IntervalSet, IntersectKeepsWhatIsInBoth) {
  IntervalSet set({10, 20});
  set.Add({30, 40});
  IntervalSet other({15, 35});
  other.Add({39, 50});

  set.Intersect(other);

  EXPECT_THAT(set.intervals(), ElementsAre(Interval{15, 20}, Interval{30, 35},
                                           Interval{39, 40}));
  set.Intersect(IntervalSet({20, 30}));
  EXPECT_TRUE(set.empty());
}

}  // namespace
}  // namespace pcachefs
