// What core/ costs without FUSE: cycles of a write and of a hit, replayed keys
// per second, and memory per cached extent.
//
//   bazel run -c opt //test/bench:core_benchmark -- --extents=250000
//
// The cache lies in /dev/shm; the backing device is a sparse file beside it.
// --without_payload: payload is thrown away, so that there is room for the
// metadata of very many extents; nothing is read then.

#include <stdlib.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/clock.h"
#include "glog/logging.h"
#include "iobackend/cache_device.h"
#include "iobackend/open_device.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

class SystemTime : public Clock {
 public:
  absl::Time Now() override { return absl::Now(); }
  int64_t NowNanos() override {
    return std::chrono::steady_clock::now().time_since_epoch().count();
  }
  absl::Time WallNow() override { return absl::Now(); }
};

double Seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Memory of our own: pages of the mapped cache are not the index's.
uint64_t AnonymousBytes() {
  uint64_t kilobytes = 0;
  std::FILE* file = std::fopen("/proc/self/status", "r");
  CHECK(file != nullptr);
  char line[256];
  while (std::fgets(line, sizeof(line), file) != nullptr) {
    absl::string_view rest(line);
    if (!absl::ConsumePrefix(&rest, "RssAnon:")) continue;
    rest = absl::StripSuffix(absl::StripAsciiWhitespace(rest), " kB");
    CHECK(absl::SimpleAtoi(rest, &kilobytes));
  }
  std::fclose(file);
  return kilobytes * kKiB;
}

// A full cycle over [0, count) in scattered order.
class Scatter {
 public:
  explicit Scatter(uint64_t count) : count_(count) {
    while (Gcd(step_, count_) != 1) ++step_;
  }
  uint64_t operator()(uint64_t i) const { return i * step_ % count_; }

 private:
  static uint64_t Gcd(uint64_t a, uint64_t b) { return b ? Gcd(b, a % b) : a; }
  const uint64_t count_;
  uint64_t step_ = 7368787;
};

// Keeps all but whole blocks, which are payload, or blank pages of the log.
class MetadataDevice : public CacheDevice {
 public:
  explicit MetadataDevice(std::unique_ptr<CacheDevice> device)
      : device_(std::move(device)) {}

  uint64_t size() const override { return device_->size(); }
  const std::string& name() const override { return device_->name(); }
  bool is_volatile() const override { return device_->is_volatile(); }
  bool persist_is_cheap() const override { return device_->persist_is_cheap(); }
  absl::Status Read(MediaOffset offset, std::span<std::byte> out) override {
    return device_->Read(offset, out);
  }
  absl::StatusOr<bool> TryRead(MediaOffset offset,
                               std::span<std::byte> out) override {
    return device_->TryRead(offset, out);
  }
  void ReadAsync(MediaOffset offset, std::span<std::byte> out,
                 absl::AnyInvocable<void(absl::Status)> done) override {
    device_->ReadAsync(offset, out, std::move(done));
  }
  absl::Status Write(MediaOffset offset,
                     std::span<const std::byte> bytes) override {
    if (bytes.size() == kBlockSize) return absl::OkStatus();
    return device_->Write(offset, bytes);
  }
  absl::Status Persist() override { return device_->Persist(); }
  const std::byte* View(MediaOffset offset, uint64_t length) override {
    return device_->View(offset, length);
  }
  absl::Status Refresh() override { return device_->Refresh(); }

 private:
  const std::unique_ptr<CacheDevice> device_;
};

class Bench {
 public:
  Bench(uint64_t extents, bool with_payload)
      : extents_(extents),
        with_payload_(with_payload),
        scatter_(8 * extents) {
    directory_ = "/dev/shm/pcachefs-core-benchmark-XXXXXX";
    CHECK(mkdtemp(directory_.data()) != nullptr);
  }
  ~Bench() { std::filesystem::remove_all(directory_); }

