// A simulated cache device.
//
// Fault model (test/fakes/fake_media.h has the details of a power cut):
// - A Write is visible at once and not durable before Persist; a power cut
//   keeps any part of what was not persisted, torn at atom_size and reordered.
// - A crash of the daemon alone keeps everything.
// - Any call may fail with Unavailable: by count or by range. A failed Write
//   has changed any part of its range. After a failed Persist nothing is known
//   to be durable, and every later Persist fails (C9).
// - Transfers may be short, which the interface hides: of a ReadAsync some bytes
//   arrive in one Step and the rest in later ones, and where the daemon dies, or
//   power goes off, in a Write, only a beginning of it has been handed over.
// - The device may be full, as a sparse file is on a full file system: a Write
//   beyond what was ever written fails, having changed what comes before that.
//   It stays full when the daemon or the machine starts again.
// - TryRead may answer false for any range; ReadAsync completes later, in any
//   order, when the test calls Step().
// - Bits rot, behind everybody's back.
//
// A crash goes in two steps, since the object outlives the daemon:
//   device.Stop();            // this instant: later calls fail, change nothing
//   device.CompletePending(); // so that the code above can unwind
//   ... destroy the Cache ...
//   device.CutPower(random);  // or device.Restart(): it was only the daemon
// Instead of Stop, StopAt(n) picks the n-th change as the instant; and Fork()
// copies the device, at any instant, to be cut and explored on its own.

#ifndef PCACHEFS_TEST_FAKES_FAKE_CACHE_DEVICE_H_
#define PCACHEFS_TEST_FAKES_FAKE_CACHE_DEVICE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "iobackend/cache_device.h"
#include "test/fakes/fake_media.h"
#include "test/fakes/fault_injector.h"
#include "test/fakes/random.h"

namespace pcachefs {

// Thread-safe.
class FakeCacheDevice : public CacheDevice {
 public:
  // Kinds of calls, for faults; all reads are one kind.
  static constexpr uint32_t kRead = 1;
  static constexpr uint32_t kWrite = 2;
  static constexpr uint32_t kPersist = 4;

  struct Options {
    uint64_t size = 0;         // bytes
    uint64_t first_size = 0;   // until Grow; 0: `size` from the start
    uint32_t atom_size = 512;  // bytes; 8 simulates memory
    bool is_volatile = false;
    bool persist_is_cheap = false;
    bool mapped = false;  // View works
    uint64_t try_read_miss_percent = 0;
    uint64_t short_percent = 0;  // of transfers that could be short
    bool async_reads = true;  // false: ReadAsync completes within the call
    uint64_t seed = 1;
  };

  explicit FakeCacheDevice(const Options& options);
  ~FakeCacheDevice() override;

  // CacheDevice:
  uint64_t size() const override { return size_; }
  const std::string& name() const override { return name_; }
  bool is_volatile() const override { return options_.is_volatile; }
  bool persist_is_cheap() const override { return options_.persist_is_cheap; }
  absl::Status Read(MediaOffset offset, std::span<std::byte> out) override;
  absl::StatusOr<bool> TryRead(MediaOffset offset,
                               std::span<std::byte> out) override;
  void ReadAsync(MediaOffset offset, std::span<std::byte> out,
                 absl::AnyInvocable<void(absl::Status)> done) override;
  absl::Status Write(MediaOffset offset,
                     std::span<const std::byte> bytes) override;
  absl::Status Persist() override;
  const std::byte* View(MediaOffset offset, uint64_t length) override;
  absl::Status Refresh() override {
    if (has_grown_) size_ = options_.size;
    return absl::OkStatus();
  }

  // From the next Refresh on it has its whole size.
  void Grow() { has_grown_ = true; }

  // Completes one ReadAsync, any one; false if there was none.
  bool Step();
  size_t pending() const;

  void Stop();
  // Stops at change number `index` from now (0 = the next), a change being a
  // Write or a Persist. That call itself fails; a Write has reached the journal
  // by then, so that a power cut may keep any part of it.
  void StopAt(uint64_t index);
  uint32_t atom_size() const { return options_.atom_size; }
  bool stopped() const;
  // Runs the done callbacks of all pending reads with Unavailable.
  void CompletePending();
  // The machine lost power, and starts again. Faults are gone.
  void CutPower(Random& random);
  // The daemon died, and starts again. Faults are gone.
  void Restart();
  // The daemon stopped in good order, and starts again. Faults stay.
  void Resume();

  // The device as it is at this instant, without faults or pending reads.
  // Like Restart, it forgets that a Persist failed.
  std::unique_ptr<FakeCacheDevice> Fork() const;

  // Runs after each change has reached the journal and before it is
  // acknowledged; before a Persist takes effect. No lock is held.
  void set_hook(std::function<void()> hook) { hook_ = std::move(hook); }
  // Runs when the change named by StopAt is reached: the rest of the machine
  // loses power too. No lock is held.
  void set_on_stop(std::function<void()> on_stop) {
    on_stop_ = std::move(on_stop);
  }

  // `kinds` as above; see FaultInjector.
  void FailNth(uint32_t kinds, uint64_t index);
  void FailRange(uint32_t kinds, uint64_t offset, uint64_t length,
                 uint64_t times = FaultInjector::kForever);
  void ClearFaults();  // and what StopAt arranged
  void set_full(bool full);
  // Also if a Write found it full.
  bool fault_fired() const;
  uint64_t short_transfers() const;

  void FlipBit(uint64_t offset, int bit);
  uint64_t changes() const;  // Writes and Persists so far
  FakeMedia media() const;   // a copy

 private:
  struct PendingRead {
    uint64_t offset = 0;
    std::span<std::byte> out;
    absl::AnyInvocable<void(absl::Status)> done;
  };

  // OK if a call of this kind may go on; counts it.
  absl::Status AdmitLocked(uint32_t kind, uint64_t offset, uint64_t length)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A change reached its instant: true if it is the one to stop at.
  bool CountChangeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // How many of the bytes find room.
  uint64_t RoomLocked(uint64_t offset, uint64_t length) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // How much of a transfer takes place at once.
  uint64_t PieceLocked(uint64_t length) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MirrorLocked(uint64_t offset, uint64_t length)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RestartLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const std::string name_ = "simulated-cache";
  std::atomic<uint64_t> size_;
  std::atomic<bool> has_grown_ = false;
  std::function<void()> hook_;
  std::function<void()> on_stop_;

  mutable absl::Mutex mutex_;
  FakeMedia media_ ABSL_GUARDED_BY(mutex_);
  Random random_ ABSL_GUARDED_BY(mutex_);
  FaultInjector faults_ ABSL_GUARDED_BY(mutex_);
  std::vector<PendingRead> pending_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool persist_failed_ ABSL_GUARDED_BY(mutex_) = false;
  bool full_ ABSL_GUARDED_BY(mutex_) = false;
  bool was_full_ ABSL_GUARDED_BY(mutex_) = false;  // for a Write
  uint64_t short_transfers_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t stop_at_ ABSL_GUARDED_BY(mutex_) = FaultInjector::kForever;
  // The visible bytes in one piece, if options_.mapped: for View.
  std::vector<std::byte> mirror_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FAKES_FAKE_CACHE_DEVICE_H_
