#include "test/e2e/testing/acknowledged_writer.h"

#include <fcntl.h>

#include <algorithm>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/process.h"

namespace pcachefs {
namespace {

constexpr uint64_t kMaxBlocks = 8;
constexpr int kWritesPerFlush = 50;

bool IsOfVersion(absl::Span<const char> bytes, uint64_t version,
                 uint64_t offset) {
  return version == 0 ? IsZero(bytes) : HasPattern(bytes, version, offset);
}

}  // namespace

AcknowledgedWriter::AcknowledgedWriter(std::string image, uint64_t size,
                                       int thread_count)
    : image_(std::move(image)),
      thread_count_(thread_count),
      blocks_(size / kBlockSize) {}

void AcknowledgedWriter::WriteUntil(uint64_t write_count, uint64_t seed,
                                    absl::FunctionRef<void()> crash) {
  const uint64_t wanted = acknowledged_count_ + write_count;
  std::atomic<int> running = thread_count_;
  std::vector<std::thread> threads;
  for (int i = 0; i < thread_count_; ++i) {
    threads.emplace_back([this, &running, i, seed] {
      Write(i, seed * thread_count_ + i);
      --running;
    });
  }
  // Writers that all met an error earlier are for the caller to notice.
  WaitUntil(absl::Minutes(3),
            [&] { return acknowledged_count_ >= wanted || running == 0; });
  crash();
  for (std::thread& thread : threads) thread.join();
}

void AcknowledgedWriter::Write(int thread, uint64_t seed) {
  const uint64_t share = blocks_.size() / thread_count_;
  std::mt19937_64 random(seed);
  File file(image_, O_RDWR | O_DIRECT);
  Buffer buffer(kMaxBlocks * kBlockSize);
  for (int i = 1;; ++i) {
    const uint64_t count = 1 + random() % kMaxBlocks;
    const uint64_t first = thread * share + random() % (share - count + 1);
    if (!WriteOnce(file, buffer, first, count)) return;
    if (i % kWritesPerFlush == 0 && file.Sync() != 0) return;
  }
}

bool AcknowledgedWriter::WriteOnce(File& file, Buffer& buffer, uint64_t first,
                                   uint64_t count) {
  const uint64_t version = ++last_version_;
  const uint64_t offset = first * kBlockSize;
  const absl::Span<char> bytes = buffer.span().first(count * kBlockSize);
  FillPattern(bytes, version, offset);
  for (uint64_t i = first; i < first + count; ++i) {
    blocks_[i].attempted = version;
  }
  const ssize_t written = file.Write(offset, bytes);
  if (written != static_cast<ssize_t>(bytes.size())) return false;
  for (uint64_t i = first; i < first + count; ++i) {
    blocks_[i].acknowledged = version;
  }
  ++acknowledged_count_;
  return true;
}

absl::Status AcknowledgedWriter::Check(const std::string& path) {
  File file(path, O_RDONLY);
  Buffer buffer(kMiB);
  int wrong = 0;
  std::string first_wrong;
  for (uint64_t i = 0; i < blocks_.size(); ++i) {
    Block& block = blocks_[i];
    const uint64_t offset = i * kBlockSize;
    if (offset % kMiB == 0) file.Read(offset, buffer.span());
    const auto bytes = absl::MakeConstSpan(buffer.data() + offset % kMiB,
                                           static_cast<size_t>(kBlockSize));
    if (IsOfVersion(bytes, block.attempted, offset)) {
      block.acknowledged = block.attempted;
    } else if (!IsOfVersion(bytes, block.acknowledged, offset)) {
      if (wrong++ == 0) {
        first_wrong =
            absl::StrCat("offset ", offset, ", acknowledged ",
                         block.acknowledged, ", attempted ", block.attempted,
                         IsZero(bytes) ? ", got zeroes" : "");
      }
    }
  }
  if (wrong == 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      path, ": ", wrong, " blocks of ", blocks_.size(),
      " are neither of the last acknowledged write nor later; the first: ",
      first_wrong));
}

}  // namespace pcachefs
