// A cache of one image over a simulated cache device and a scripted disk:
// what most tests of core/ are about. Contents are strings.
//
//   CoreMachine machine;
//   ASSERT_THAT(machine.Start(), IsOk());
//   ASSERT_THAT(machine.Write(0, std::string(4096, 'a')), IsOk());
//   EXPECT_THAT(machine.Read(0, 4096), IsOkAndHolds(std::string(4096, 'a')));
//
// No threads: background work happens in Step(), or while a call waits.

#ifndef PCACHEFS_TEST_CORE_CORE_MACHINE_H_
#define PCACHEFS_TEST_CORE_CORE_MACHINE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/image_core.h"
#include "core/options.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/scripted_disk.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_clock.h"

namespace pcachefs {

// A request that was begun.
struct Answer {
  bool done = false;
  absl::Status status;
  std::string bytes;  // of a read or write
};
using Pending = std::shared_ptr<Answer>;

// Not thread-safe.
class CoreMachine {
 public:
  struct Options {
    FakeCacheDevice::Options cache = {.size = 20 * kMiB};
    uint64_t image_size = 8 * kMiB;
    FormatOptions format = {.segment_size = kMiB};
    // Reads just what it is asked for.
    CacheOptions cache_options = {.read_ahead = 0};
    ImageOptions image;
    CachedImage::Buffer buffer = CachedImage::Buffer::kUntilDestroyed;
  };

  CoreMachine() : CoreMachine(Options()) {}
  explicit CoreMachine(const Options& options);
  ~CoreMachine();

  // Opens the cache and attaches the image. Requires: off.
  absl::Status Start();
  // A clean stop.
  absl::Status Stop();
  // The daemon dies, or the machine loses power too, at this instant.
  void Kill();
  void CutPower(uint64_t seed);

  // StartX returns when the request is answered or has to wait; X waits.
  Pending StartRead(uint64_t offset, uint64_t length);
  Pending StartWrite(uint64_t offset, const std::string& bytes);
  Pending StartZero(uint64_t offset, uint64_t length);
  Pending StartDiscard(uint64_t offset, uint64_t length);
  Pending StartFlush();
  Pending StartDrain();
  Pending StartSetMode(CacheMode mode);
  absl::StatusOr<std::string> Read(uint64_t offset, uint64_t length);
  absl::Status Write(uint64_t offset, const std::string& bytes);
  absl::Status Zero(uint64_t offset, uint64_t length);
  absl::Status Discard(uint64_t offset, uint64_t length);
  absl::Status Flush();
  absl::Status Drain();
  absl::Status SetMode(CacheMode mode);

  // Background work, time and completions until the request is answered; an
  // error if it never is.
  absl::Status Await(const Pending& pending);
  // Background work as long as there is any; time stands still. False if it
  // never ends.
  bool RunIdle();

  // Where the payload of an image's sector stands; 0 if it has none.
  uint64_t PlaceOf(uint64_t offset);
  uint64_t PlaceOf(const LogPosition& position);
  // Breaks a byte there.
  void Corrupt(uint64_t place) { cache_device_.FlipBit(place, 3); }
  // What a power cut that keeps nothing would leave.
  LogTails DurableTails();

  FakeCacheDevice& cache_device() { return cache_device_; }
  ScriptedDisk& disk() { return disk_; }
  FakeClock& clock() { return clock_; }
  bool is_on() const { return image_ != nullptr; }
  Cache& cache() { return *cache_; }
  CachedImage& image() { return *image_; }
  ImageCore& core() { return image_->core(); }
  ImageStatus status() { return image_->status(); }

 private:
  void SwitchOff();
  // One round of completions and background work; true if there was any.
  bool StepOnce();

  const Options options_;
  FakeClock clock_;
  FakeCacheDevice cache_device_;
  ScriptedDisk disk_;
  std::unique_ptr<Cache> cache_;
  CachedImage* image_ = nullptr;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_CORE_CORE_MACHINE_H_
