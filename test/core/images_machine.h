// A simulated cache device with a cache that several images come to and leave.
// Contents are strings; every call waits. No threads.

#ifndef PCACHEFS_TEST_CORE_IMAGES_MACHINE_H_
#define PCACHEFS_TEST_CORE_IMAGES_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "gtest/gtest.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/scripted_disk.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_clock.h"
#include "test/fakes/random.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {

// Disks outlive it. Not thread-safe.
class ImagesMachine {
 public:
  explicit ImagesMachine(
      const FakeCacheDevice::Options& options = {.size = 40 * kMiB})
      : device_(std::make_unique<FakeCacheDevice>(options)) {
    EXPECT_THAT(Cache::Format(*device_, {.segment_size = kMiB}, clock_),
                IsOk());
  }
  // One with what `other`'s device holds at this instant.
  explicit ImagesMachine(const ImagesMachine& other) : device_(other.device_->Fork()) {}

  absl::Status Open() {
    cache_.reset();
    auto cache = Cache::Open(*device_, {.start_threads = false}, clock_);
    if (cache.ok()) cache_ = *std::move(cache);
    return cache.status();
  }
  void CutPower(uint64_t seed) {
    device_->Stop();
    cache_.reset();
    Random random(seed);
    device_->CutPower(random);
  }
  absl::Status Attach(const std::string& name, ScriptedDisk& disk,
                      uint64_t segments = 10) {
    return cache_
        ->Attach(name, disk.Open("disk of " + name),
                 {.cache_size = segments * kMiB})
        .status();
  }
  absl::Status Write(const std::string& name, uint64_t offset,
                     const std::string& bytes) {
    return Await([&](CachedImage::Done done) {
      cache_->Find(name)->Write({ImageOffset(offset), bytes.size()},
                                std::as_bytes(std::span(bytes)),
                                CachedImage::Payload::kBorrowUntilDone,
                                std::move(done));
    });
  }
  std::string Read(const std::string& name, uint64_t offset, size_t length) {
    std::string bytes(length, '?');
    const absl::Status read = Await([&](CachedImage::Done done) {
      cache_->Find(name)->Read({ImageOffset(offset), length},
                               std::as_writable_bytes(std::span(bytes)),
                               std::move(done));
    });
    return read.ok() ? bytes : std::string(read.message());
  }
  absl::Status Flush(const std::string& name) {
    return Await([&](CachedImage::Done done) {
      cache_->Find(name)->Flush(std::move(done));
    });
  }
  absl::Status Drain(const std::string& name) {
    return Await([&](CachedImage::Done done) {
      cache_->Find(name)->Drain(std::move(done));
    });
  }

  // Background work as long as there is any, and time for it to begin.
  void RunIdle() {
    for (int i = 0; i < 1000; ++i) {
      device_->Step();
      if (!cache_->Step()) clock_.Advance(absl::Milliseconds(10));
    }
  }

  FakeCacheDevice& device() { return *device_; }
  CachedImage& image(const std::string& name) { return *cache_->Find(name); }
  Cache& cache() { return *cache_; }
  bool is_known(const std::string& name) {
    for (const ImageRecord& record : cache_->KnownImages()) {
      if (record.name == name) return true;
    }
    return false;
  }

 private:
  absl::Status Await(const std::function<void(CachedImage::Done)>& begin) {
    auto answer = std::make_shared<std::pair<bool, absl::Status>>();
    begin([answer](absl::Status status) {
      *answer = {true, std::move(status)};
    });
    for (int i = 0; !answer->first; ++i) {
      if (i == 20'000) return absl::InternalError("never answered");
      const bool completed = device_->Step();
      if (!cache_->Step() && !completed) {
        clock_.Advance(absl::Milliseconds(10));
      }
    }
    return answer->second;
  }

  FakeClock clock_;
  std::unique_ptr<FakeCacheDevice> device_;
  std::unique_ptr<Cache> cache_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_CORE_IMAGES_MACHINE_H_
