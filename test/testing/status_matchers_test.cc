// Proves that the matchers accept what they should and, what a test that
// always passes would not show, reject the rest.

#include "test/testing/status_matchers.h"

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pcachefs {
namespace {

using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pointee;

TEST(StatusMatchers, IsOkTellsSuccessFromFailure) {
  const absl::StatusOr<int> value = 3;
  const absl::StatusOr<int> error = absl::DataLossError("bad magic");

  EXPECT_THAT(absl::OkStatus(), IsOk());
  EXPECT_THAT(absl::DataLossError("bad magic"), Not(IsOk()));
  EXPECT_THAT(value, IsOk());
  EXPECT_THAT(error, Not(IsOk()));
}

TEST(StatusMatchers, StatusIsComparesCodeAndMessage) {
  const absl::StatusOr<int> error = absl::DataLossError("bad magic");

  EXPECT_THAT(error, StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(error, Not(StatusIs(absl::StatusCode::kNotFound)));
  EXPECT_THAT(error.status(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("magic")));
  EXPECT_THAT(error, StatusIs(absl::StatusCode::kDataLoss, "bad magic"));
  EXPECT_THAT(error,
              Not(StatusIs(absl::StatusCode::kDataLoss, HasSubstr("size"))));
}

TEST(StatusMatchers, IsOkAndHoldsMatchesTheValue) {
  const absl::StatusOr<int> value = 3;
  const absl::StatusOr<int> error = absl::DataLossError("bad magic");
  absl::StatusOr<std::unique_ptr<int>> move_only = std::make_unique<int>(4);

  EXPECT_THAT(value, IsOkAndHolds(3));
  EXPECT_THAT(value, IsOkAndHolds(Gt(2)));
  EXPECT_THAT(value, Not(IsOkAndHolds(4)));
  EXPECT_THAT(error, Not(IsOkAndHolds(3)));
  EXPECT_THAT(move_only, IsOkAndHolds(Pointee(4)));
  EXPECT_THAT(absl::StatusOr<std::string>("abc"), IsOkAndHolds(HasSubstr("b")));
}

}  // namespace
}  // namespace pcachefs
