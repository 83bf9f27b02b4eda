// What core/ costs without FUSE: cycles of a write and of a hit, replayed keys
// per second, and memory per cached extent.
//
//   bazel run -c opt //test/bench:core_benchmark -- --extents=250000
//
// The cache lies in /dev/shm; the backing device is a sparse file beside it.


#include <stdlib.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/clock.h"
#include "glog/logging.h"
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

class Bench {
 public:
  explicit Bench(uint64_t extents) : extents_(extents), scatter_(8 * extents) {
    directory_ = "/dev/shm/pcachefs-core-benchmark-XXXXXX";
    CHECK(mkdtemp(directory_.data()) != nullptr);
  }
  ~Bench() { std::filesystem::remove_all(directory_); }

  void Run() {
    // Room for payload and log, and 70 % of it not to be exceeded.
    const uint64_t size = RoundUp(extents_ * kBlockSize * 2, 16 * kMiB) +
                          64 * kMiB;
    auto opened = OpenCacheDevice(directory_ + "/cache", {.create_size = size});
    CHECK(opened.ok()) << opened.status();
    device_ = std::move(opened->device);
    CHECK(Cache::Format(*device_, {}, clock_).ok());
    const std::string backing = directory_ + "/backing";
    CHECK(std::ofstream(backing).good());
    // Every eighth extent, so that neighbours do not merge.
    std::filesystem::resize_file(backing, 8 * extents_ * kBlockSize);

    Open();
    const uint64_t before = AnonymousBytes();
    Write();
    ReadHits();
    const uint64_t entries = image_->status().index_entries;
    const uint64_t grown = AnonymousBytes() - before;
    std::printf("memory per extent      %8.1f bytes (%lu index entries)\n",
                static_cast<double>(grown) / extents_, entries);
    CHECK(cache_->Close().ok());
    cache_.reset();
    const double began = Seconds();
    Open();
    const double took = Seconds() - began;
    std::printf("replay                 %8.2f M keys/s (%.0f ms)\n",
                extents_ / took / 1e6, took * 1e3);
    cache_.reset();
  }

 private:
  void Open() {
    auto cache = Cache::Open(*device_, {.start_threads = false}, clock_);
    CHECK(cache.ok()) << cache.status();
    cache_ = *std::move(cache);
    auto backing = OpenBackingDevice(directory_ + "/backing", {});
    CHECK(backing.ok()) << backing.status();
    auto image = cache_->Attach("bench", *std::move(backing), {});
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
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (!absl::ConsumePrefix(&argument, "--extents=") ||
        !absl::SimpleAtoi(argument, &extents) || extents == 0) {
      std::fprintf(stderr, "usage: core_benchmark [--extents=N]\n");
      return 2;
    }
  }
  google::InitGoogleLogging(argv[0]);
  pcachefs::Bench(extents).Run();
}
