// One cache device, the disks of images and the daemon between them: how they
// go on, one event after the other on the caller's thread, and how they end.
// Which images there are, and how they start, is for those who derive from it:
// ImageFixture with one, Machine (test/sim/machine.h) with several.

#ifndef PCACHEFS_TEST_TESTING_SIMULATED_MACHINE_H_
#define PCACHEFS_TEST_TESTING_SIMULATED_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "core/cache.h"
#include "core/options.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_clock.h"
#include "test/testing/judged_image.h"

namespace pcachefs {

// Not thread-safe.
class SimulatedMachine {
 public:
  SimulatedMachine(const SimulatedMachine&) = delete;
  SimulatedMachine& operator=(const SimulatedMachine&) = delete;

  bool is_on() const { return cache_ != nullptr; }
  // Clean stop. Requests in flight are answered first.
  absl::Status Stop();
  // The daemon dies, or the machine loses power, at this instant; or did so
  // before, if a device was told to stop somewhere. Off afterwards.
  void Crash();
  void CutPower(uint64_t seed);
  // The checker finds no damage on the cache device. Requires: off.
  absl::Status Check();

  // Lets one thing happen, any one: a completion, a background step, time.
  void Pump();
  // Until every request is answered; a violation if that never happens.
  absl::Status Settle();
  // Until background work has nothing to do either. Bounded.
  void RunIdle();
  size_t in_flight() const;

  // Payload has rotted: the checker says so.
  void set_payload_rotted() { payload_rotted_ = true; }

  // A device has reached the instant it was told to stop at.
  bool stopped() const { return state_.cache_device->stopped(); }
  FakeCacheDevice& cache_device() { return *state_.cache_device; }
  FakeClock& clock() { return clock_; }
  Cache& cache() { return *cache_; }
  MachineState& state() { return state_; }
  // OK, or the first violation.
  absl::Status status() const;

 protected:
  explicit SimulatedMachine(uint64_t seed) : state_(seed) {}
  // With the cache device as `other` has it at this instant; off.
  SimulatedMachine(uint64_t seed, const SimulatedMachine& other);
  // Those who own images switch off before they let go of them: their buffers
  // outlive the daemon.
  ~SimulatedMachine() = default;

  // The images there are; the whole machine goes off at once.
  void Connect(std::vector<JudgedImage*> images);
  absl::Status Open(CacheOptions options);
  // Lets one thing of each sort happen; true if there was any.
  bool Round();
  // Ends the daemon without a word and answers what it waits for.
  void SwitchOff();

  MachineState state_;
  FakeClock clock_;
  std::unique_ptr<Cache> cache_;

 private:
  std::vector<JudgedImage*> images_;
  bool payload_rotted_ = false;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_TESTING_SIMULATED_MACHINE_H_
