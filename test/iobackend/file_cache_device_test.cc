// Proves the promises of cache devices that are files: contents, reads without
// waiting, and that a failed write or persist is final (C9). The functions of
// the system that this file defines stand in front of the real ones and fail on
// demand.

#include "iobackend/file_cache_device.h"

#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <string>
#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/iobackend/test_files.h"
#include "test/testing/status_matchers.h"

namespace {

std::atomic<int> persists = 0;
std::atomic<int> persist_failures = 0;  // to come
std::atomic<int> interruptions = 0;     // to come
std::atomic<bool> short_transfers = false;
std::atomic<int> nowait_error = 0;
std::atomic<int> waiting_reads = 0;

// True for one of `count` calls.
bool Take(std::atomic<int>& count) {
  int left = count;
  while (left > 0 && !count.compare_exchange_weak(left, left - 1)) {
  }
  return left > 0;
}

template <typename Function>
Function Real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" int fdatasync(int fd) {
  static auto real = Real<int (*)(int)>("fdatasync");
  ++persists;
  errno = EIO;
  return Take(persist_failures) ? -1 : real(fd);
}

extern "C" ssize_t pwrite(int fd, const void* bytes, size_t count,
                          off_t offset) {
  static auto real =
      Real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  errno = EINTR;
  if (Take(interruptions)) return -1;
  return real(fd, bytes, short_transfers ? (count + 1) / 2 : count, offset);
}

extern "C" ssize_t pread(int fd, void* bytes, size_t count, off_t offset) {
  static auto real = Real<ssize_t (*)(int, void*, size_t, off_t)>("pread");
  ++waiting_reads;
  errno = EINTR;
  if (Take(interruptions)) return -1;
  return real(fd, bytes, short_transfers ? (count + 1) / 2 : count, offset);
}

extern "C" ssize_t preadv2(int fd, const iovec* buffers, int count,
                           off_t offset, int flags) {
  static auto real =
      Real<ssize_t (*)(int, const iovec*, int, off_t, int)>("preadv2");
  if ((flags & RWF_NOWAIT) == 0) ++waiting_reads;
  errno = nowait_error;
  return nowait_error != 0 ? -1 : real(fd, buffers, count, offset, flags);
}

namespace pcachefs {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSize = 1 << 20;

// The parameter: whether ReadAsync() has a ring.
class FileCacheDeviceTest : public ::testing::TestWithParam<bool> {
 protected:
  void Open(bool read_only = false) {
    auto device = FileCacheDevice::Create(
        path_, OpenFile(path_, read_only ? O_RDONLY : O_RDWR),
        {.read_only = read_only, .use_ring = GetParam()});
    ASSERT_THAT(device, IsOk());
    device_ = *std::move(device);
  }

  void SetUp() override {
    persist_failures = 0;
    interruptions = 0;
    short_transfers = false;
    nowait_error = 0;
    waiting_reads = 0;
    file_ = MakeSparseFile(path_, kSize);
    Open();
  }

  absl::Status Write(uint64_t offset, size_t length) {
    return device_->Write(MediaOffset(offset), Pattern(length, offset));
  }

  absl::Status ReadAsync(uint64_t offset, std::span<std::byte> out) {
    absl::Status result;
    absl::Notification done;
    device_->ReadAsync(MediaOffset(offset), out, [&](absl::Status status) {
      result = std::move(status);
      done.Notify();
    });
    done.WaitForNotification();
    return result;
  }

