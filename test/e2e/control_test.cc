// What pcachectl and the control tree tell and set, as the interface fixes it.

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "nlohmann/json.hpp"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::StartsWith;

class ControlTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_THAT(served_.Start(), IsOk()); }

  // "cache_dev" or "backing_dev<ID>".
  std::string Attribute(const std::string& directory, const std::string& name) {
    return absl::StrCat(served_.mount(), "/.pcache/", directory, "/", name);
  }
  std::string ImageDirectory() {
    const auto image = served_.ImageStatus();
    return absl::StrCat("backing_dev",
                        image.ok() ? image->value("id", -1) : -1);
  }
  // Of one write(2): errno or 0.
  int Store(const std::string& path, const std::string& value) {
    int error = 0;
    File file(path, O_WRONLY, &error);
    if (error != 0) return error;
    const ssize_t length = file.Write(0, value);
    return length < 0 ? static_cast<int>(-length) : 0;
  }

  ServedCache served_{{.backing_size = 64 * kMiB}};
};

TEST_F(ControlTest, StatusHasTheKeysThatAreFixed) {
  const auto status = served_.Status();
  ASSERT_THAT(status, IsOk());

  for (const char* key : {"version", "transport", "cache", "images"}) {
    EXPECT_TRUE(status->contains(key)) << key;
  }
  for (const char* key :
       {"path", "uuid", "segment_size", "segments", "segments_used", "state"}) {
    EXPECT_TRUE(status->at("cache").contains(key)) << key;
  }
  const auto& image = status->at("images").at(0);
  for (const char* key :
       {"name", "id", "backing", "size", "mode", "order", "state", "gc_percent",
        "cache_segs", "cache_used_segs", "dirty_bytes", "oldest_dirty_seconds",
        "key_head", "dirty_tail", "key_tail", "read_hits", "read_misses"}) {
    EXPECT_TRUE(image.contains(key)) << key;
  }
}

TEST_F(ControlTest, StatusTellsWhatIs) {
  const auto status = served_.Status();
  ASSERT_THAT(status, IsOk());
  const auto& cache = status->at("cache");
  const auto& image = status->at("images").at(0);

  EXPECT_EQ(cache.value("path", ""), served_.cache());
  EXPECT_EQ(cache.value("state", ""), "running");
  EXPECT_GE(cache.value("segments", 0), 16);
  EXPECT_EQ(image.value("name", ""), "disk");
  EXPECT_EQ(image.value("backing", ""), served_.backing());
  EXPECT_EQ(image.value("size", uint64_t{0}), served_.size());
  EXPECT_EQ(image.value("mode", ""), "writeback");
  EXPECT_EQ(image.value("order", ""), "strict");
  EXPECT_EQ(image.value("state", ""), "running");
  EXPECT_EQ(image.value("gc_percent", 0), 70);
  EXPECT_EQ(image.value("dirty_bytes", uint64_t{1}), 0u);
}

TEST_F(ControlTest, StatusJsonOfTheControlTreeIsTheSame) {
  const auto command = served_.Status();
  ASSERT_THAT(command, IsOk());
  const auto file = nlohmann::json::parse(
      ContentOf(served_.mount() + "/.pcache/status.json"), nullptr, false);

  ASSERT_TRUE(file.is_object());
  EXPECT_EQ(file.at("cache").at("uuid"), command->at("cache").at("uuid"));
  for (const auto& [key, value] : command->at("images").at(0).items()) {
    EXPECT_TRUE(file.at("images").at(0).contains(key)) << key;
  }
}

TEST_F(ControlTest, CountersCountHitsAndMisses) {
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  const auto count = [&](const char* key) {
    const auto image = served_.ImageStatus();
    return image.ok() ? image->value(key, uint64_t{0}) : 0;
  };
  File file(served_.image(), O_RDWR | O_DIRECT);
  Buffer block(4096);

  ASSERT_EQ(file.Read(kMiB, block.span()), kBlock);
  EXPECT_EQ(count("read_misses"), 1u);
  ASSERT_EQ(file.Write(0, block.span()), kBlock);
  const uint64_t hits = count("read_hits");
  ASSERT_EQ(file.Read(0, block.span()), kBlock);
  EXPECT_EQ(count("read_hits"), hits + 1);
}

