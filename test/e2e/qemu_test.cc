// QEMU's tools take the image as a raw disk: direct I/O at any alignment,
// zeroes and discards, its map of data and holes, conversion to and
// fro.

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

using testing::HasSubstr;
using testing::Not;

class QemuTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(RequirePrograms({"qemu-img", "qemu-io"}), IsOk());
    ASSERT_THAT(served_.Start(), IsOk());
  }

  // Runs commands of qemu-io with direct I/O, as a guest with cache=none would.
  Outcome Io(const std::vector<std::string>& commands) {
    std::vector<std::string> command = {
        "qemu-io", "-t", "none", "-d", "unmap", "-f", "raw", served_.image()};
    for (const std::string& io : commands) {
      command.insert(command.end(), {"-c", io});
    }
    return RunCommand(command);
  }

  ServedCache served_{{.backing_size = 64 * kMiB}};
};

TEST_F(QemuTest, ReadsBackWhatItWrote) {
  const Outcome outcome = Io({
      "write -P 0x11 0 1M",
      "write -P 0x22 512 512",
      "write -P 0x33 1M 3M",
      "aio_write -P 0x44 8M 64k",
      "aio_flush",
      "flush",
      "read -P 0x11 0 512",
      "read -P 0x22 512 512",
      "read -P 0x11 1k 1023k",
      "read -P 0x33 1M 3M",
      "read -P 0x44 8M 64k",
      "read -P 0 16M 1M",
  });

  EXPECT_THAT(outcome, Succeeds());
  EXPECT_THAT(outcome.out, Not(HasSubstr("verification failed")));
}

TEST_F(QemuTest, ZeroesAndDiscardsReadAsZeroes) {
  const Outcome outcome = Io({
      "write -P 0x55 0 4M",
      "write -z 1M 512k",
      "write -z -u 2M 512k",
      "discard 3M 512k",
      "write -z 4608 512",
      "flush",
      "read -P 0x55 0 4608",
      "read -P 0 4608 512",
      "read -P 0x55 5k 1019k",
      "read -P 0 1M 512k",
      "read -P 0x55 1536k 512k",
      "read -P 0 2M 512k",
      "read -P 0 3M 512k",
      "read -P 0x55 3584k 512k",
  });

  EXPECT_THAT(outcome, Succeeds());
  EXPECT_THAT(outcome.out, Not(HasSubstr("verification failed")));
}

TEST_F(QemuTest, DrainedBackingFileComparesEqual) {
  ASSERT_THAT(Io({"write -P 0x66 0 5M", "write -z 1M 1M", "discard 3M 64k",
                  "write -P 0x77 60M 4M", "flush"}),
              Succeeds());
  const std::string copy = served_.directory().File("copy.img");
  ASSERT_THAT(RunCommand({"qemu-img", "convert", "-f", "raw", "-O", "raw",
                          served_.image(), copy}),
              Succeeds());

  ASSERT_THAT(served_.Control("drain"), Succeeds());
  ASSERT_THAT(served_.Stop(), IsOk());

  EXPECT_THAT(RunCommand({"qemu-img", "compare", "-f", "raw", "-F", "raw", copy,
                          served_.backing()}),
              Succeeds());
}

TEST_F(QemuTest, InfoTellsTheSize) {
  const Outcome outcome = RunCommand(
      {"qemu-img", "info", "-f", "raw", "--output=json", served_.image()});

  ASSERT_THAT(outcome, Succeeds());
  const auto info = nlohmann::json::parse(outcome.out, nullptr, false);
  EXPECT_EQ(info.value("virtual-size", 0u), served_.size());
}

TEST_F(QemuTest, MapTellsDataFromHoles) {
  ASSERT_THAT(
      Io({"write -P 0x12 8M 2M", "write -P 0x13 32M 64k", "discard 9M 512k"}),
      Succeeds());

  const Outcome outcome = RunCommand(
      {"qemu-img", "map", "-f", "raw", "--output=json", served_.image()});

  ASSERT_THAT(outcome, Succeeds());
  const auto map = nlohmann::json::parse(outcome.out, nullptr, false);
  std::vector<std::string> data;
  for (const auto& piece : map) {
    if (piece.value("data", true)) {
      data.push_back(absl::StrCat(piece.value("start", 0u), "+",
                                  piece.value("length", 0u)));
    }
  }
  EXPECT_THAT(data, testing::ElementsAre("8388608+1048576", "9961472+524288",
                                         "33554432+65536"));
}

TEST_F(QemuTest, ConvertsToTheImageAndFromIt) {
  const std::string raw = served_.directory().File("source.img");
  const std::string qcow = served_.directory().File("copy.qcow2");
  MakeFile(raw, served_.size());
  ASSERT_THAT(WritePattern(raw, 5, 3 * kMiB, 20 * kMiB), IsOk());

  ASSERT_THAT(
      RunCommand({"qemu-img", "convert", "-n", "-W", "-t", "none", "-T", "none",
                  "-f", "raw", "-O", "raw", raw, served_.image()}),
      Succeeds());
  ASSERT_THAT(RunCommand({"qemu-img", "convert", "-T", "none", "-f", "raw",
                          "-O", "qcow2", served_.image(), qcow}),
              Succeeds());

  EXPECT_THAT(RunCommand({"qemu-img", "compare", "-f", "raw", "-F", "raw", raw,
                          served_.image()}),
              Succeeds());
  EXPECT_THAT(RunCommand({"qemu-img", "compare", "-f", "raw", "-F", "qcow2",
                          raw, qcow}),
              Succeeds());
}

}  // namespace
}  // namespace pcachefs
