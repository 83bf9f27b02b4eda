// The dashboard and the alert rules speak of metrics that there are.

#include <cstdlib>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/status.h"
#include "fuse/metrics_text.h"
#include "fuse/server_facts.h"
#include "fuse/status_json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pcachefs {
namespace {

constexpr char kDirectory[] = "tools/dist/monitoring/";

std::string ContentOf(const std::string& name) {
  std::ifstream stream(kDirectory + name);
  std::ostringstream text;
  text << stream.rdbuf();
  EXPECT_FALSE(text.str().empty()) << name;
  return text.str();
}

std::string Metrics() {
  CacheStatus status;
  status.images.resize(1);
  status.images[0].name = "vm1";
  return MetricsText(status, ServerFacts());
}

std::set<std::string> NamesIn(const std::string& text) {
  static const std::regex pattern("pcachefs_[a-z_]+");
  return {std::sregex_token_iterator(text.begin(), text.end(), pattern),
          std::sregex_token_iterator()};
}

void ExpectKnown(const std::string& file) {
  const std::set<std::string> known = NamesIn(Metrics());
  const std::set<std::string> used = NamesIn(ContentOf(file));
  EXPECT_GT(used.size(), 4u) << file;
  for (const std::string& name : used) {
    EXPECT_TRUE(known.count(name) > 0) << file << ": " << name;
  }
}

TEST(Monitoring, TheDashboardUsesMetricsThatThereAre) {
  EXPECT_TRUE(Json::accept(ContentOf("dashboard.json")));
  ExpectKnown("dashboard.json");
}

TEST(Monitoring, TheAlertsUseMetricsAndStatesThatThereAre) {
  ExpectKnown("alerts.yml");
  static const std::regex pattern("state=~?\"([a-z_|]+)\"");
  const std::string rules = ContentOf("alerts.yml");
  const std::string metrics = Metrics();
  int count = 0;
  for (std::sregex_iterator it(rules.begin(), rules.end(), pattern), end;
       it != end; ++it, ++count) {
    std::stringstream states((*it)[1].str());
    for (std::string state; std::getline(states, state, '|');) {
      EXPECT_NE(metrics.find(absl::StrCat("state=\"", state, "\"")),
                std::string::npos)
          << state;
    }
  }
  EXPECT_GE(count, 3);
}

// tools/setup names one; else one that is installed.
std::string Promtool() {
  const char* const named = getenv("PROMTOOL");
  return named != nullptr ? named : "promtool";
}

TEST(Monitoring, PromtoolAgrees) {
  const std::string promtool = Promtool();
  if (system(absl::StrCat("command -v ", promtool, " >/dev/null").c_str()) !=
      0) {
    GTEST_SKIP() << promtool << ": not found (Debian: prometheus)";
  }
  EXPECT_EQ(system(absl::StrCat("cd ", kDirectory, " && ", promtool,
                                " check rules alerts.yml && ", promtool,
                                " test rules alerts_test.yml && ", promtool,
                                " check config --syntax-only prometheus.yml")
                       .c_str()),
            0);
  std::ofstream(absl::StrCat(getenv("TEST_TMPDIR"), "/metrics")) << Metrics();
  EXPECT_EQ(system(absl::StrCat(promtool,
                                " check metrics < $TEST_TMPDIR/metrics")
                       .c_str()),
            0);
}

}  // namespace
}  // namespace pcachefs
