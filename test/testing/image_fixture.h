// A cache over simulated devices, with the oracle that judges it: the machine
// in which tests and the simulator crash the core.
//
//   ImageFixture machine({.disk = {.size = 4 * kMiB}});
//   RETURN_IF_ERROR(machine.Start());
//   RETURN_IF_ERROR(machine.Write(Bytes(0, 4096)));
//   RETURN_IF_ERROR(machine.Flush());
//   machine.CutPower(seed);
//   RETURN_IF_ERROR(machine.Start());  // judges what survived
//
// Requests are judged when they are answered, the image whenever it starts, the
// backing device when asked. The first violation is kept and returned by every
// later call. Everything happens on the caller's thread; nothing sleeps.

#ifndef PCACHEFS_TEST_TESTING_IMAGE_FIXTURE_H_
#define PCACHEFS_TEST_TESTING_IMAGE_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/options.h"
#include "meta/records.h"
#include "meta/types.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_clock.h"
#include "test/fakes/fake_disk.h"
#include "test/testing/judged_image.h"
#include "test/testing/simulated_machine.h"

namespace pcachefs {

// Not thread-safe.
class ImageFixture : public SimulatedMachine {
 public:
  struct Options {
    FakeCacheDevice::Options cache = {.size = 18 * kMiB};
    FakeDisk::Options disk = {.size = 4 * kMiB};
    FormatOptions format = {.segment_size = kMiB};
    CacheOptions cache_options;  // start_threads is ignored
    ImageOptions image;
    bool disk_has_content = true;
    uint64_t seed = 1;
  };

  // A machine with a formatted cache device, switched off.
  explicit ImageFixture(const Options& options);
  ~ImageFixture();

  // Opens the cache, attaches the image, and judges all of it unless that is
  // left to a later Judge(). Requires: off.
  absl::Status Start() { return Start(true); }
  absl::Status Start(bool judge);
  absl::Status Judge();

  // A copy of the machine as it is at this instant, off, its ending not chosen
  // yet: Crash() or CutPower() comes next. May be called from a device's hook.
  std::unique_ptr<ImageFixture> Fork(uint64_t seed) const;

  // Requests: as JudgedImage has them.
  bool StartWrite(ImageRange range) { return judged_.StartWrite(range); }
  bool StartZero(ImageRange range) { return judged_.StartZero(range); }
  bool StartDiscard(ImageRange range) { return judged_.StartDiscard(range); }
  void StartRead(ImageRange range) { judged_.StartRead(range); }
  void StartFlush() { judged_.StartFlush(); }
  void StartSetMode(CacheMode mode) { judged_.StartSetMode(mode); }
  void SetOrder(WritebackOrder order) { judged_.SetOrder(order); }
  // The same, and Settle().
  absl::Status Write(ImageRange range);
  absl::Status Zero(ImageRange range);
  absl::Status Discard(ImageRange range);
  absl::Status Read(ImageRange range);
  absl::Status Flush();
  absl::Status SetMode(CacheMode mode);
  // Writes everything back and compares the backing device with the image.
  absl::Status Drain();

  // What the cache device holds of it is not what was written any more.
  void NotePayloadRotted(ImageRange range) {
    set_payload_rotted();
    judged_.reference().Damage(range);
  }

  // As JudgedImage::JudgeBacking.
  absl::Status JudgeBacking(uint64_t seed);

  // Errors of requests are violations unless faults are expected.
  void set_faults_expected(bool expected) {
    state_.faults_expected = expected;
  }
  uint64_t failed_requests() const { return state_.failed_requests; }

  FakeDisk& disk() { return judged_.disk(); }
  CachedImage& image() { return judged_.image(); }
  const Options& options() const { return options_; }

 private:
  ImageFixture(const Options& options, const ImageFixture& other);

  const Options options_;
  JudgedImage judged_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_TESTING_IMAGE_FIXTURE_H_
