#include "test/e2e/testing/file_exerciser.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"

namespace pcachefs {
namespace {

constexpr size_t kHistory = 4000;
constexpr uint64_t kLargest = 256 * kKiB;

}  // namespace

// One thread with its part of the file.
class FileExerciser::Worker {
 public:
  Worker(FileExerciser& all, const std::string& path, int index)
      : options_(all.options_),
        model_(all.model_),
        random_(all.randoms_[index]),
        history_(all.histories_[index]),
        begin_(options_.size / options_.threads * index),
        length_(options_.size / options_.threads),
        buffered_(path, O_RDWR),
        direct_(path, O_RDWR | O_DIRECT),
        buffer_(kLargest) {
    struct stat attributes;
    is_block_device_ =
        fstat(direct_.fd(), &attributes) == 0 && S_ISBLK(attributes.st_mode);
    if (!options_.mappings) return;
    void* const mapping = mmap(nullptr, length_, PROT_READ | PROT_WRITE,
                               MAP_SHARED, buffered_.fd(), begin_);
    if (mapping == MAP_FAILED) {
      status_ = absl::ErrnoToStatus(errno, absl::StrCat(path, ": mmap"));
    } else {
      mapping_ = static_cast<char*>(mapping);
    }
  }

  ~Worker() {
    if (mapping_ != nullptr) munmap(mapping_, length_);
  }

  absl::Status Run(uint64_t operations, bool sync,
                   std::atomic<uint64_t>& count) {
    for (uint64_t i = 0; i < operations && status_.ok(); ++i, ++count) Step();
    if (status_.ok() && sync) Sync();
    if (status_.ok() && mapping_ != nullptr &&
        msync(mapping_, length_, MS_SYNC) != 0) {
      Fail(absl::StrCat("msync: ", strerror(errno)));
    }
    return status_;
  }

 private:
  enum class Way { kBuffered, kDirect, kMapped };

  struct Range {
    uint64_t offset;
    uint64_t length;
  };

