// Proves that whatever the system transfers at a time, requests are carried out
// whole: each call moves any beginning of what it was asked for, or is
// interrupted, and what a read got beyond that is rubbish.

#include "iobackend/backing_transfer.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/backing_file.h"
#include "meta/units.h"
#include "test/fakes/random.h"
#include "test/iobackend/test_files.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using Operation = BackingRequest::Operation;

constexpr uint64_t kSize = 256 * kKiB;

struct Way {
  const char* name;
  bool direct;
  uint32_t min_granule;
};

class BackingTransferTest : public testing::TestWithParam<Way> {
 protected:
  BackingTransferTest() : file_(MakeSparseFile(path_, kSize)) {
    auto opened = BackingFile::Open(
        path_,
        {.direct = GetParam().direct, .min_granule = GetParam().min_granule});
    EXPECT_THAT(opened, IsOk());
    if (opened.ok()) backing_ = *std::move(opened);
  }

  absl::Status Run(Operation operation, uint64_t offset, uint64_t length,
                   std::span<std::byte> bytes = {}) {
    absl::Status result = absl::UnknownError("no answer");
    BackingRequest request;
    request.operation = operation;
    request.offset = offset;
    request.length = length;
    if (!bytes.empty()) {
      // Two buffers, not of whole sectors.
      const size_t first = bytes.size() / 2 - 100;
      request.buffers = {bytes.first(first), bytes.subspan(first)};
    }
    request.done = [&](absl::Status status) { result = std::move(status); };
    BackingTransfer transfer(*backing_, std::move(request));
    while (!transfer.is_finished()) {
      ++calls_;
      transfer.Advance(Make(transfer.call()));
    }
    transfer.Finish();
    return result;
  }

  // How many bytes the system says it moved, or -errno.
  int64_t Make(const BackingCall& call) {
    if (random_.Percent(20)) return random_.Percent(50) ? -EINTR : -EAGAIN;
    switch (call.function) {
      case BackingCall::Function::kFdatasync:
        return fdatasync(call.fd);
      case BackingCall::Function::kFallocate:
        return fallocate(call.fd, call.mode, call.offset, call.length) == 0
                   ? 0
                   : -errno;
      case BackingCall::Function::kWritev: {
        const ssize_t count =
            pwritev(call.fd, call.buffers, call.buffer_count, call.offset);
        return count < 0 ? -errno : Beginning(call, count);
      }
      case BackingCall::Function::kReadv:
        break;
    }
    const ssize_t count =
        preadv(call.fd, call.buffers, call.buffer_count, call.offset);
    if (count <= 0) return count < 0 ? -errno : 0;
    const ssize_t told = Beginning(call, count);
    ssize_t at = 0;
    for (unsigned i = 0; i < call.buffer_count; ++i) {
      auto* bytes = static_cast<char*>(call.buffers[i].iov_base);
      const ssize_t size = call.buffers[i].iov_len;
      for (ssize_t j = std::max<ssize_t>(told - at, 0); j < size; ++j) {
        bytes[j] = '?';
      }
      at += size;
    }
    return told;
  }

  // Direct access moves whole sectors.
  int64_t Beginning(const BackingCall& call, int64_t count) {
    const int64_t told = random_.Between(1, count);
    if (call.fd != backing_->direct_fd()) return told;
    return std::min<int64_t>(RoundUp(told, kSectorSize), count);
  }

  TestDirectory directory_;
  const std::string path_ = directory_.File("backing");
  FileDescriptor file_;
  std::unique_ptr<BackingFile> backing_;
  Random random_{7};
  int calls_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Way, BackingTransferTest,
                         testing::Values(Way{"Direct", true, 0},
                                         Way{"Pages", true, 4096},
                                         Way{"Buffered", false, 0}),
                         [](const auto& info) { return info.param.name; });

TEST_P(BackingTransferTest, ShortTransfersAreContinuedToTheEnd) {
  std::vector<std::byte> model(kSize);
  for (int i = 0; i < 300; ++i) {
    const uint64_t offset = random_.Below(kSize / kSectorSize) * kSectorSize;
    const uint64_t length =
        std::min(random_.Between(1, 64) * kSectorSize, kSize - offset);
    SCOPED_TRACE(testing::Message() << i << ": " << length << " at " << offset);
    const auto part = std::span(model).subspan(offset, length);
    TestBuffer bytes(length, random_.Percent(50) ? 0 : 8);
    switch (random_.Below(4)) {
      case 0:
        ASSERT_THAT(Run(Operation::kZero, offset, length), IsOk());
        std::fill(part.begin(), part.end(), std::byte{0});
        break;
      case 1:
        ASSERT_THAT(Run(Operation::kRead, offset, length, bytes.bytes()),
                    IsOk());
        ASSERT_TRUE(SameBytes(bytes.bytes(), part));
        break;
      default:
        FillPattern(bytes.bytes(), i);
        std::copy(bytes.bytes().begin(), bytes.bytes().end(), part.begin());
        ASSERT_THAT(Run(Operation::kWrite, offset, length, bytes.bytes()),
                    IsOk());
        ASSERT_TRUE(SameBytes(bytes.bytes(), part));  // unchanged
    }
  }
  ASSERT_THAT(Run(Operation::kFlush, 0, 0), IsOk());

  std::vector<std::byte> content(kSize);
  ASSERT_THAT(ReadFully(path_, file_.get(), 0, content), IsOk());
  EXPECT_TRUE(SameBytes(content, model));
  EXPECT_GT(calls_, 600);  // short ones there were
}

TEST_P(BackingTransferTest, FileThatEndsInMidRequestIsAnError) {
  ASSERT_EQ(ftruncate(file_.get(), 64 * kKiB + 700), 0);
  TestBuffer bytes(16 * kKiB);
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(Run(Operation::kRead, 60 * kKiB, 16 * kKiB, bytes.bytes()),
                StatusIs(absl::StatusCode::kUnavailable,
                         testing::HasSubstr("become smaller")));
  }
}

}  // namespace
}  // namespace pcachefs
