// A file whose storage fails, hangs and recovers at will: the one file of a
// FUSE mount that the test itself serves from a real file. Serve a cache or a
// backing device from it, as it is or through a loop device.
//
//   auto faulty = FaultyFile::Serve(real_file, directory);
//   (*faulty)->Fail({FaultyFile::Operation::kWrite}, EIO, 8 * kMiB, kMiB);
//   ... (*faulty)->Heal();

#ifndef PCACHEFS_TEST_E2E_TESTING_FAULTY_FILE_H_
#define PCACHEFS_TEST_E2E_TESTING_FAULTY_FILE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

struct fuse_file_info;
struct fuse_req;
struct fuse_session;

namespace pcachefs {

// Thread-safe.
class FaultyFile {
 public:
  // kErase: punched holes and zeroed ranges.
  enum class Operation { kRead, kWrite, kErase, kFlush, kAttributes };
  static constexpr uint64_t kEverywhere = ~uint64_t{0};

  // `file` shows as `directory`/disk, of the size that it has then. Makes the
  // directory.
  static absl::StatusOr<std::unique_ptr<FaultyFile>> Serve(
      const std::string& file, const std::string& directory);
  // Lets go of what hangs, with an error.
  ~FaultyFile();
  FaultyFile(const FaultyFile&) = delete;
  FaultyFile& operator=(const FaultyFile&) = delete;

  const std::string& path() const { return path_; }

  // From now on such operations that touch the range answer `error`; a flush
  // touches every range. Instead of what was said before.
  void Fail(std::set<Operation> operations, int error, uint64_t offset = 0,
            uint64_t length = kEverywhere);
  // From now on nothing is answered, not even what the file's size is unless
  // `attributes` are answered. Who asks for those cannot be killed any more.
  void Hang(bool attributes = false);
  // From now on such operations, reads or writes, transfer half of what they are
  // asked for, to whoever opens the file after this: not through the kernel's
  // page cache, which would take a short read for the end of the file. The
  // kernel itself makes an error of a short write with O_DIRECT.
  void TransferShort(std::set<Operation> operations);
  // All is well again; what hangs is done now.
  void Heal();

  // That were made to fail, hang or be short, to wait for the first.
  uint64_t fault_count() const;

 private:
  struct Request;
  struct Callbacks;

  FaultyFile(int fd, std::string directory);

  // Does the operation on the real file, or fails it, or lets it wait.
  void Handle(Operation operation, uint64_t offset, uint64_t length,
              fuse_req* request, std::function<void()> perform);

  bool has_short_transfers() const;
  // How much of a transfer takes place.
  size_t Part(Operation operation, size_t size);

  const int fd_;
  const std::string directory_;
  const std::string path_;
  fuse_session* session_ = nullptr;
  std::thread thread_;

  mutable absl::Mutex mutex_;
  std::set<Operation> failing_ ABSL_GUARDED_BY(mutex_);
  int error_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t offset_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t length_ ABSL_GUARDED_BY(mutex_) = 0;
  bool hangs_ ABSL_GUARDED_BY(mutex_) = false;
  bool answers_attributes_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<Operation> short_ ABSL_GUARDED_BY(mutex_);
  uint64_t fault_count_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_FAULTY_FILE_H_
