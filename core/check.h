// fsck for a cache device: everything that a start would read, and all payload,
// against its checksums. Reads only; shares every parser with the daemon.

#ifndef PCACHEFS_CORE_CHECK_H_
#define PCACHEFS_CORE_CHECK_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iobackend/cache_device.h"

namespace pcachefs {

struct CheckFinding {
  enum class Severity {
    kNote,    // what a crash leaves behind: a torn store or end of the log
    kDamage,  // the media is not what was written; the message tells whether
              // anything is lost by it
  };
  Severity severity = Severity::kDamage;
  std::string image;    // empty: the cache device's own records
  std::string message;  // place, got, wanted, consequence
};

struct CheckReport {
  std::vector<CheckFinding> findings;
  uint64_t images = 0;
  uint64_t key_sets = 0;
  uint64_t keys = 0;
  uint64_t payload_bytes = 0;  // verified
  uint64_t dirty_bytes = 0;
  bool clean_stop = false;

  bool damaged() const;
};

struct CheckOptions {
  bool verify_payload = true;
  // Called now and then with bytes of log and payload done, and of how many.
  std::function<void(uint64_t done, uint64_t total)> progress;
};

// FailedPrecondition if the device holds no cache of this version; errors of
// the device. Damage is in the report, not in the status.
absl::StatusOr<CheckReport> CheckCache(CacheDevice& device,
                                       const CheckOptions& options);

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_CHECK_H_
