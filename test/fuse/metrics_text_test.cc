// The metrics obey Prometheus' text format and naming: every sample belongs to
// a family that was declared once, counters end in _total, labels are escaped.

#include "fuse/metrics_text.h"

#include <set>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/fuse/fake_control_target.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;

TEST(MetricsText, HasSamplesPerImage) {
  FakeControlTarget target;
  const std::string text = MetricsText(target.status, target.facts);

  EXPECT_THAT(text, HasSubstr("pcachefs_image_dirty_bytes{image=\"vm1\"} "
                              "8192\n"));
  EXPECT_THAT(text, HasSubstr("pcachefs_reads_total{image=\"vm1\"} 11\n"));
  EXPECT_THAT(text, HasSubstr("pcachefs_reads_total{image=\"vm2\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("pcachefs_image_state{image=\"vm2\",state="
                              "\"degraded\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("pcachefs_cache_segments 640\n"));
}

TEST(MetricsText, EverySampleFollowsItsOwnDeclaration) {
  FakeControlTarget target;
  std::istringstream lines(MetricsText(target.status, target.facts));

  std::set<std::string> declared;
  std::string family;
  std::string type;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash, keyword, name;
    if (line.starts_with("# TYPE ")) {
      words >> hash >> keyword >> name >> type;
      EXPECT_EQ(name, family);
      EXPECT_EQ(type == "counter", name.ends_with("_total")) << name;
    } else if (line.starts_with("# HELP ")) {
      words >> hash >> keyword >> family;
      EXPECT_TRUE(family.starts_with("pcachefs_")) << family;
      EXPECT_TRUE(declared.insert(family).second) << family;
    } else {
      std::string sample = line.substr(0, line.find_first_of("{ "));
      if (type == "histogram") {
        EXPECT_TRUE(sample == family + "_bucket" || sample == family + "_sum" ||
                    sample == family + "_count")
            << line;
        continue;
      }
      EXPECT_EQ(sample, family) << line;
    }
  }
  EXPECT_GT(declared.size(), 20u);
}

TEST(MetricsText, HistogramsAreCumulative) {
  FakeControlTarget target;
  ImageStatus::Latency& hits = target.status.images[0].latencies.read_hit;
  hits.counts[0] = 3;
  hits.counts[2] = 4;
  hits.counts[ImageStatus::Latency::kBuckets - 1] = 1;
  hits.sum_seconds = 20.5;

  const std::string text = MetricsText(target.status, target.facts);

  const std::string name = "pcachefs_request_duration_seconds";
  const std::string labels = "{image=\"vm1\",operation=\"read_hit\"";
  EXPECT_THAT(text, HasSubstr("# TYPE " + name + " histogram\n"));
  EXPECT_THAT(text, HasSubstr(name + "_bucket" + labels + ",le=\"1e-06\"} 3\n" +
                              name + "_bucket" + labels +
                              ",le=\"2e-06\"} 3\n" + name + "_bucket" +
                              labels + ",le=\"4e-06\"} 7\n"));
  EXPECT_THAT(text, HasSubstr(name + "_bucket" + labels + ",le=\"+Inf\"} 8\n" +
                              name + "_sum" + labels + "} 20.5\n" + name +
                              "_count" + labels + "} 8\n"));
}

TEST(MetricsText, LabelsAreEscaped) {
  EXPECT_EQ(EscapeLabel("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
}

}  // namespace
}  // namespace pcachefs
