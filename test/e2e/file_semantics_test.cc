// The image is a plain file of fixed size: what read, write, mmap, truncate,
// locks and the like do on it is what programs expect.

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AnyOf;

class FileSemanticsTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_THAT(served_.Start(), IsOk()); }

  ServedCache served_{{.backing_size = 64 * kMiB}};
};

TEST_F(FileSemanticsTest, AttributesAreThoseOfADisk) {
  struct stat attributes;
  ASSERT_EQ(stat(served_.image().c_str(), &attributes), 0);
  struct statfs filesystem;
  ASSERT_EQ(statfs(served_.image().c_str(), &filesystem), 0);

  EXPECT_EQ(attributes.st_mode, S_IFREG | 0600u);
  EXPECT_EQ(attributes.st_size, 64 << 20);
  EXPECT_EQ(attributes.st_nlink, 1u);
  EXPECT_EQ(attributes.st_blocks, 0) << "nothing is allocated yet";
  // Loop takes it for the discard granularity.
  EXPECT_EQ(filesystem.f_bsize, 4096);
}

TEST_F(FileSemanticsTest, RootShowsTheImageAndTheControlTree) {
  std::set<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(served_.mount())) {
    names.insert(entry.path().filename());
  }

  EXPECT_THAT(names, testing::ElementsAre(".pcache", "disk"));
}

TEST_F(FileSemanticsTest, SpaceTakenIsTold) {
  ASSERT_THAT(WritePattern(served_.image(), 1, 0, 16 * kMiB), IsOk());
  ASSERT_THAT(served_.Control("drain"), Succeeds());

  struct stat attributes;
  ASSERT_EQ(stat(served_.image().c_str(), &attributes), 0);
  EXPECT_GE(attributes.st_blocks * 512, 16 << 20);
  EXPECT_LE(attributes.st_blocks * 512, 17 << 20);
}

TEST_F(FileSemanticsTest, DirectTransfersOfSectors) {
  File image(served_.image(), O_RDWR | O_DIRECT);
  Buffer buffer(64 * kKiB);

  for (const size_t length : {512, 1024, 3584, 4096, 4608, 65536}) {
    for (const uint64_t offset : {0, 512, 7168, 1048064, 2097152}) {
      const auto bytes = buffer.span().first(length);
      FillPattern(bytes, length, offset);
      ASSERT_EQ(image.Write(offset, bytes), static_cast<ssize_t>(length));
      memset(bytes.data(), 0, length);
      ASSERT_EQ(image.Read(offset, bytes), static_cast<ssize_t>(length));
      EXPECT_TRUE(HasPattern(bytes, length, offset))
          << length << " at " << offset;
    }
  }
}

// Against the same operations on memory.
TEST_F(FileSemanticsTest, UnalignedBufferedTransfers) {
  constexpr size_t kSize = 2 * kMiB;
  constexpr uint64_t kSeed = 4711;
  std::mt19937_64 random(kSeed);
  std::string model(kSize, '\0');
  std::string bytes;
  File image(served_.image(), O_RDWR);

  for (int i = 0; i < 2000; ++i) {
    const size_t length = 1 + random() % (i % 2 == 0 ? 100 : 20000);
    const uint64_t offset = random() % (kSize - length);
    bytes.resize(length);
    if (random() % 2 == 0) {
      FillPattern(absl::MakeSpan(bytes), i, offset);
      ASSERT_EQ(image.Write(offset, bytes), static_cast<ssize_t>(length));
      model.replace(offset, length, bytes);
    } else {
      ASSERT_EQ(image.Read(offset, absl::MakeSpan(bytes)),
                static_cast<ssize_t>(length));
      ASSERT_EQ(memcmp(bytes.data(), &model[offset], length), 0)
          << "seed " << kSeed << ", operation " << i << ": " << length << " at "
          << offset;
    }
  }
  ASSERT_EQ(image.Sync(), 0);
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  bytes.resize(kSize);
  File backing(served_.backing(), O_RDONLY);
  ASSERT_EQ(backing.Read(0, absl::MakeSpan(bytes)),
            static_cast<ssize_t>(kSize));
  EXPECT_TRUE(bytes == model);
}

// A kernel that refuses them is as good as one that carries them out.
TEST_F(FileSemanticsTest, UnalignedDirectWriteIsRefusedOrRight) {
  ASSERT_THAT(WritePattern(served_.image(), 1, 0, kMiB), IsOk());
  File image(served_.image(), O_RDWR | O_DIRECT);
  Buffer buffer(4096);
  const auto bytes = buffer.span().first(1000);
  FillPattern(bytes, 2, 5000);

  const ssize_t written = image.Write(5000, bytes);

  ASSERT_THAT(written, AnyOf(1000, -EINVAL));
  EXPECT_THAT(CheckPattern(served_.image(), 1, 0, 5000), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), written > 0 ? 2 : 1, 5000, 1000),
              IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 1, 6000, kMiB - 6000), IsOk());
}

TEST_F(FileSemanticsTest, ReadsEndAtTheSize) {
  File image(served_.image(), O_RDONLY | O_DIRECT);
  Buffer buffer(4096);

  EXPECT_EQ(image.Read(served_.size() - 512, buffer.span()), 512);
  EXPECT_EQ(image.Read(served_.size(), buffer.span()), 0);
  EXPECT_EQ(image.Read(served_.size() + kMiB, buffer.span()), 0);
}

