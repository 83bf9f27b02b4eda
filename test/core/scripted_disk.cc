#include "test/core/scripted_disk.h"

#include <cstring>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

std::string Describe(const BackingRequest& request) {
  static constexpr const char* kNames[] = {"read", "write", "zero", "discard",
                                           "flush"};
  const char* const name = kNames[static_cast<int>(request.operation)];
  if (request.operation == BackingRequest::Operation::kFlush) return name;
  return absl::StrCat(name, " ", request.offset, "+", request.length);
}

}  // namespace

class ScriptedDisk::Handle : public BackingDevice {
 public:
  Handle(ScriptedDisk& disk, const std::string& identity)
      : disk_(disk), size_(disk.size()), identity_{.size = disk.size(), .text = identity} {}
  ~Handle() override {
    while (!disk_.pending_.empty()) {
      disk_.Complete(0, absl::UnavailableError("the device was closed"));
    }
  }

  uint64_t size() const override { return size_; }
  const BackingIdentity& identity() const override { return identity_; }
  const std::string& spec() const override { return spec_; }
  bool is_read_only() const override { return false; }
  uint32_t block_size() const override { return kSectorSize; }
  void Submit(std::vector<BackingRequest> requests, Submission) override {
    disk_.Submit(std::move(requests));
  }
  absl::StatusOr<Extent> FindExtent(uint64_t offset) override {
    return Extent{.length = size() - offset};
  }
  uint64_t allocated_bytes() override { return size(); }
  absl::Status Refresh() override {
    if (disk_.size() < size_) {
      return absl::InvalidArgumentError(
          absl::StrCat(spec_, ": became smaller: got ", disk_.size(),
                       " bytes, wanted at least ", size_));
    }
    size_ = disk_.size();
    return absl::OkStatus();
  }

 private:
  ScriptedDisk& disk_;
  uint64_t size_;
  const BackingIdentity identity_;
  const std::string spec_ = "/scripted/disk";
};

std::unique_ptr<BackingDevice> ScriptedDisk::Open(const std::string& identity) {
  return std::make_unique<Handle>(*this, identity);
}

std::vector<std::string> ScriptedDisk::pending() const {
  std::vector<std::string> described;
  for (const BackingRequest& request : pending_) {
    described.push_back(Describe(request));
  }
  return described;
}

void ScriptedDisk::Submit(std::vector<BackingRequest> requests) {
  for (BackingRequest& request : requests) {
    CHECK(request.done);
    CHECK(IsAligned(request.offset | request.length, kSectorSize));
    history_.push_back(Describe(request));
    if (on_submit_) on_submit_(request);
    if (automatic_) {
      End(std::move(request), absl::OkStatus());
    } else {
      pending_.push_back(std::move(request));
    }
  }
}

void ScriptedDisk::Complete(size_t index, absl::Status status) {
  CHECK_LT(index, pending_.size());
  BackingRequest request = std::move(pending_[index]);
  pending_.erase(pending_.begin() + index);
  End(std::move(request), std::move(status));
}

void ScriptedDisk::CompleteAll() {
  while (!pending_.empty()) Complete();
}

void ScriptedDisk::End(BackingRequest request, absl::Status status) {
  status.Update(failures_[request.operation]);
  if (status.ok() && request.offset + request.length > bytes_.size()) {
    status = absl::OutOfRangeError("beyond the end of the scripted disk");
  }
  if (status.ok()) Apply(request);
  request.done(std::move(status));
}

void ScriptedDisk::Apply(const BackingRequest& request) {
  uint64_t at = request.offset;
  switch (request.operation) {
    case Operation::kRead:
      for (const std::span<std::byte> buffer : request.buffers) {
        std::memcpy(buffer.data(), bytes_.data() + at, buffer.size());
        at += buffer.size();
      }
      break;
    case Operation::kWrite:
      for (const std::span<std::byte> buffer : request.buffers) {
        std::memcpy(bytes_.data() + at, buffer.data(), buffer.size());
        at += buffer.size();
      }
      break;
    case Operation::kZero:
    case Operation::kDiscard:
      bytes_.replace(at, request.length, request.length, '\0');
      break;
    case Operation::kFlush:
      break;
  }
}

void ScriptedDisk::Fill(uint64_t offset, const std::string& bytes) {
  bytes_.replace(offset, bytes.size(), bytes);
}

}  // namespace pcachefs
