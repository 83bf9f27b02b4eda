// Proves that an undo log gives back what it was given, and nothing else.

#include "tools/undo_log.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/repair.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

class UndoLogTest : public testing::Test {
 protected:
  void SetUp() override {
    cache_.bytes[0] = 7;
    stores_ = {{MediaOffset(4096), std::vector<std::byte>(512, std::byte{1})},
               {MediaOffset(1 << 20), std::vector<std::byte>(3, std::byte{2})}};
  }
  void TearDown() override { unlink(path_.c_str()); }

  std::string Content() {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void SetContent(const std::string& content) {
    std::ofstream(path_, std::ios::binary) << content;
  }

  const std::string path_ = testing::TempDir() + "/undo_log_test.undo";
  Uuid cache_;
  std::vector<RepairStep::Store> stores_;
};

TEST_F(UndoLogTest, GivesBackWhatItWasGiven) {
  ASSERT_THAT(WriteUndoLog(path_, cache_, stores_), IsOk());
  struct stat attributes;
  ASSERT_EQ(stat(path_.c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 0777, 0600u);

  const auto read = ReadUndoLog(path_, cache_);
  ASSERT_THAT(read, IsOk());
  ASSERT_EQ(read->size(), stores_.size());
  for (size_t i = 0; i < stores_.size(); ++i) {
    EXPECT_EQ((*read)[i].offset, stores_[i].offset);
    EXPECT_EQ((*read)[i].bytes, stores_[i].bytes);
  }
}

TEST_F(UndoLogTest, OverwritesNothing) {
  SetContent("precious");

  EXPECT_THAT(WriteUndoLog(path_, cache_, stores_),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(Content(), "precious");
}

TEST_F(UndoLogTest, AnotherCacheIsRefused) {
  ASSERT_THAT(WriteUndoLog(path_, cache_, stores_), IsOk());
  Uuid other;
  other.bytes[0] = 8;

  EXPECT_THAT(ReadUndoLog(path_, other),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(UndoLogTest, NoDamageIsBelieved) {
  ASSERT_THAT(WriteUndoLog(path_, cache_, stores_), IsOk());
  const std::string good = Content();
  for (size_t i = 0; i < good.size(); i += 7) {
    std::string bad = good;
    bad[i] ^= 1;
    SetContent(bad);
    EXPECT_THAT(ReadUndoLog(path_, cache_),
                StatusIs(absl::StatusCode::kDataLoss));
    SetContent(good.substr(0, i));
    EXPECT_THAT(ReadUndoLog(path_, cache_),
                StatusIs(absl::StatusCode::kDataLoss));
  }
}

}  // namespace
}  // namespace pcachefs
