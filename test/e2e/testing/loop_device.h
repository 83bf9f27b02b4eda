// A loop device on a file, as `losetup --direct-io=on --sector-size=4096` makes
// it, and trees of files on filesystems on it.

#ifndef PCACHEFS_TEST_E2E_TESTING_LOOP_DEVICE_H_
#define PCACHEFS_TEST_E2E_TESTING_LOOP_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pcachefs {

// Goes away with its object or the test's process, or once it is no longer
// mounted: the kernel clears it when its last user is gone.
class LoopDevice {
 public:
  enum class Access { kReadWrite, kReadOnly };

  // An error if the kernel does not grant direct I/O.
  static absl::StatusOr<std::unique_ptr<LoopDevice>> Attach(
      const std::string& file, Access access = Access::kReadWrite,
      uint32_t sector_size = 4096);
  ~LoopDevice();
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;

  const std::string& path() const { return path_; }

 private:
  LoopDevice(std::string path, int fd);

  const std::string path_;
  const int fd_;
};

// `type` is ext4 or xfs.
absl::Status MakeFilesystem(const std::string& type, const std::string& device);

// Makes the directory if need be.
absl::Status Mount(const std::string& device, const std::string& directory,
                   const std::string& options = "defaults");
absl::Status Unmount(const std::string& directory);
// e2fsck or xfs_repair, changing nothing: any finding is an error.
absl::Status CheckFilesystem(const std::string& type,
                             const std::string& device);

// Of names, contents, links; an error shows the first differences.
absl::Status CheckSameTree(const std::string& tree, const std::string& other);

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_LOOP_DEVICE_H_
