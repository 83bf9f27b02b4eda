// A long range is carried out piece by piece, in order, whether pieces end
// within their call or later, and ends at the first error.

#include "fuse/piecewise.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using Done = absl::AnyInvocable<void(absl::Status)>;
using ::testing::ElementsAre;

ImageRange Range(uint64_t offset, uint64_t length) {
  return {ImageOffset(offset), length};
}

TEST(RunPiecewise, CutsAtMultiplesOfThePieceLength) {
  std::vector<ImageRange> pieces;
  std::vector<absl::Status> results;

  RunPiecewise(
      Range(70, 100), 64,
      [&](ImageRange piece, Done done) {
        pieces.push_back(piece);
        done(absl::OkStatus());
      },
      [&](absl::Status status) { results.push_back(status); });

  EXPECT_THAT(pieces, ElementsAre(Range(70, 58), Range(128, 42)));
  EXPECT_THAT(results, ElementsAre(IsOk()));
}

TEST(RunPiecewise, AnEmptyRangeEndsAtOnce) {
  int ends = 0;
  RunPiecewise(
      Range(70, 0), 64, [](ImageRange, Done) { FAIL(); },
      [&](absl::Status status) {
        EXPECT_THAT(status, IsOk());
        ++ends;
      });
  EXPECT_EQ(ends, 1);
}

TEST(RunPiecewise, GoesOnWhenAPieceEndsLater) {
  std::vector<Done> waiting;
  int ends = 0;
  RunPiecewise(
      Range(0, 3), 1,
      [&](ImageRange, Done done) { waiting.push_back(std::move(done)); },
      [&](absl::Status status) {
        EXPECT_THAT(status, IsOk());
        ++ends;
      });

  for (size_t i = 0; i < 3; ++i) {
    ASSERT_EQ(waiting.size(), i + 1);
    EXPECT_EQ(ends, 0);
    // Moved out: running it adds to the vector.
    Done done = std::move(waiting[i]);
    done(absl::OkStatus());
  }

  EXPECT_EQ(waiting.size(), 3u);
  EXPECT_EQ(ends, 1);
}

TEST(RunPiecewise, StopsAtTheFirstError) {
  int pieces = 0;
  std::vector<absl::Status> results;
  RunPiecewise(
      Range(0, 4), 1,
      [&](ImageRange, Done done) {
        ++pieces;
        done(pieces == 2 ? absl::DataLossError("bad") : absl::OkStatus());
      },
      [&](absl::Status status) { results.push_back(status); });

  EXPECT_EQ(pieces, 2);
  EXPECT_THAT(results, ElementsAre(StatusIs(absl::StatusCode::kDataLoss)));
}

TEST(RunPiecewise, ManyPiecesNeedNoDeepStack) {
  constexpr uint64_t kPieces = 1'000'000;
  uint64_t pieces = 0;
  bool ended = false;
  RunPiecewise(
      Range(0, kPieces), 1,
      [&](ImageRange, Done done) {
        ++pieces;
        done(absl::OkStatus());
      },
      [&](absl::Status) { ended = true; });

  EXPECT_EQ(pieces, kPieces);
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace pcachefs