  void Run() {
    // Room for payload and log, and 70 % of it not to be exceeded.
    const uint64_t size = RoundUp(extents_ * kBlockSize * 2, 16 * kMiB) +
                          64 * kMiB;
    const std::string path = directory_ + "/cache";
    if (!with_payload_) {
      CHECK(std::ofstream(path).good());
      std::filesystem::resize_file(path, size);
    }
    auto opened = OpenCacheDevice(path, {.create_size = size});
    CHECK(opened.ok()) << opened.status();
    device_ = std::move(opened->device);
    if (!with_payload_) {
      device_ = std::make_unique<MetadataDevice>(std::move(device_));
    }
    CHECK(Cache::Format(*device_, {}, clock_).ok());
    const std::string backing = directory_ + "/backing";
    CHECK(std::ofstream(backing).good());
    // Every eighth extent, so that neighbours do not merge.
    std::filesystem::resize_file(backing, 8 * extents_ * kBlockSize);

    Open();
    const uint64_t before = AnonymousBytes();
    Write();
    if (with_payload_) ReadHits();
    const uint64_t entries = image_->status().index_entries;
    const uint64_t grown = AnonymousBytes() - before;
    std::printf("memory per extent      %8.1f bytes (%lu index entries)\n",
                static_cast<double>(grown) / extents_, entries);
    CHECK(cache_->Close().ok());
    cache_.reset();
    Replay("replay, one thread", /*threads=*/false);
    Replay("replay, all threads", /*threads=*/true);
  }

 private:
  void Replay(const char* what, bool threads) {
    const double began = Seconds();
    Open(threads);
    const double took = Seconds() - began;
    CHECK(cache_->Close().ok());
    cache_.reset();
    std::printf("%-24s %6.2f M keys/s (%.0f ms)\n", what,
                extents_ / took / 1e6, took * 1e3);
  }

  void Open(bool threads = false) {
    auto cache = Cache::Open(*device_, {.start_threads = threads}, clock_);
    CHECK(cache.ok()) << cache.status();
    cache_ = *std::move(cache);
    auto backing = OpenBackingDevice(directory_ + "/backing", {});
    CHECK(backing.ok()) << backing.status();
    // Without payload nothing can be written back.
    auto image = cache_->Attach("bench", *std::move(backing),
                                {.read_only = threads && !with_payload_});
    CHECK(image.ok()) << image.status();
    image_ = *image;
  }

  ImageRange Extent(uint64_t i) const {
    return {ImageOffset(scatter_(i) * kBlockSize), kBlockSize};
  }

  void Write() {
    const std::vector<std::byte> bytes(kBlockSize, std::byte{7});
    const double began = Seconds();
    for (uint64_t i = 0; i < extents_; ++i) {
      image_->Write(Extent(i), bytes, CachedImage::Payload::kBorrowUntilDone,
                    [](absl::Status status) { CHECK(status.ok()) << status; });
    }
    Report("acknowledged 4 KiB write", Seconds() - began);
  }

  void ReadHits() {
    std::vector<std::byte> bytes(kBlockSize);
    const double began = Seconds();
    for (uint64_t i = 0; i < extents_; ++i) {
      image_->Read(Extent(i), bytes,
                   [](absl::Status status) { CHECK(status.ok()) << status; });
    }
    Report("4 KiB read hit", Seconds() - began);
  }

  void Report(const char* what, double seconds) {
    std::printf("%-24s %6.0f ns (%.2f M/s on one thread)\n", what,
                seconds / extents_ * 1e9, extents_ / seconds / 1e6);
  }

  const uint64_t extents_;
  const bool with_payload_;
  const Scatter scatter_;
  std::string directory_;
  SystemTime clock_;
  std::unique_ptr<CacheDevice> device_;
  std::unique_ptr<Cache> cache_;
  CachedImage* image_ = nullptr;
};

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) {
  uint64_t extents = 250000;
  bool with_payload = true;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (argument == "--without_payload") {
      with_payload = false;
    } else if (!absl::ConsumePrefix(&argument, "--extents=") ||
               !absl::SimpleAtoi(argument, &extents) || extents == 0) {
      std::fprintf(stderr,
                   "usage: core_benchmark [--extents=N] [--without_payload]\n");
      return 2;
    }
  }
  google::InitGoogleLogging(argv[0]);
  // As the daemon does.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  pcachefs::Bench(extents, with_payload).Run();
}
