#include "core/options.h"

#include "absl/strings/str_cat.h"

namespace pcachefs {
namespace {

// The memory of a window in flight.
constexpr uint64_t kMaxReadAhead = 64 * kMiB;

}  // namespace

absl::Status CacheOptions::Validate() const {
  if (commit_interval <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "commit_interval: got ", absl::FormatDuration(commit_interval),
        ", want more than 0"));
  }
  if (retry_first <= absl::ZeroDuration() || retry_last < retry_first) {
    return absl::InvalidArgumentError(absl::StrCat(
        "retry_first, retry_last: got ", absl::FormatDuration(retry_first),
        ", ", absl::FormatDuration(retry_last),
        ", want 0 < retry_first <= retry_last"));
  }
  if (writeback_batch == 0) {
    return absl::InvalidArgumentError(
        "writeback_batch: got 0, want at least 1 byte");
  }
  if (read_ahead > kMaxReadAhead) {
    return absl::InvalidArgumentError(absl::StrCat(
        "read_ahead: got ", read_ahead, " bytes, want at most ", kMaxReadAhead));
  }
  return absl::OkStatus();
}

absl::Status ImageOptions::Validate() const {
  if (gc_percent < -1 || gc_percent > kMaxGcPercent) {
    return absl::InvalidArgumentError(absl::StrCat(
        "gc_percent: got ", gc_percent, ", want 0 to ", kMaxGcPercent));
  }
  if (read_only_backing && GoesAround(mode)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "read_only_backing: got mode ", Name(mode),
        ", want writeback or writeonly"));
  }
  return absl::OkStatus();
}

}  // namespace pcachefs
