// A backing device behind the NBD protocol, through libnbd: whatever nbdkit,
// qemu-nbd or another server exports.
//
// Each connection has a thread of its own (nbd_connection.h); they share one
// queue (nbd_queue.h, which argues why nothing is lost when the server dies and
// comes back). Several connections only if the server says that all see one
// cache (multi-conn).

#ifndef PCACHEFS_IOBACKEND_NBD_BACKING_DEVICE_H_
#define PCACHEFS_IOBACKEND_NBD_BACKING_DEVICE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iobackend/backing_device.h"
#include "iobackend/file_io.h"
#include "iobackend/nbd_connection.h"
#include "iobackend/nbd_handle.h"
#include "iobackend/nbd_queue.h"
#include "iobackend/nbd_uri.h"
#include "meta/records.h"

namespace pcachefs {

// A `done` runs on a connection's thread, and should not wait. The destructor
// waits for every request; those that wait for a server that is gone fail at
// once. It must not be called by a `done`.
//
//  * kZero writes zeroes that keep their space, kDiscard zeroes that need none.
//    The protocol's own trim is not used: it promises nothing of what is read
//    afterwards. Where the server cannot zero, zeroes are written.
//  * kFlush on a server without flush succeeds at once: what such a server
//    acknowledges counts as durable.
//  * Requests that are not of whole blocks of the server read, change and write
//    the blocks at their edges, one at a time for each block.
class NbdBackingDevice final : public BackingDevice {
 public:
  struct Options {
    bool read_only = false;
    int connections = 4;   // at most
    int queue_depth = 16;  // per connection: commands in flight
    NbdTimes times;
  };

  // Connects. Beside errors of NbdHandle::Connect: InvalidArgument for a URI
  // that is none; PermissionDenied for a read-only export and a writer;
  // FailedPrecondition if a writer of this machine has the export already.
  static absl::StatusOr<std::unique_ptr<NbdBackingDevice>> Open(
      const std::string& uri, const Options& options);

  // Asks the server who it is, and leaves.
  static absl::StatusOr<BackingIdentity> Identify(const std::string& uri);

  ~NbdBackingDevice() override;

  uint64_t size() const override { return shared_.size; }
  const BackingIdentity& identity() const override { return identity_; }
  const std::string& spec() const override { return shared_.uri.text; }
  bool is_read_only() const override { return shared_.read_only; }
  uint32_t block_size() const override;
  void Submit(std::vector<BackingRequest> requests,
              Submission submission) override;
  // By base:allocation, if the server has it: what reads as zeroes is a hole.
  absl::StatusOr<Extent> FindExtent(uint64_t offset) override;
  // As it was when the device was opened: extrapolated from as many extents as
  // the server told within a moment.
  uint64_t allocated_bytes() override { return allocated_bytes_; }
  // By one more connection, where the server allows several; the size of others
  // stays until they connect again.
  absl::Status Refresh() override;

  // What the server said when it was opened.
  const NbdLimits& limits() const { return shared_.limits; }

 private:
  NbdBackingDevice(const NbdUri& uri, const NbdLimits& limits,
                   const Options& options, FileDescriptor lock);

  absl::Status Validate(const BackingRequest& request) const;
  void EstimateAllocation();

  NbdShared shared_;
  const BackingIdentity identity_;
  const FileDescriptor lock_;
  std::atomic<uint64_t> allocated_bytes_;
  NbdQueue queue_;
  // Last: their threads use the rest.
  std::vector<std::unique_ptr<NbdConnection>> connections_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_NBD_BACKING_DEVICE_H_