// Exit code 3: something is dirty; what is not seen in five tries, because
// writeback was faster, is not wrong.
TEST(QuietStatusTest, TellsWhetherDataIsDirty) {
  ServedCache served(
      {.backing_size = 64 * kMiB, .cache_medium = Medium::kMemory});
  ASSERT_THAT(served.Start(), IsOk());
  const auto dirty_bytes = [&] {
    const auto image = served.ImageStatus();
    return image.ok() ? image->value("dirty_bytes", uint64_t{0}) : 0;
  };
  EXPECT_THAT(served.Control("status", {"--quiet"}), Succeeds());

  for (int i = 0; i < 5; ++i) {
    ASSERT_THAT(WritePattern(served.image(), i, 0, served.size()), IsOk());
    const uint64_t before = dirty_bytes();
    const Outcome quiet = served.Control("status", {"--quiet"});
    EXPECT_EQ(quiet.out, "");
    if (before > 0 && dirty_bytes() > 0) {
      EXPECT_THAT(quiet, ExitsWith(3));
      break;
    }
  }

  ASSERT_THAT(served.Control("drain"), Succeeds());
  EXPECT_EQ(dirty_bytes(), 0u);
  EXPECT_THAT(served.Control("status", {"--quiet"}), Succeeds());
}

TEST_F(ControlTest, HumanOutputNamesTheImage) {
  for (const char* verb : {"status", "list", "stats"}) {
    const Outcome outcome = served_.Control(verb);
    EXPECT_THAT(outcome, Succeeds());
    EXPECT_THAT(outcome.out, HasSubstr("disk")) << verb;
  }
}

TEST_F(ControlTest, EveryVerbAnswersInOneJsonObject) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> verbs = {
      {"list", {}},
      {"status", {}},
      {"status", {"disk"}},
      {"flush", {}},
      {"flush", {"disk"}},
      {"drain", {}},
      {"stats", {}},
      {"drain", {"disk"}},
      {"get", {"disk", "gc_percent"}},
      {"set", {"disk", "gc_percent=61"}},
      {"stop", {}},
  };
  for (auto [verb, arguments] : verbs) {
    SCOPED_TRACE(verb);
    arguments.push_back("--json");
    const Outcome outcome = served_.Control(verb, arguments);
    EXPECT_THAT(outcome, Succeeds());
    EXPECT_TRUE(nlohmann::json::parse(outcome.out, nullptr, false).is_object());
  }
}

TEST_F(ControlTest, GcPercentIsKeptOverRestart) {
  ASSERT_THAT(served_.Control("set", {"disk", "gc_percent=40"}), Succeeds());
  EXPECT_THAT(served_.Control("get", {"disk", "gc_percent"}).out,
              HasSubstr("40"));

  ASSERT_THAT(served_.Stop(), IsOk());
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(served_.Control("get", {"disk", "gc_percent"}).out,
              HasSubstr("40"));

  ASSERT_THAT(served_.Control("set", {"disk", "gc_percent=41"}), Succeeds());
  served_.Kill();
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(served_.Control("get", {"disk", "gc_percent"}).out,
              HasSubstr("41"));
}

TEST_F(ControlTest, WrongSettingsAreRefused) {
  for (const char* setting :
       {"gc_percent=91", "gc_percent=-1", "gc_percent=1x",
        "gc_percent=", "gc_percent=4000000000", "no_such_key=1"}) {
    SCOPED_TRACE(setting);
    const Outcome outcome = served_.Control("set", {"disk", setting});
    EXPECT_THAT(outcome,
                AnyOf(RefusesWith(1, testing::_), RefusesWith(2, testing::_)));
  }
  EXPECT_THAT(served_.Control("get", {"disk", "no_such_key"}),
              AnyOf(RefusesWith(1, HasSubstr("no_such_key")),
                    RefusesWith(2, HasSubstr("no_such_key"))));
  EXPECT_THAT(served_.Control("get", {"nodisk", "gc_percent"}),
              RefusesWith(1, HasSubstr("nodisk")));

  EXPECT_THAT(served_.Control("get", {"disk", "gc_percent"}).out,
              HasSubstr("70"));
}