  // Nothing of the file is in memory afterwards.
  void DropPages() {
    ASSERT_EQ(fsync(file_.get()), 0);
    ASSERT_EQ(posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  }

  TestDirectory directory_;
  const std::string path_ = directory_.File("cache");
  FileDescriptor file_;
  std::unique_ptr<FileCacheDevice> device_;
};

INSTANTIATE_TEST_SUITE_P(Ring, FileCacheDeviceTest, ::testing::Bool());

TEST_P(FileCacheDeviceTest, EveryReaderSeesWhatWasWritten) {
  const auto bytes = Pattern(50'001, 1);
  ASSERT_THAT(device_->Write(MediaOffset(777), bytes), IsOk());

  std::vector<std::byte> out(bytes.size());
  EXPECT_THAT(device_->Read(MediaOffset(777), out), IsOk());
  EXPECT_EQ(out, bytes);
  out.assign(out.size(), std::byte{0});
  EXPECT_THAT(ReadAsync(777, out), IsOk());
  EXPECT_EQ(out, bytes);
  // Not of this process alone: a kill does not lose it.
  out.assign(out.size(), std::byte{0});
  EXPECT_THAT(ReadFully(path_, file_.get(), 777, out), IsOk());
  EXPECT_EQ(out, bytes);
}

TEST_P(FileCacheDeviceTest, TellsWhatItIs) {
  EXPECT_EQ(device_->size(), kSize);
  EXPECT_EQ(device_->name(), path_);
  EXPECT_FALSE(device_->persist_is_cheap());
  EXPECT_FALSE(device_->is_volatile());
  EXPECT_EQ(device_->View(MediaOffset(0), 1), nullptr);
}

TEST_P(FileCacheDeviceTest, TryReadDoesNotWaitForTheMedia) {
  ASSERT_THAT(Write(0, 8192), IsOk());
  std::vector<std::byte> out(8192);

  auto ready = device_->TryRead(MediaOffset(0), out);
  ASSERT_THAT(ready, IsOk());
  EXPECT_TRUE(*ready);
  EXPECT_EQ(out, Pattern(8192, 0));

  nowait_error = EAGAIN;
  ready = device_->TryRead(MediaOffset(0), out);
  ASSERT_THAT(ready, IsOk());
  EXPECT_FALSE(*ready);
  EXPECT_EQ(waiting_reads, 0);

  nowait_error = 0;
  out.assign(out.size(), std::byte{0});
  ASSERT_THAT(ReadAsync(0, out), IsOk());
  EXPECT_EQ(out, Pattern(8192, 0));
}

// Whether the kernel has them at once is up to it: it reads ahead even for one
// who does not wait, and fast media may be done before it looks.
TEST_P(FileCacheDeviceTest, TryReadOfDroppedPagesIsRightOrNotReady) {
  ASSERT_THAT(Write(0, 8192), IsOk());
  for (int i = 0; i < 20; ++i) {
    DropPages();
    std::vector<std::byte> out(8192);
    auto ready = device_->TryRead(MediaOffset(0), out);
    ASSERT_THAT(ready, IsOk());
    if (*ready) {
      EXPECT_EQ(out, Pattern(8192, 0));
    }
  }
  EXPECT_EQ(waiting_reads, 0);
}

TEST_P(FileCacheDeviceTest, TryReadWaitsWhereTheSystemCannotTell) {
  ASSERT_THAT(Write(0, 8192), IsOk());
  DropPages();
  nowait_error = EOPNOTSUPP;
  std::vector<std::byte> out(8192);

  auto ready = device_->TryRead(MediaOffset(0), out);

  ASSERT_THAT(ready, IsOk());
  EXPECT_TRUE(*ready);
  EXPECT_EQ(out, Pattern(8192, 0));
}

TEST_P(FileCacheDeviceTest, ShortAndInterruptedTransfersAreContinued) {
  short_transfers = true;
  interruptions = 3;
  ASSERT_THAT(Write(5, 10'000), IsOk());

  interruptions = 3;
  std::vector<std::byte> out(10'000);
  ASSERT_THAT(device_->Read(MediaOffset(5), out), IsOk());

  EXPECT_EQ(out, Pattern(10'000, 5));
}

TEST_P(FileCacheDeviceTest, RangeBeyondTheEndIsRefused) {
  std::vector<std::byte> out(2);
  constexpr auto kOutOfRange = absl::StatusCode::kOutOfRange;

  EXPECT_THAT(device_->Read(MediaOffset(kSize - 1), out),
              StatusIs(kOutOfRange));
  EXPECT_THAT(device_->TryRead(MediaOffset(UINT64_MAX), out),
              StatusIs(kOutOfRange));
  EXPECT_THAT(ReadAsync(kSize - 1, out), StatusIs(kOutOfRange));
  EXPECT_THAT(Write(kSize - 1, 2), StatusIs(kOutOfRange));
  // The caller's mistake is no failure of the device.
  EXPECT_THAT(Write(0, 1), IsOk());
}

TEST_P(FileCacheDeviceTest, FailedPersistIsFinal) {
  ASSERT_THAT(Write(0, 4096), IsOk());
  persist_failures = 1;

  EXPECT_THAT(device_->Persist(), StatusIs(absl::StatusCode::kUnavailable));

  EXPECT_THAT(device_->Persist(), StatusIs(absl::StatusCode::kUnavailable,
                                           HasSubstr("opened again")));
  EXPECT_THAT(Write(0, 4096), StatusIs(absl::StatusCode::kUnavailable));
  std::vector<std::byte> out(4096);
  EXPECT_THAT(device_->Read(MediaOffset(0), out), IsOk());

  device_.reset();
  Open();
  EXPECT_THAT(Write(0, 4096), IsOk());
  EXPECT_THAT(device_->Persist(), IsOk());
}

TEST_P(FileCacheDeviceTest, PersistsAtTheTimeOfAFailureAllFail) {
  constexpr int kThreads = 4;
  for (int round = 0; round < 50; ++round) {
    device_.reset();
    Open();
    persist_failures = 1;
    std::atomic<int> successes = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] { successes += device_->Persist().ok(); });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(successes, 0);
  }
}

TEST_P(FileCacheDeviceTest, FailedWriteIsFinal) {
  ExpectSuccessInChild([this] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {4096, 4096};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    if (!absl::IsUnavailable(Write(4096, 4096))) return 2;
    if (!absl::IsUnavailable(Write(0, 4096))) return 3;
    return absl::IsUnavailable(device_->Persist()) ? 0 : 4;
  });
}

TEST_P(FileCacheDeviceTest, FileThatShrankIsReported) {
  ASSERT_EQ(ftruncate(file_.get(), 4096), 0);
  std::vector<std::byte> out(8192);
  constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

  EXPECT_THAT(device_->Read(MediaOffset(0), out),
              StatusIs(kUnavailable, HasSubstr("offset 4096")));
  EXPECT_THAT(ReadAsync(0, out),
              StatusIs(kUnavailable, HasSubstr("offset 4096")));
  EXPECT_THAT(device_->TryRead(MediaOffset(4096), std::span(out).first(1)),
              StatusIs(kUnavailable));
  EXPECT_THAT(device_->Refresh(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(device_->size(), kSize);
}

TEST_P(FileCacheDeviceTest, GrowthIsSeenByRefresh) {
  ASSERT_EQ(ftruncate(file_.get(), 2 * kSize), 0);
  EXPECT_THAT(Write(kSize, 1), StatusIs(absl::StatusCode::kOutOfRange));

  ASSERT_THAT(device_->Refresh(), IsOk());

  EXPECT_EQ(device_->size(), 2 * kSize);
  EXPECT_THAT(Write(kSize, 1), IsOk());
}

TEST_P(FileCacheDeviceTest, ReadOnlyDeviceRefusesWrites) {
  device_.reset();
  Open(/*read_only=*/true);

  EXPECT_THAT(Write(0, 10), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_P(FileCacheDeviceTest, DestructionWaitsForReads) {
  constexpr int kReads = 500;
  std::vector<std::byte> out(kReads * 512);
  std::atomic<int> done = 0;
  DropPages();

  for (int i = 0; i < kReads; ++i) {
    device_->ReadAsync(MediaOffset(i * 512),
                       std::span(out).subspan(i * 512, 512),
                       [&](absl::Status status) { done += status.ok(); });
  }
  device_.reset();

  EXPECT_EQ(done, kReads);
}

}  // namespace
}  // namespace pcachefs
