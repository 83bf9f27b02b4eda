// The disk behind a simulated backing device: it outlives the daemon, and hands
// out the BackingDevice objects that a Cache owns.
//
//   FakeDisk disk({.size = 4 * kMiB, .seed = 7});
//   cache->Attach("vm1", disk.Open(), {});
//   while (disk.Step()) {}
//
// Fault model:
// - Requests complete in any order, one per Step(), and take effect then. A
//   kFlush makes durable what had completed when it was submitted, no more.
// - A completed write is visible; before a flush a power cut keeps any part of
//   it, torn at 512 bytes (test/fakes/fake_media.h). Of writes still in flight
//   any part may survive too, also when only the daemon dies.
// - A transfer may be short: a part of the request, from its beginning, takes
//   effect, and the rest is transferred in later Steps, whatever happens in
//   between. The interface hides that, so nobody is told.
// - A read that overlaps a write in flight gets either state of each sector.
// - Any request may fail with Unavailable, by count or by range; a failed write
//   has changed any part of its range; after a failed kFlush nothing is known
//   to be durable, but a later one may succeed.
// - The disk may hang (nothing completes) or be full (writes into holes fail).
//
// Mistakes of the user of the interface are collected in mistakes(): writes
// that overlap in flight, buffers changed while they were borrowed, ranges that
// are not whole sectors.

#ifndef PCACHEFS_TEST_FAKES_FAKE_DISK_H_
#define PCACHEFS_TEST_FAKES_FAKE_DISK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "iobackend/backing_device.h"
#include "test/fakes/fake_media.h"
#include "test/fakes/fault_injector.h"
#include "test/fakes/random.h"

namespace pcachefs {

// Thread-safe. Outlives its handles.
class FakeDisk {
 public:
  // Kinds of requests, for faults; kWrite is also zero and discard.
  static constexpr uint32_t kRead = 1;
  static constexpr uint32_t kWrite = 2;
  static constexpr uint32_t kFlush = 4;

  struct Options {
    uint64_t size = 0;        // bytes
    uint64_t first_size = 0;  // until Grow; 0: `size` from the start
    uint32_t block_size = 4096;
    bool is_read_only = false;
    // Direct requests complete within Submit, queued ones in Step().
    bool synchronous = false;
    uint64_t short_percent = 0;  // of transfers that could be short
    std::string identity = "ino=1,fsid=simulated";
    uint64_t seed = 1;
  };

  explicit FakeDisk(const Options& options);
  ~FakeDisk();

  std::unique_ptr<BackingDevice> Open();
  // As BackingDevice::Submit.
  void Submit(std::vector<BackingRequest> requests, Submission submission);

  // Completes one request, any one; false if none can complete now.
  bool Step();
  size_t pending() const;

  // The instant of a crash: later requests fail, nothing changes any more.
  void Stop();
  // Stops at change number `index` from now (0 = the next), a change being the
  // completion of a write or flush. Of that write any part may survive.
  void StopAt(uint64_t index);
  bool stopped() const;
  // Completes everything pending with Unavailable, so that the code above can
  // unwind. Requires: stopped().
  void CompletePending();
  // The machine lost power, and starts again. Faults are gone.
  void CutPower(Random& random);
  // The daemon died, and starts again. Faults are gone.
  void Restart();
  // The daemon stopped in good order, and starts again. Faults stay.
  void Resume();

  // The disk as it is at this instant, without faults. Requests in flight
  // belong to a daemon that the copy does not have: what they may have done
  // shows after CutPower or Restart.
  std::unique_ptr<FakeDisk> Fork() const;

  // Runs at each change, before it is acknowledged: after a write, before a
  // flush takes effect. No lock is held.
  void set_hook(std::function<void()> hook) { hook_ = std::move(hook); }
  // Runs when the change named by StopAt is reached: the rest of the machine
  // loses power too. No lock is held.
  void set_on_stop(std::function<void()> on_stop) {
    on_stop_ = std::move(on_stop);
  }

  void FailNth(uint32_t kinds, uint64_t index);
  void FailRange(uint32_t kinds, uint64_t offset, uint64_t length,
                 uint64_t times = FaultInjector::kForever);
  void ClearFaults();  // and what StopAt arranged
  bool fault_fired() const;
  void set_hanging(bool hanging);
  void set_full(bool full);

  // The content before anybody used it; durable.
  void Fill(uint64_t offset, std::span<const std::byte> bytes);

  // What it says of itself; its handles follow in Refresh.
  uint64_t size() const;
  // It has its whole size from now on.
  void Grow();
  // Somebody else has flushed it.
  void Sync();
  uint64_t changes() const;  // completed writes and flushes, pieces included
  uint64_t short_transfers() const;
  FakeMedia media() const;   // a copy
  std::vector<std::string> mistakes() const;

 private:
  struct Pending {
    BackingRequest request;
    uint64_t journal_end = 0;      // kFlush: what it covers
    std::vector<std::byte> sent;   // kWrite: the buffers at submission
    std::vector<std::byte> early;  // kRead: the sectors at submission
    uint64_t done = 0;             // bytes of short transfers
    uint64_t end = 0;              // where this transfer ends

    // Of the transfer.
    uint64_t offset() const { return request.offset + done; }
    uint64_t length() const { return end - done; }
  };

  Pending AdmitLocked(BackingRequest request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckLocked(const BackingRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Chooses how far the next transfer of the request goes.
  void PlanLocked(Pending& pending) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // True if that was the end of it.
  bool Transfer(Pending& pending);
  absl::Status Execute(Pending& pending);
  absl::Status StartLocked(const Pending& pending)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadLocked(Pending& pending) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ApplyLocked(const Pending& pending)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ApplyPartLocked(const Pending& pending)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsFullLocked(const Pending& pending) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StopLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CopyWritesLocked(const std::vector<Pending>& from,
                        std::vector<Pending>& to) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RestartLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  std::function<void()> hook_;
  std::function<void()> on_stop_;

  mutable absl::Mutex mutex_;
  FakeMedia media_ ABSL_GUARDED_BY(mutex_);
  Random random_ ABSL_GUARDED_BY(mutex_);
  FaultInjector faults_ ABSL_GUARDED_BY(mutex_);
  std::vector<Pending> pending_ ABSL_GUARDED_BY(mutex_);
  // Writes that were in flight when the daemon died (Stop): each may still have
  // done any part of its work.
  std::vector<Pending> orphans_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool hanging_ ABSL_GUARDED_BY(mutex_) = false;
  bool full_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t size_ ABSL_GUARDED_BY(mutex_);
  uint64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t short_transfers_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t stop_at_ ABSL_GUARDED_BY(mutex_) = FaultInjector::kForever;
  std::vector<std::string> mistakes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FAKES_FAKE_DISK_H_
