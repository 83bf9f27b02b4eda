// Every status has the errno that programs over a disk understand.

#include "fuse/errno_mapping.h"

#include <cerrno>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace pcachefs {
namespace {

TEST(ErrnoOf, TellsProgramsWhatTheyUnderstand) {
  EXPECT_EQ(ErrnoOf(absl::OkStatus()), 0);
  EXPECT_EQ(ErrnoOf(absl::OutOfRangeError("")), ENOSPC);
  EXPECT_EQ(ErrnoOf(absl::ResourceExhaustedError("")), ENOSPC);
  EXPECT_EQ(ErrnoOf(absl::FailedPreconditionError("")), EROFS);
  EXPECT_EQ(ErrnoOf(absl::InvalidArgumentError("")), EINVAL);
  EXPECT_EQ(ErrnoOf(absl::NotFoundError("")), ENOENT);
  EXPECT_EQ(ErrnoOf(absl::UnimplementedError("")), EOPNOTSUPP);
}

TEST(ErrnoOf, MediaErrorsAreInputOutputErrors) {
  EXPECT_EQ(ErrnoOf(absl::DataLossError("")), EIO);
  EXPECT_EQ(ErrnoOf(absl::UnavailableError("")), EIO);
  EXPECT_EQ(ErrnoOf(absl::InternalError("")), EIO);
  EXPECT_EQ(ErrnoOf(absl::UnknownError("")), EIO);
}

TEST(ErrnoOf, NoErrorIsTakenForSuccess) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "");
    EXPECT_GT(ErrnoOf(status), 0) << status;
  }
}

}  // namespace
}  // namespace pcachefs