  void Step() {
    const uint64_t dice = random_() % 100;
    if (dice < 35) {
      Write();
    } else if (dice < 75) {
      Read();
    } else if (dice < 85) {
      Erase("punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    } else if (dice < 93) {
      Erase("zero", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
    } else if (dice < 97) {
      Sync();
    } else if (dice < 98) {
      Truncate();
    } else {
      Note("drop pages", {begin_, length_});
      posix_fadvise(buffered_.fd(), begin_, length_, POSIX_FADV_DONTNEED);
    }
  }

  // Short ones mostly, at all alignments; now and then at an edge of a block.
  Range Choose(uint64_t alignment) {
    const uint64_t most = uint64_t{1} << (random_() % 19);
    uint64_t length = std::min<uint64_t>(1 + random_() % most, kLargest);
    uint64_t offset = random_() % (length_ - kLargest);
    if (random_() % 4 == 0) offset = RoundDown(offset, kBlockSize);
    offset = RoundDown(offset, alignment);
    length = RoundUp(length, alignment);
    return {begin_ + offset, std::min(length, kLargest)};
  }

  uint64_t AlignmentOf(Way way) const {
    return way == Way::kDirect ? std::max(options_.alignment, kSectorSize) : 1;
  }

  Way ChooseWay() {
    switch (random_() % 5) {
      case 0:
      case 1:
        return Way::kBuffered;
      case 2:
        return mapping_ != nullptr ? Way::kMapped : Way::kBuffered;
      default:
        return Way::kDirect;
    }
  }

  static const char* Name(Way way) {
    return way == Way::kBuffered ? "buffered"
           : way == Way::kDirect ? "direct"
                                 : "mapped";
  }

  void Write() {
    const Way way = ChooseWay();
    const Range range = Choose(AlignmentOf(way));
    Note(absl::StrCat("write ", Name(way)), range);
    const absl::Span<char> bytes = buffer_.span().first(range.length);
    FillPattern(bytes, random_(), range.offset);
    if (way == Way::kMapped) {
      memcpy(mapping_ + (range.offset - begin_), bytes.data(), bytes.size());
    } else {
      File& file = way == Way::kDirect ? direct_ : buffered_;
      const ssize_t written = file.Write(range.offset, bytes);
      if (written != static_cast<ssize_t>(bytes.size())) {
        return Fail(absl::StrCat("write: got ", written));
      }
    }
    memcpy(&model_[range.offset], bytes.data(), bytes.size());
  }

  void Read() {
    const Way way = ChooseWay();
    const Range range = Choose(AlignmentOf(way));
    const absl::Span<char> bytes = buffer_.span().first(range.length);
    if (way == Way::kMapped) {
      memcpy(bytes.data(), mapping_ + (range.offset - begin_), bytes.size());
    } else {
      File& file = way == Way::kDirect ? direct_ : buffered_;
      const ssize_t read = file.Read(range.offset, bytes);
      if (read != static_cast<ssize_t>(bytes.size())) {
        return Fail(absl::StrCat("read ", Name(way), " of ", range.length,
                                 " at ", range.offset, ": got ", read));
      }
    }
    const auto wrong = std::mismatch(bytes.begin(), bytes.end(),
                                     model_.begin() + range.offset);
    if (wrong.first == bytes.end()) return;
    const uint64_t place = range.offset + (wrong.first - bytes.begin());
    Fail(absl::StrCat("read ", Name(way), " of ", range.length, " at ",
                      range.offset, ": wrong byte at ", place, ", to which",
                      WhatWasDoneTo(place)));
  }

  void Erase(const char* name, int mode) {
    if (is_block_device_ && random_() % 2 == 0) return Discard();
    const Range range = Choose(options_.alignment);
    Note(name, range);
    if (const int error = buffered_.Allocate(mode, range.offset, range.length);
        error != 0) {
      return Fail(absl::StrCat(name, ": ", strerror(error)));
    }
    memset(&model_[range.offset], 0, range.length);
  }

  // In whole units of what loop devices discard; of others' parts it may pass
  // over some.
  void Discard() {
    const Range range = Choose(kBlockSize);
    Note("discard", range);
    uint64_t argument[2] = {range.offset, range.length};
    if (ioctl(buffered_.fd(), BLKDISCARD, argument) != 0) {
      return Fail(absl::StrCat("discard: ", strerror(errno)));
    }
    memset(&model_[range.offset], 0, range.length);
  }

  void Sync() {
    Note("sync", {begin_, length_});
    const int result =
        random_() % 2 == 0 ? fsync(direct_.fd()) : fdatasync(buffered_.fd());
    if (result != 0) Fail(absl::StrCat("sync: ", strerror(errno)));
  }

  void Truncate() {
    Note("truncate", {begin_, length_});
    struct stat before, after;
    const bool is_refused = ftruncate(buffered_.fd(), begin_ + 4096) != 0;
    if (!is_refused || fstat(buffered_.fd(), &before) != 0 ||
        ftruncate(buffered_.fd(), options_.size + 4096) == 0 ||
        fstat(buffered_.fd(), &after) != 0 || before.st_size != after.st_size) {
      Fail("truncate was not refused");
    }
  }

  void Note(const std::string& what, Range range) {
    if (history_.size() == kHistory) {
      history_.erase(history_.begin(), history_.begin() + kHistory / 2);
    }
    history_.push_back(
        absl::StrCat(what, " ", range.offset, " +", range.length));
    done_.push_back(range);
    if (done_.size() > history_.size()) {
      done_.erase(done_.begin(), done_.end() - history_.size());
    }
  }

  // The last ones, the latest last.
  std::string WhatWasDoneTo(uint64_t place) const {
    std::vector<std::string> lines;
    const size_t skipped = history_.size() - done_.size();
    for (size_t i = 0; i < done_.size(); ++i) {
      if (place >= done_[i].offset &&
          place - done_[i].offset < done_[i].length) {
        lines.push_back(absl::StrCat("\n  ", history_[skipped + i]));
      }
    }
    if (lines.size() > 12) lines.erase(lines.begin(), lines.end() - 12);
    return absl::StrJoin(lines, "");
  }

  void Fail(const std::string& why) {
    status_ = absl::DataLossError(absl::StrCat(
        "seed ", options_.seed, ", part at ", begin_, ": ", why, "\nafter ",
        history_.empty() ? "nothing" : history_.back()));
  }

  const Options& options_;
  std::string& model_;
  std::mt19937_64& random_;
  std::vector<std::string>& history_;
  std::vector<Range> done_;  // of the end of the history
  const uint64_t begin_;
  const uint64_t length_;
  File buffered_;
  File direct_;
  Buffer buffer_;
  bool is_block_device_ = false;
  char* mapping_ = nullptr;
  absl::Status status_;
};

FileExerciser::FileExerciser(const Options& options)
    : options_(options),
      model_(options.size, '\0'),
      histories_(options.threads) {
  for (int i = 0; i < options.threads; ++i) {
    randoms_.emplace_back(options.seed * 1000 + i);
  }
}

absl::Status FileExerciser::Run(const std::string& path, uint64_t operations,
                                bool sync) {
  std::vector<absl::Status> results(options_.threads);
  std::vector<std::thread> threads;
  for (int i = 0; i < options_.threads; ++i) {
    threads.emplace_back([&, i] {
      Worker worker(*this, path, i);
      results[i] = worker.Run(operations, sync, operation_count_);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& result : results) {
    if (!result.ok()) return result;
  }
  return absl::OkStatus();
}

absl::Status FileExerciser::Check(const std::string& path) {
  File file(path, O_RDONLY);
  Buffer buffer(kMiB);
  for (uint64_t at = 0; at < options_.size; at += buffer.size()) {
    const absl::Span<char> bytes = buffer.span();
    const ssize_t read = file.Read(at, bytes);
    if (read != static_cast<ssize_t>(bytes.size())) {
      return absl::DataLossError(
          absl::StrCat(path, ": read at ", at, ": got ", read));
    }
    const auto wrong =
        std::mismatch(bytes.begin(), bytes.end(), model_.begin() + at);
    if (wrong.first != bytes.end()) {
      return absl::DataLossError(absl::StrCat(
          path, ": seed ", options_.seed, ", after ", operation_count_.load(),
          " operations: wrong byte at ", at + (wrong.first - bytes.begin())));
    }
  }
  return absl::OkStatus();
}

}  // namespace pcachefs
