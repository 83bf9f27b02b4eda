// An NBD device on a server, for tests.

#ifndef PCACHEFS_TEST_IOBACKEND_NBD_DEVICE_FIXTURE_H_
#define PCACHEFS_TEST_IOBACKEND_NBD_DEVICE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "iobackend/file_io.h"
#include "iobackend/nbd_backing_device.h"
#include "meta/units.h"
#include "test/iobackend/nbd_server.h"
#include "test/iobackend/test_files.h"

namespace pcachefs {

// Waits for a number of requests.
class Countdown {
 public:
  explicit Countdown(int count) : count_(count) {}

  BackingRequest::Done Done() {
    return [this](absl::Status status) {
      absl::MutexLock lock(&mutex_);
      if (status_.ok()) status_ = std::move(status);
      --count_;
    };
  }
  bool is_over() {
    absl::MutexLock lock(&mutex_);
    return count_ == 0;
  }
  // Until so few requests are left.
  void WaitUntilLeft(int count) {
    absl::MutexLock lock(&mutex_);
    const auto is_reached = [&] { return count_ <= count; };
    mutex_.Await(absl::Condition(&is_reached));
  }
  // The first failure, if any.
  absl::Status Wait() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](int* count) { return *count == 0; }, &count_));
    return status_;
  }

 private:
  absl::Mutex mutex_;
  int count_;
  absl::Status status_;
};

class NbdDeviceFixture : public ::testing::Test {
 protected:
  using Operation = BackingRequest::Operation;

  static constexpr uint64_t kSize = 8 * kMiB;

  absl::Status Open() {
    auto device = NbdBackingDevice::Open(server_.uri(), options_);
    if (!device.ok()) return device.status();
    device_ = *std::move(device);
    return absl::OkStatus();
  }

  static BackingRequest Request(Operation operation, uint64_t offset,
                                std::span<std::byte> bytes) {
    BackingRequest request;
    request.operation = operation;
    request.offset = offset;
    request.length = bytes.size();
    request.buffers = {bytes};
    return request;
  }
  void SubmitOne(BackingRequest request, Submission submission) {
    std::vector<BackingRequest> requests;
    requests.push_back(std::move(request));
    device_->Submit(std::move(requests), submission);
  }
  absl::Status Run(Operation operation, uint64_t offset, uint64_t length,
                   BackingRequest::Buffers buffers = {}) {
    BackingRequest request;
    request.operation = operation;
    request.offset = offset;
    request.length = length;
    request.buffers = std::move(buffers);
    return SubmitAndWait(*device_, std::move(request));
  }
  absl::Status Read(uint64_t offset, std::span<std::byte> bytes) {
    return Run(Operation::kRead, offset, bytes.size(), {bytes});
  }
  absl::Status Write(uint64_t offset, std::span<std::byte> bytes) {
    return Run(Operation::kWrite, offset, bytes.size(), {bytes});
  }
  absl::Status Flush() {
    return SubmitAndWait(*device_, Request(Operation::kFlush, 0, {}));
  }

  std::vector<std::byte> FileContents() const {
    std::vector<std::byte> bytes(kSize);
    const FileDescriptor file = OpenFile(file_, O_RDONLY);
    EXPECT_TRUE(ReadFully(file_, file.get(), 0, bytes).ok());
    return bytes;
  }

  // A path that is short enough for a socket.
  TestDirectory directory_{kTmpfs};
  TestDirectory disk_;
  const std::string file_ = disk_.File("file");
  NbdServer server_{directory_};
  NbdBackingDevice::Options options_;
  std::unique_ptr<NbdBackingDevice> device_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_IOBACKEND_NBD_DEVICE_FIXTURE_H_
