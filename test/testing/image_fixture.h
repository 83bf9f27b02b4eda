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
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/options.h"
#include "meta/records.h"
#include "meta/types.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_clock.h"
#include "test/fakes/fake_disk.h"
#include "test/fakes/random.h"
#include "test/sim/reference_image.h"

namespace pcachefs {

inline ImageRange Bytes(uint64_t offset, uint64_t length) {
  return {ImageOffset(offset), length};
}

// Not thread-safe.
class ImageFixture {
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
  // The checker finds no damage on the cache device. Requires: off.
  absl::Status Check();
  // Clean stop. Requests in flight are answered first.
  absl::Status Stop();
  // The daemon dies, or the machine loses power, at this instant; or did so
  // before, if a device was told to stop somewhere. Off afterwards.
  void Crash();
  void CutPower(uint64_t seed);
  bool is_on() const { return image_ != nullptr; }

  // A copy of the machine as it is at this instant, off, its ending not chosen
  // yet: Crash() or CutPower() comes next. May be called from a device's hook.
  std::unique_ptr<ImageFixture> Fork(uint64_t seed) const;

  // Requests. StartX returns once the request is under way, or answered; false
  // if the oracle could not judge it (see ReferenceImage::CanWrite).
  bool StartWrite(ImageRange range);
  bool StartZero(ImageRange range);
  bool StartDiscard(ImageRange range);
  void StartRead(ImageRange range);
  void StartFlush();
  // A switch that another one, or a fault, prevents is no violation.
  void StartSetMode(CacheMode mode);
  void SetOrder(WritebackOrder order);
  size_t in_flight() const;
  // The same, and Settle().
  absl::Status Write(ImageRange range);
  absl::Status Zero(ImageRange range);
  absl::Status Discard(ImageRange range);
  absl::Status Read(ImageRange range);
  absl::Status Flush();
  absl::Status SetMode(CacheMode mode);
  // Writes everything back and compares the backing device with the image.
  absl::Status Drain();

  // Lets one thing happen, any one: a completion, a background step, time.
  void Pump();
  // Until every request is answered; a violation if that never happens.
  absl::Status Settle();
  // Until background work has nothing to do either. Bounded.
  void RunIdle();

  // The backing device as it is, and as a power cut would leave it, is a state
  // that a plain disk could hold. Of a looser order than strict status must say
  // so; else nothing is judged.
  absl::Status JudgeBacking(uint64_t seed);

  // Errors of requests are violations unless faults are expected.
  void set_faults_expected(bool expected) { faults_expected_ = expected; }
  uint64_t failed_requests() const { return failed_requests_; }

  FakeCacheDevice& cache_device() { return *cache_device_; }
  FakeDisk& disk() { return *disk_; }
  FakeClock& clock() { return clock_; }
  Cache& cache() { return *cache_; }
  CachedImage& image() { return *image_; }
  const Options& options() const { return options_; }
  // OK, or the first violation.
  absl::Status status() const;

 private:
  enum class Kind {
    kRead, kWrite, kZero, kDiscard, kFlush, kMode, kDrain, kPeek
  };
  struct Request {
    Kind kind = Kind::kRead;
    ImageRange range;
    uint64_t begun = 0;                 // reads, flushes and switches
    bool flushes = false;  // a switch that drains, or flushes the disk
    ReferenceImage::WriteId write = 0;  // others
    std::vector<std::byte> buffer;
    bool answered = false;
    absl::Status answer;
  };

  ImageFixture(const Options& options, const ImageFixture& other);

  void Connect();
  Request& NewRequest(Kind kind, ImageRange range);
  CachedImage::Done DoneOf(Request& request);
  void OnAnswer(Request& request, absl::Status status);
  void Judge(Request& request, const absl::Status& status);
  bool StartChange(Kind kind, ImageRange range);
  void ForgetAnswered();
  // Lets one thing of each sort happen; true if there was any.
  bool Round();
  void Violate(const absl::Status& violation);
  std::string DescribeImage();
  // Ends the daemon without a word and answers what it waits for.
  void SwitchOff();

  const Options options_;
  Random random_;
  FakeClock clock_;
  std::unique_ptr<FakeCacheDevice> cache_device_;
  std::unique_ptr<FakeDisk> disk_;
  ReferenceImage reference_;
  // Whether writes may go around the cache: in the mode, or in the one that a
  // switch leads to.
  bool goes_around_ = false;
  bool was_loose_ = false;      // the order was not strict at some time
  bool power_was_cut_ = false;  // since the last judgement
  bool plain_disk_was_cut_ = false;
  bool faults_expected_ = false;
  bool going_down_ = false;
  uint64_t failed_requests_ = 0;
  absl::Status violation_;
  // Buffers outlive the daemon that borrows them: declared before it.
  std::vector<std::unique_ptr<Request>> requests_;
  std::unique_ptr<Cache> cache_;
  CachedImage* image_ = nullptr;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_TESTING_IMAGE_FIXTURE_H_
