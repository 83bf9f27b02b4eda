// Does at random to a file, or a block device, of fixed size all that one can
// do to it, in the manner of fsx: several threads, each with a part of its own,
// write and read through the page cache, around it and through a mapping, punch
// holes, zero, sync, and try to truncate. Everything read is compared with a
// model in memory. The seed decides what each thread does.

#ifndef PCACHEFS_TEST_E2E_TESTING_FILE_EXERCISER_H_
#define PCACHEFS_TEST_E2E_TESTING_FILE_EXERCISER_H_

#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace pcachefs {

class FileExerciser {
 public:
  struct Options {
    uint64_t size = 0;  // that the file has, all zeroes
    int threads = 4;
    uint64_t seed = 1;
    // Of fallocate(2), and if more than a sector of direct I/O.
    uint64_t alignment = 512;
    // Descriptors read what mappings wrote and the reverse.
    bool mappings = true;
  };

  explicit FileExerciser(const Options& options);

  // Each thread does `operations`; then all is synced, unless `sync` is false:
  // then only what went through the page cache. The first difference is an
  // error that tells what was done to the place lately.
  absl::Status Run(const std::string& path, uint64_t operations, bool sync);

  // Compares all of `path`, which may be a copy.
  absl::Status Check(const std::string& path);

  uint64_t operation_count() const { return operation_count_; }

 private:
  class Worker;

  const Options options_;
  std::string model_;
  std::vector<std::mt19937_64> randoms_;  // of the threads
  // What each did lately, for the report.
  std::vector<std::vector<std::string>> histories_;
  std::atomic<uint64_t> operation_count_ = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_FILE_EXERCISER_H_
