// A backing device whose requests end when and how the test says, one by one,
// so that a test can choose every interleaving by hand. For what chance finds
// there is test/fakes/fake_disk.h.

#ifndef PCACHEFS_TEST_CORE_SCRIPTED_DISK_H_
#define PCACHEFS_TEST_CORE_SCRIPTED_DISK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "iobackend/backing_device.h"
#include "meta/records.h"

namespace pcachefs {

// Not thread-safe. Outlives its handles.
class ScriptedDisk {
 public:
  using Operation = BackingRequest::Operation;

  explicit ScriptedDisk(uint64_t size) : bytes_(size, '\0') {}

  // The handle that a Cache owns; what is in flight when it goes ends with an
  // error, as when a real device is closed.
  std::unique_ptr<BackingDevice> Open(
      const std::string& identity = "ino=1,fsid=scripted");

  // True, as at first: requests end within Submit. False: in Complete.
  void set_automatic(bool automatic) { automatic_ = automatic; }

  // Requests in flight, and all that were ever submitted, in order:
  // "read 0+4096", "write 4096+512", "zero 0+512", "discard 0+512", "flush".
  std::vector<std::string> pending() const;
  const std::vector<std::string>& history() const { return history_; }
  void ClearHistory() { history_.clear(); }

  // Ends pending()[index]; it takes effect now, unless it fails.
  void Complete(size_t index = 0, absl::Status status = absl::OkStatus());
  void CompleteAll();

  // Requests of this kind end so from now on; OK ends that.
  void Fail(Operation operation, absl::Status status) {
    failures_[operation] = std::move(status);
  }

  // Runs at each submission.
  void set_on_submit(std::function<void(const BackingRequest&)> on_submit) {
    on_submit_ = std::move(on_submit);
  }

  uint64_t size() const { return bytes_.size(); }
  // Grows or shrinks; handles see it in Refresh.
  void Resize(uint64_t size) { bytes_.resize(size, '\0'); }
  void Fill(uint64_t offset, const std::string& bytes);
  std::string Content(uint64_t offset, uint64_t length) const {
    return bytes_.substr(offset, length);
  }

 private:
  class Handle;

  void Submit(std::vector<BackingRequest> requests);
  void End(BackingRequest request, absl::Status status);
  void Apply(const BackingRequest& request);

  std::string bytes_;
  bool automatic_ = true;
  std::vector<BackingRequest> pending_;
  std::vector<std::string> history_;
  std::map<Operation, absl::Status> failures_;
  std::function<void(const BackingRequest&)> on_submit_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_CORE_SCRIPTED_DISK_H_
