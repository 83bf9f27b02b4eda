// Metrics over HTTP, as a scraper gets them.

#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class MetricsListenTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_THAT(RequirePrograms({"curl"}), IsOk()); }

  void ListenAt(const std::string& address) {
    served_.options().flags = {absl::StrCat("--metrics_listen=", address)};
  }
  Outcome Scrape(const std::string& url) {
    return RunCommand({"curl", "--silent", "--show-error", "--fail",
                       "--max-time", "20", "--unix-socket", Socket(), url});
  }
  std::string Socket() { return served_.directory().File("metrics.sock"); }

  ServedCache served_{{.backing_size = 64 * kMiB}};
};

TEST_F(MetricsListenTest, AUnixSocketServesWhatTheControlTreeHas) {
  ListenAt("unix:" + Socket());
  ASSERT_THAT(served_.Start(), IsOk());
  const Outcome outcome = Scrape("http://localhost/metrics");
  ASSERT_THAT(outcome, Succeeds());
  EXPECT_THAT(outcome.out, HasSubstr("pcachefs_writes_total{image=\"disk\"}"));
  // The same families in the same order; values move.
  const auto families = [](const std::string& text) {
    std::string names;
    size_t at = 0;
    while ((at = text.find("# TYPE", at)) != std::string::npos) {
      names += text.substr(at, text.find('\n', at) - at) + "\n";
      ++at;
    }
    return names;
  };
  EXPECT_EQ(families(outcome.out),
            families(ContentOf(served_.mount() + "/.pcache/metrics")));
  ASSERT_THAT(served_.Stop(), IsOk());
  EXPECT_NE(access(Socket().c_str(), F_OK), 0) << "the socket stayed";
}

TEST_F(MetricsListenTest, ADaemonThatWasKilledIsFollowedByAnother) {
  ListenAt(Socket());
  ASSERT_THAT(served_.Start(), IsOk());
  served_.Kill();
  ASSERT_EQ(access(Socket().c_str(), F_OK), 0);
  ASSERT_THAT(RunCommand({"umount", served_.mount()}), Succeeds());
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(Scrape("http://localhost/metrics"), Succeeds());
}

TEST_F(MetricsListenTest, AnAddressInUseIsAnErrorOfTheStart) {
  ListenAt("unix:" + Socket());
  ASSERT_THAT(RunCommand({"touch", Socket()}), Succeeds());
  EXPECT_THAT(RunCommand(served_.Command()),
              RefusesWith(1, AllOf(HasSubstr("metrics_listen"),
                                   HasSubstr("no socket"))));
  EXPECT_FALSE(IsMounted(served_.mount()));
}

TEST_F(MetricsListenTest, AnAddressForAllIsWrongUsage) {
  ListenAt("0.0.0.0:9723");
  EXPECT_THAT(RunCommand(served_.Command()),
              RefusesWith(2, HasSubstr("without a password")));
}

}  // namespace
}  // namespace pcachefs
