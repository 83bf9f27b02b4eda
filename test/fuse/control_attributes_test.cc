// The attribute files show the values of the status under pcache's names; only
// settings can be written.

#include "fuse/control_attributes.h"

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/fuse/fake_control_target.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

int NumberOf(const std::string& name) {
  const std::vector<std::string> names = ImageAttributeNames();
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return static_cast<int>(i);
  }
  ADD_FAILURE() << "no attribute " << name;
  return 0;
}

TEST(ControlAttributes, NamesAreThoseOfTheContract) {
  EXPECT_THAT(CacheAttributeNames(),
              ElementsAre("path", "uuid", "segment_size", "segments",
                          "segments_used", "state"));
  EXPECT_THAT(
      ImageAttributeNames(),
      ElementsAre("name", "path", "mapped_id", "cache_segs", "cache_used_segs",
                  "cache_gc_percent", "cache_mode", "dirty_bytes", "state"));
}

TEST(ControlAttributes, EachIsALineWithItsValue) {
  FakeControlTarget target;
  const ImageStatus& image = target.status.images[0];
  const std::map<std::string, std::string> expected = {
      {"name", "vm1\n"},         {"path", "/dev/vg0/vm1\n"},
      {"mapped_id", "0\n"},      {"cache_gc_percent", "70\n"},
      {"dirty_bytes", "8192\n"}, {"cache_mode", "writeback\n"},
      {"state", "running\n"}};

  for (const auto& [name, text] : expected) {
    EXPECT_EQ(ImageAttributeText(NumberOf(name), image), text);
  }
  EXPECT_EQ(CacheAttributeText(0, target.status), "/var/cache/fast\n");
  EXPECT_EQ(CacheAttributeText(2, target.status), "16777216\n");
}

TEST(ControlAttributes, SettingsCanBeWritten) {
  FakeControlTarget target;
  const int gc_percent = NumberOf("cache_gc_percent");
  const ImageStatus& image = target.status.images[0];

  EXPECT_TRUE(IsWritableImageAttribute(gc_percent));
  EXPECT_THAT(StoreImageAttribute(gc_percent, target, image, "50\n"), IsOk());
  EXPECT_EQ(target.status.images[0].gc_percent, 50);
  for (const char* bad : {"", "\n", "x", "-1", "91", "5 0"}) {
    EXPECT_THAT(StoreImageAttribute(gc_percent, target, image, bad),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(ControlAttributes, AModeThatTakesLongIsNotWaitedForForEver) {
  FakeControlTarget target;
  const int mode = NumberOf("cache_mode");
  const ImageStatus& image = target.status.images[0];

  EXPECT_THAT(
      StoreImageAttribute(mode, target, image, "passthrough\n"),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("read-only")));
  // The target never ends this one.
  EXPECT_THAT(StoreImageAttribute(mode, target, image, "writethrough\n"),
              IsOk());
  EXPECT_EQ(target.calls.back(), "mode vm1 writethrough");
  EXPECT_THAT(StoreImageAttribute(mode, target, image, "fast"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ControlAttributes, TheOthersAreReadOnly) {
  FakeControlTarget target;
  EXPECT_FALSE(IsWritableImageAttribute(NumberOf("name")));
  EXPECT_THAT(StoreImageAttribute(NumberOf("name"), target,
                                  target.status.images[0], "vm9"),
              StatusIs(absl::StatusCode::kPermissionDenied));
}

}  // namespace
}  // namespace pcachefs
