// Writes blocks of an image from several threads and remembers which writes
// were acknowledged, to tell after a crash of the daemon whether they are
// there.

#ifndef PCACHEFS_TEST_E2E_TESTING_ACKNOWLEDGED_WRITER_H_
#define PCACHEFS_TEST_E2E_TESTING_ACKNOWLEDGED_WRITER_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace pcachefs {

class AcknowledgedWriter {
 public:
  AcknowledgedWriter(std::string image, uint64_t size, int thread_count);

  // Starts the threads, each with its own part of the image, direct I/O of 1 to
  // 8 blocks and an fdatasync now and then; calls `crash` once `write_count`
  // writes were acknowledged, while they go on. Returns when each has met an
  // error.
  void WriteUntil(uint64_t write_count, uint64_t seed,
                  absl::FunctionRef<void()> crash);

  // OK if each block of `path` is, wholly, of its last acknowledged write or a
  // later one. Later ones that are seen count as acknowledged from then on.
  absl::Status Check(const std::string& path);

  uint64_t acknowledged_count() const { return acknowledged_count_; }

 private:
  // Versions; 0: never written, zeroes. Each block belongs to one thread.
  struct Block {
    uint64_t acknowledged = 0;
    uint64_t attempted = 0;
  };

  void Write(int thread, uint64_t seed);
  // False once a write or flush has failed.
  bool WriteOnce(class File& file, class Buffer& buffer, uint64_t first,
                 uint64_t count);

  const std::string image_;
  const int thread_count_;
  std::vector<Block> blocks_;
  // Counters without order among each other.
  std::atomic<uint64_t> last_version_ = 0;
  std::atomic<uint64_t> acknowledged_count_ = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_ACKNOWLEDGED_WRITER_H_
