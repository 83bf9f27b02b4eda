// format, check and dump on a cache that no daemon serves: what they say, with
// which exit code, and that looking changes nothing.

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <cstdint>
#include <string>

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

constexpr uint64_t kData = 8 * kMiB;

class OfflineToolsTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(served_.Start(), IsOk());
    ASSERT_THAT(WritePattern(served_.image(), 1, 0, kData), IsOk());
    ASSERT_THAT(served_.Stop(), IsOk());
  }

  Outcome Tool(const std::string& verb,
               const std::vector<std::string>& options = {}) {
    std::vector<std::string> command = {PcachectlPath(), verb, served_.cache()};
    command.insert(command.end(), options.begin(), options.end());
    return RunCommand(command);
  }

  void Flip(uint64_t offset) {
    File cache(served_.cache(), O_RDWR);
    char byte;
    ASSERT_EQ(cache.Read(offset, absl::MakeSpan(&byte, 1)), 1);
    byte ^= 0x10;
    ASSERT_EQ(cache.Write(offset, absl::MakeConstSpan(&byte, 1)), 1);
  }

  // Where on the cache device the block at `offset` of the image is.
  uint64_t FindPayload(uint64_t offset) {
    Buffer wanted(4096);
    FillPattern(wanted.span(), 1, offset);
    File cache(served_.cache(), O_RDONLY);
    Buffer block(4096);
    for (uint64_t at = 0;; at += block.size()) {
      if (cache.Read(at, block.span()) != kBlock) return 0;
      if (memcmp(block.data(), wanted.data(), block.size()) == 0) return at;
    }
  }

  ServedCache served_{{.backing_size = 64 * kMiB, .cache_size = "64M"}};
};

TEST_F(OfflineToolsTest, CheckOfASoundCacheChangesNothing) {
  const uint64_t before = HashOfFile(served_.cache());

  EXPECT_THAT(Tool("check"), Succeeds());
  const Outcome json = Tool("check", {"--json"});
  EXPECT_THAT(json, Succeeds());
  EXPECT_TRUE(nlohmann::json::parse(json.out, nullptr, false).is_object());

  EXPECT_EQ(HashOfFile(served_.cache()), before);
}

TEST_F(OfflineToolsTest, CheckAfterACrashIsSound) {
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(WritePattern(served_.image(), 2, 0, kData), IsOk());
  served_.Kill();

  EXPECT_THAT(Tool("check"), Succeeds());
}

// One copy may be torn by a power cut, so it alone is no damage; it is told.
TEST_F(OfflineToolsTest, CheckTellsOfADamagedSuperblockCopy) {
  Flip(56);

  const Outcome outcome = Tool("check");

  EXPECT_THAT(outcome, AnyOf(ExitsWith(0), ExitsWith(4)));
  EXPECT_THAT(outcome.out + outcome.err, HasSubstr("superblock"));
}

TEST_F(OfflineToolsTest, CheckFindsBothSuperblocksDamaged) {
  Flip(56);
  Flip(4096 + 56);

  EXPECT_THAT(Tool("check"), ExitsWith(4));
}

TEST_F(OfflineToolsTest, CheckFindsADamagedImageRecord) {
  // The record of the first image, both slots: docs/on_media_format.md.
  Flip(16384 + 40);
  Flip(16384 + 4096 + 40);

  EXPECT_THAT(Tool("check"), ExitsWith(4));
}

TEST_F(OfflineToolsTest, RepairMakesACopyAnewAndCanBeTakenBack) {
  const std::string undo = served_.cache() + ".undo";
  Flip(56);
  const uint64_t damaged = HashOfFile(served_.cache());

  const Outcome planned = Tool("repair", {"--dry_run"});
  EXPECT_THAT(planned, ExitsWith(4));
  EXPECT_THAT(planned.out, HasSubstr("superblock"));
  EXPECT_EQ(HashOfFile(served_.cache()), damaged);

  EXPECT_THAT(Tool("repair", {"--undo=" + undo}), Succeeds());
  EXPECT_THAT(Tool("check"), Succeeds());
  EXPECT_THAT(Tool("repair"), Succeeds());  // nothing to do

  EXPECT_THAT(Tool("repair", {"--restore=" + undo}), Succeeds());
  EXPECT_EQ(HashOfFile(served_.cache()), damaged);
  EXPECT_THAT(Tool("repair", {"--undo=" + undo}), ExitsWith(8));  // it exists
  unlink(undo.c_str());
  EXPECT_THAT(Tool("repair", {"--undo=" + undo}), Succeeds());
  unlink(undo.c_str());

  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 1, 0, kData), IsOk());
}

