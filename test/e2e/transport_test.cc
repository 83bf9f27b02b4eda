// Both ways that requests take from the kernel to the daemon serve the same;
// status names the one in use. The kernel's switch for io_uring is put back.

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/scratch_directory.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

constexpr char kSwitch[] = "/sys/module/fuse/parameters/enable_uring";

void ExpectServes(ServedCache& served, const std::string& transport) {
  const auto status = served.Status();
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(status->value("transport", ""), transport);

  ASSERT_THAT(WritePattern(served.image(), 1, 0, served.size()), IsOk());
  EXPECT_THAT(CheckPattern(served.image(), 1, 0, served.size()), IsOk());
  served.Kill();
  ASSERT_THAT(served.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served.image(), 1, 0, served.size()), IsOk());
  ASSERT_THAT(served.Control("drain"), Succeeds());
  ASSERT_THAT(served.Stop(), IsOk());
  EXPECT_THAT(CheckPattern(served.backing(), 1, 0, served.size()), IsOk());
}

TEST(TransportTest, DevFuse) {
  ServedCache served(
      {.backing_size = 64 * kMiB, .flags = {"--transport=dev_fuse"}});
  ASSERT_THAT(served.Start(), IsOk());

  ExpectServes(served, "dev_fuse");
}

TEST(TransportTest, IoUring) {
  const ScopedSetting enabled(kSwitch, "Y");
  ServedCache served(
      {.backing_size = 64 * kMiB, .flags = {"--transport=io_uring"}});
  // Only the kernel, or a libfuse that has it not, is an excuse.
  const absl::Status started = served.Start();
  if (!enabled.is_set()) {
    EXPECT_THAT(RunCommand(served.Command()),
                RefusesWith(1, HasSubstr("kernel")));
    return;
  }
  if (!started.ok()) {
    EXPECT_THAT(RunCommand(served.Command()),
                RefusesWith(1, HasSubstr("libfuse")));
    return;
  }

  ExpectServes(served, "io_uring");
}

TEST(TransportTest, IoUringThatIsSwitchedOffIsRefusedWithTheCure) {
  const ScopedSetting disabled(kSwitch, "N");
  ServedCache served(
      {.backing_size = 64 * kMiB, .flags = {"--transport=io_uring"}});

  EXPECT_THAT(RunCommand(served.Command()),
              RefusesWith(1, AnyOf(HasSubstr(kSwitch), HasSubstr("libfuse"),
                                   HasSubstr("kernel"))));
  EXPECT_FALSE(IsMounted(served.mount()));
}

TEST(TransportTest, AutoServesWithIoUringSwitchedOff) {
  const ScopedSetting disabled(kSwitch, "N");
  ServedCache served(
      {.backing_size = 64 * kMiB, .flags = {"--transport=auto"}});
  ASSERT_THAT(served.Start(), IsOk());

  ExpectServes(served, "dev_fuse");
}

}  // namespace
}  // namespace pcachefs