TEST_F(FileSemanticsTest, WritesEndAtTheSize) {
  for (const int flags : {O_RDWR, O_RDWR | O_DIRECT}) {
    SCOPED_TRACE(flags);
    File image(served_.image(), flags);
    Buffer buffer(4096);
    FillPattern(buffer.span(), 3, served_.size() - 512);

    EXPECT_EQ(image.Write(served_.size() - 512, buffer.span()), 512);
    EXPECT_THAT(image.Write(served_.size(), buffer.span()),
                AnyOf(-ENOSPC, -EFBIG));
    EXPECT_THAT(image.Write(served_.size() + kMiB, buffer.span()),
                AnyOf(-ENOSPC, -EFBIG));

    struct stat attributes;
    ASSERT_EQ(stat(served_.image().c_str(), &attributes), 0);
    EXPECT_EQ(attributes.st_size, 64 << 20);
    EXPECT_THAT(CheckPattern(served_.image(), 3, served_.size() - 512, 512),
                IsOk());
  }
}

TEST_F(FileSemanticsTest, IsNotTruncated) {
  ASSERT_THAT(WritePattern(served_.image(), 1, 0, kMiB), IsOk());

  EXPECT_NE(truncate(served_.image().c_str(), 4096), 0);
  EXPECT_NE(truncate(served_.image().c_str(), served_.size() + 4096), 0);
  EXPECT_EQ(truncate(served_.image().c_str(), served_.size()), 0);
  // As a shell's ">" does; whether it is refused or ignored.
  int error = 0;
  const File emptied(served_.image(), O_WRONLY | O_TRUNC, &error);

  struct stat attributes;
  ASSERT_EQ(stat(served_.image().c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_size, 64 << 20);
  EXPECT_THAT(CheckPattern(served_.image(), 1, 0, kMiB), IsOk());
}

TEST_F(FileSemanticsTest, NamesAreFixed) {
  const std::string other = served_.mount() + "/other";
  int error = 0;

  EXPECT_NE(unlink(served_.image().c_str()), 0);
  EXPECT_NE(rename(served_.image().c_str(), other.c_str()), 0);
  EXPECT_NE(link(served_.image().c_str(), other.c_str()), 0);
  EXPECT_NE(mkdir(other.c_str(), 0700), 0);
  const File created(other, O_CREAT | O_WRONLY, &error);
  EXPECT_NE(error, 0);

  EXPECT_EQ(access(served_.image().c_str(), F_OK), 0);
}

TEST_F(FileSemanticsTest, ParallelDirectWritesToDisjointRanges) {
  constexpr int kThreads = 8;
  const uint64_t share = served_.size() / kThreads;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this, share, i] {
      File image(served_.image(), O_WRONLY | O_DIRECT);
      Buffer buffer(16 * kKiB);
      for (uint64_t at = i * share; at < (i + 1) * share; at += buffer.size()) {
        FillPattern(buffer.span(), 1, at);
        ASSERT_EQ(image.Write(at, buffer.span()),
                  static_cast<ssize_t>(buffer.size()));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_THAT(CheckPattern(served_.image(), 1, 0, served_.size()), IsOk());
}

// One descriptor's direct writes and another's buffered reads see each other.
TEST_F(FileSemanticsTest, BufferedReadsSeeDirectWrites) {
  File direct(served_.image(), O_RDWR | O_DIRECT);
  File buffered(served_.image(), O_RDWR);
  Buffer buffer(4096);
  for (uint64_t version = 1; version <= 50; ++version) {
    FillPattern(buffer.span(), version, 8192);
    ASSERT_EQ(direct.Write(8192, buffer.span()), kBlock);
    ASSERT_EQ(buffered.Read(8192, buffer.span()), kBlock);
    EXPECT_TRUE(HasPattern(buffer.span(), version, 8192));
    FillPattern(buffer.span(), version + 1000, 8192);
    ASSERT_EQ(buffered.Write(8192, buffer.span()), kBlock);
    ASSERT_EQ(direct.Read(8192, buffer.span()), kBlock);
    EXPECT_TRUE(HasPattern(buffer.span(), version + 1000, 8192));
  }
}

TEST_F(FileSemanticsTest, MappingShowsTheContentWhereThereIsOne) {
  ASSERT_THAT(WritePattern(served_.image(), 1, 0, kMiB), IsOk());
  File image(served_.image(), O_RDWR);

  for (const int type : {MAP_PRIVATE, MAP_SHARED}) {
    void* mapping = mmap(nullptr, kMiB, PROT_READ, type, image.fd(), 0);
    if (mapping == MAP_FAILED) {
      EXPECT_EQ(errno, ENODEV);
      continue;
    }
    EXPECT_TRUE(
        HasPattern(absl::MakeConstSpan(static_cast<const char*>(mapping),
                                       static_cast<size_t>(kMiB)),
                   1, 0));
    munmap(mapping, kMiB);
  }
}

// QEMU's; the kernel keeps them if the daemon leaves them alone.
TEST_F(FileSemanticsTest, LocksHoldBetweenDescriptors) {
  File first(served_.image(), O_RDWR);
  File second(served_.image(), O_RDWR);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = 100;
  lock.l_len = 1;

  EXPECT_EQ(fcntl(first.fd(), F_OFD_SETLK, &lock), 0);
  EXPECT_NE(fcntl(second.fd(), F_OFD_SETLK, &lock), 0);
  EXPECT_EQ(errno, EAGAIN);
}

}  // namespace
}  // namespace pcachefs
