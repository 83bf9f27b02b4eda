// A machine with one cache device and the disks of several images, which come
// and go: what the simulator crashes. One thread, virtual time, one seed.
//
// An image is away, served, or kept (detached with its dirty data). A
// management operation that power interrupts may have happened or not; the next
// start tells which, and anything else is a violation: an image that nobody
// removed is known, and one that was removed does not come back.

#ifndef PCACHEFS_TEST_SIM_MACHINE_H_
#define PCACHEFS_TEST_SIM_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/cache.h"
#include "core/options.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_clock.h"
#include "test/testing/judged_image.h"
#include "test/testing/simulated_machine.h"

namespace pcachefs {

// Not thread-safe.
class Machine : public SimulatedMachine {
 public:
  struct ImageSpec {
    JudgedImage::Options judged;
    ImageOptions image;  // when it is attached as a new one
  };
  struct Options {
    FakeCacheDevice::Options cache;
    FormatOptions format;
    CacheOptions cache_options;  // start_threads is ignored
    std::vector<ImageSpec> images;
    uint64_t seed = 1;
  };

  // With a formatted cache device, switched off; all images are away.
  explicit Machine(const Options& options);
  ~Machine();

  // Opens the cache, and serves again and judges what was served. `judge`:
  // whether it does. Requires: off.
  absl::Status Start(bool judge = true);

  // Bytes of the cache's own records have rotted: a start may be refused.
  void set_records_rotted() { records_rotted_ = true; }

  // As it is at this instant, off, its ending not chosen yet.
  std::unique_ptr<Machine> Fork(uint64_t seed) const;

  size_t image_count() const { return seats_.size(); }
  JudgedImage& image(size_t i) { return *seats_[i].image; }
  bool is_away(size_t i) const { return seats_[i].place == Place::kAway; }
  bool is_kept(size_t i) const { return seats_[i].place == Place::kKept; }
  bool is_served(size_t i) const { return seats_[i].image->is_served(); }
  // Any of those served; nullptr if none is.
  JudgedImage* AnyServed();

  // Management. A refusal or a fault is the returned error, not a violation;
  // those that no rule allows are. Requests in flight are answered first.
  absl::Status Attach(size_t i);
  absl::Status Detach(size_t i, DetachKind kind);
  absl::Status SetShare(size_t i, uint64_t segments);
  absl::Status GrowCache();
  // Attaches another disk under the image's name, which must be refused.
  // Requires: kept.
  absl::Status AttachWrongDisk(size_t i);
  // Writes back, and compares with the image.
  absl::Status Drain(size_t i);
  // Reads and judges all that is served.
  absl::Status Judge();

  // Disks that hang or are full come back first.
  absl::Status Settle();
  void JudgeBacking(uint64_t seed);

  // The cache device failed: nothing is promised until the next start.
  bool failed();

 private:
  enum class Place { kAway, kServed, kKept };
  struct Seat {
    ImageSpec spec;
    std::unique_ptr<JudgedImage> image;
    Place place = Place::kAway;
    // What an operation that was interrupted leaves open until the next start.
    bool may_be_known = false;
    bool may_be_gone = false;
    bool is_discarded = false;  // its dirty data may be gone with it
  };

  Machine(const Options& options, const Machine& other);

  void Connect();
  bool IsKnown(const std::string& name) const;
  // Finds out what became of images at the last end.
  void TakeStock();
  // The image is forgotten, and its disk is not what it was: another one.
  void Renew(Seat& seat);
  absl::Status Serve(Seat& seat, bool judge);

  const Options options_;
  std::vector<Seat> seats_;
  int renewed_ = 0;
  bool records_rotted_ = false;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_MACHINE_H_