TEST_F(ControlTest, AttributesOfTheCacheDevice) {
  const auto status = served_.Status();
  ASSERT_THAT(status, IsOk());
  const auto& cache = status->at("cache");

  EXPECT_EQ(ContentOf(Attribute("cache_dev", "path")), served_.cache() + "\n");
  EXPECT_EQ(ContentOf(Attribute("cache_dev", "uuid")),
            cache.value("uuid", "") + "\n");
  EXPECT_EQ(ContentOf(Attribute("cache_dev", "segment_size")),
            absl::StrCat(cache.value("segment_size", 0), "\n"));
  EXPECT_EQ(ContentOf(Attribute("cache_dev", "segments")),
            absl::StrCat(cache.value("segments", 0), "\n"));
  EXPECT_EQ(ContentOf(Attribute("cache_dev", "segments_used")),
            absl::StrCat(cache.value("segments_used", 0), "\n"));
  EXPECT_EQ(ContentOf(Attribute("cache_dev", "state")), "running\n");
}

TEST_F(ControlTest, AttributesOfTheImage) {
  const std::string image = ImageDirectory();

  EXPECT_EQ(ContentOf(Attribute(image, "name")), "disk\n");
  EXPECT_EQ(ContentOf(Attribute(image, "path")), served_.backing() + "\n");
  EXPECT_EQ("backing_dev" + ContentOf(Attribute(image, "mapped_id")),
            image + "\n");
  EXPECT_EQ(ContentOf(Attribute(image, "cache_gc_percent")), "70\n");
  EXPECT_EQ(ContentOf(Attribute(image, "cache_mode")), "writeback\n");
  EXPECT_EQ(ContentOf(Attribute(image, "dirty_bytes")), "0\n");
  EXPECT_EQ(ContentOf(Attribute(image, "state")), "running\n");
  EXPECT_NE(ContentOf(Attribute(image, "cache_segs")), "");
  EXPECT_NE(ContentOf(Attribute(image, "cache_used_segs")), "");
}

TEST_F(ControlTest, WritableAttributesTakeWhatIsValidOnly) {
  const std::string image = ImageDirectory();
  const std::string gc_percent = Attribute(image, "cache_gc_percent");

  EXPECT_EQ(Store(gc_percent, "45\n"), 0);
  EXPECT_EQ(ContentOf(gc_percent), "45\n");
  for (const char* value : {"91", "x", "", "-1", "4 5"}) {
    if (*value == '\0') continue;
    EXPECT_EQ(Store(gc_percent, value), EINVAL) << value;
  }
  EXPECT_EQ(Store(Attribute(image, "cache_mode"), "writebak"), EINVAL);
  EXPECT_EQ(Store(Attribute(image, "cache_mode"), "writeback\n"), 0);
  EXPECT_NE(Store(Attribute(image, "dirty_bytes"), "0"), 0);
  EXPECT_EQ(ContentOf(gc_percent), "45\n");
  // As `echo 46 > cache_gc_percent` does.
  EXPECT_THAT(RunCommand({"sh", "-c", "echo 46 > " + gc_percent}), Succeeds());
  EXPECT_EQ(ContentOf(gc_percent), "46\n");
}

TEST_F(ControlTest, ControlFileAnswersOnTheSameDescriptor) {
  const std::string path = served_.mount() + "/.pcache/control";
  const auto ask = [&](const std::string& request) {
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    std::string answer(64 * 1024, '\0');
    ssize_t length = write(fd, request.data(), request.size());
    if (length > 0) length = read(fd, answer.data(), answer.size());
    close(fd);
    answer.resize(length > 0 ? length : 0);
    return nlohmann::json::parse(answer, nullptr, false);
  };

  EXPECT_EQ(ask(R"({"verb":"list"})").value("ok", false), true);
  for (const char* wrong :
       {"{", "[]", "null", R"({"verb":7})", R"({"verb":"no_such_verb"})"}) {
    const nlohmann::json answer = ask(wrong);
    ASSERT_TRUE(answer.is_object()) << wrong;
    EXPECT_EQ(answer.value("ok", true), false) << wrong;
  }
  EXPECT_EQ(ask(R"({"verb":"list"})").value("ok", false), true);
}

TEST_F(ControlTest, MetricsArePrometheusText) {
  const std::string metrics = ContentOf(served_.mount() + "/.pcache/metrics");

  EXPECT_THAT(metrics, HasSubstr("# TYPE pcachefs_"));
  EXPECT_THAT(metrics, HasSubstr("\"disk\""));
}

}  // namespace
}  // namespace pcachefs
