#include "fuse/errno_mapping.h"

#include <cerrno>

#include "absl/status/status.h"

namespace pcachefs {

int ErrnoOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kCancelled:
      return EINTR;
    case absl::StatusCode::kInvalidArgument:
      return EINVAL;
    case absl::StatusCode::kDeadlineExceeded:
      return ETIMEDOUT;
    case absl::StatusCode::kNotFound:
      return ENOENT;
    case absl::StatusCode::kAlreadyExists:
      return EEXIST;
    case absl::StatusCode::kPermissionDenied:
      return EPERM;
    case absl::StatusCode::kUnauthenticated:
      return EACCES;
    // A write past the end of something that cannot grow, and a cache device
    // or backing device without space.
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kResourceExhausted:
      return ENOSPC;
    // On the path of a request only a read-only image is in a wrong state.
    case absl::StatusCode::kFailedPrecondition:
      return EROFS;
    case absl::StatusCode::kUnimplemented:
      return EOPNOTSUPP;
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnknown:
    default:
      return EIO;
  }
}

}  // namespace pcachefs