TEST_F(OfflineToolsTest, RepairGivesUpNothingUnlessItIsTold) {
  Flip(16384 + 40);
  Flip(16384 + 4096 + 40);
  const std::string undo = served_.cache() + ".undo";
  const uint64_t damaged = HashOfFile(served_.cache());

  const Outcome refused = Tool("repair", {"--undo=" + undo});
  EXPECT_THAT(refused, ExitsWith(4));
  EXPECT_THAT(refused.out, HasSubstr("--force"));
  EXPECT_EQ(HashOfFile(served_.cache()), damaged);

  EXPECT_THAT(Tool("repair", {"--force", "--undo=" + undo, "--json"}),
              Succeeds());
  unlink(undo.c_str());
  EXPECT_THAT(Tool("check"), Succeeds());
}

TEST_F(OfflineToolsTest, DamagedPayloadIsFoundAndNeverServed) {
  const uint64_t place = FindPayload(4 * kMiB);
  ASSERT_NE(place, 0u);
  Flip(place + 1000);

  EXPECT_THAT(Tool("check"), ExitsWith(4));
  // It was stopped in good order, so its log says that this was durable once.
  ASSERT_THAT(served_.Start(), IsOk());
  File image(served_.image(), O_RDONLY | O_DIRECT);
  Buffer block(4096);
  const ssize_t length = image.Read(4 * kMiB, block.span());
  if (length == kBlock) {
    // Written back before it was damaged.
    EXPECT_TRUE(HasPattern(block.span(), 1, 4 * kMiB));
  } else {
    EXPECT_EQ(length, -EIO);
  }
  EXPECT_THAT(CheckPattern(served_.image(), 1, 0, 2 * kMiB), IsOk());
}

TEST_F(OfflineToolsTest, CheckThatCannotRunSaysSo) {
  const std::string missing = served_.directory().File("missing");
  const std::string foreign = served_.directory().File("foreign");
  MakeFile(foreign, 64 * kMiB);

  EXPECT_THAT(RunCommand({PcachectlPath(), "check", missing}),
              RefusesWith(8, HasSubstr(missing)));
  EXPECT_THAT(RunCommand({PcachectlPath(), "check", foreign}),
              RefusesWith(8, HasSubstr(foreign)));
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(Tool("check"), RefusesWith(8, HasSubstr("in use")));
}

TEST_F(OfflineToolsTest, DumpShowsImagesAndKeys) {
  const uint64_t before = HashOfFile(served_.cache());

  const Outcome dump = Tool("dump");
  EXPECT_THAT(dump, Succeeds());
  EXPECT_THAT(dump.out, HasSubstr("disk"));
  const Outcome keys = Tool("dump", {"--keys"});
  EXPECT_THAT(keys, Succeeds());
  EXPECT_GT(keys.out.size(), dump.out.size());
  const Outcome json = Tool("dump", {"--json"});
  EXPECT_THAT(json, Succeeds());
  EXPECT_TRUE(nlohmann::json::parse(json.out, nullptr, false).is_object());

  EXPECT_EQ(HashOfFile(served_.cache()), before);
}

TEST_F(OfflineToolsTest, FormatAsksBeforeItDestroys) {
  const uint64_t before = HashOfFile(served_.cache());

  EXPECT_THAT(Tool("format"), RefusesWith(1, HasSubstr("--force")));
  EXPECT_EQ(HashOfFile(served_.cache()), before);

  EXPECT_THAT(Tool("format", {"--force"}), Succeeds());
  EXPECT_THAT(Tool("check"), Succeeds());
  ASSERT_THAT(served_.Control("drain"), ExitsWith(1));
}

TEST(FormatTest, MakesACacheThatIsServed) {
  ServedCache served({.backing_size = 64 * kMiB});

  ASSERT_THAT(RunCommand({PcachectlPath(), "format", served.cache(),
                          "--size=64M", "--segment_size=2M"}),
              Succeeds());

  ASSERT_THAT(served.Start(), IsOk());
  const auto status = served.Status();
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(status->at("cache").value("segment_size", 0), 2 << 20);
  ASSERT_THAT(WritePattern(served.image(), 1, 0, kData), IsOk());
  EXPECT_THAT(CheckPattern(served.image(), 1, 0, kData), IsOk());
  EXPECT_THAT(served.Stop(), IsOk());
}

TEST(FormatTest, ForeignContentIsNotOverwritten) {
  ServedCache served({.backing_size = 64 * kMiB});
  ASSERT_THAT(WritePattern(served.backing(), 3, 0, kMiB), IsOk());

  EXPECT_THAT(RunCommand({PcachectlPath(), "format", served.backing()}),
              RefusesWith(1, HasSubstr("--force")));

  EXPECT_THAT(CheckPattern(served.backing(), 3, 0, kMiB), IsOk());
}

}  // namespace
}  // namespace pcachefs
