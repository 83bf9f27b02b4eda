// What the paths of one image share: its devices, its part of the cache, its
// index, its log and its counters. Reading order: this file, then write_path,
// read_path, writeback, reclaim.

#ifndef PCACHEFS_CORE_IMAGE_CORE_H_
#define PCACHEFS_CORE_IMAGE_CORE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "core/barrier.h"
#include "core/clock.h"
#include "core/counters.h"
#include "core/data_allocator.h"
#include "core/image_settings.h"
#include "core/image_space.h"
#include "core/key_log.h"
#include "core/log_tails.h"
#include "core/mode_gate.h"
#include "core/options.h"
#include "core/payload_io.h"
#include "core/segment_table.h"
#include "core/shard.h"
#include "core/slot_store.h"
#include "core/status.h"
#include "core/write_throttle.h"
#include "iobackend/backing_device.h"
#include "iobackend/cache_device.h"
#include "meta/records.h"
#include "meta/types.h"

namespace pcachefs {

class AroundPath;
class Carry;
class ModeSwitch;
class ReadPath;
class Reclaim;
class WritePath;
class Writeback;

// What is common to all images of a cache device.
struct CacheParts {
  CacheDevice& device;
  Barrier& barrier;
  SegmentTable& table;
  Clock& clock;
  const CacheOptions& options;
};

// Conditions that status shows; the worst one names the state.
class Health {
 public:
  // An empty reason clears a condition. True if that changed anything.
  bool Set(HealthState state, std::string reason);
  HealthState state();
  std::string reason();

 private:
  static constexpr int kStates = 5;
  absl::Mutex mutex_;
  std::string reasons_[kStates] ABSL_GUARDED_BY(mutex_);
};

class ImageCore {
 public:
  struct Start {
    ImageId id;
    ImageRecord record;
    SlotCursor record_cursor;
    std::array<MediaOffset, 2> record_slots;
    std::array<MediaOffset, 2> tails_slots;
    LogTails tails;
    SlotCursor tails_cursor;
    KeyLog::Start log;
    bool read_only = false;
  };

  ImageCore(const CacheParts& parts, std::unique_ptr<BackingDevice> backing,
            const Start& start);
  ~ImageCore();

  CacheDevice& device() { return parts_.device; }
  Barrier& barrier() { return parts_.barrier; }
  SegmentTable& table() { return parts_.table; }
  Clock& clock() { return parts_.clock; }
  const CacheOptions& options() const { return parts_.options; }
  BackingDevice& backing() { return *backing_; }

  ImageSpace& space() { return space_; }
  DataAllocator& allocator() { return allocator_; }
  PayloadIo& payload() { return payload_; }
  Shards& shards() { return shards_; }
  KeyLog& log() { return log_; }
  TailKeeper& tails() { return tails_; }
  Counters& counters() { return counters_; }
  Health& health() { return health_; }

  ReadPath& read_path() { return *read_path_; }
  WritePath& write_path() { return *write_path_; }
  AroundPath& around_path() { return *around_path_; }
  ModeSwitch& mode_switch() { return *mode_switch_; }
  Writeback& writeback() { return *writeback_; }
  Reclaim& reclaim() { return *reclaim_; }
  Carry& carry() { return *carry_; }

  ImageId id() const { return id_; }
  const std::string& name() const { return name_; }
  ImageTag tag() const { return tag_; }
  uint64_t size() const { return size_.load(std::memory_order_acquire); }
  bool read_only() const { return read_only_; }
  // Payload can be looked at where it stands.
  bool is_mapped() const { return is_mapped_; }
  // Nothing is written back: what was written stays in the cache.
  bool read_only_backing() const { return read_only_backing_; }
  const LiveSettings& settings() const { return settings_; }

  WriteThrottle& throttle() { return throttle_; }

  // Changes of the image pass it, so that the mode does not change under them.
  ModeGate& gate() { return gate_; }
  void LeaveGate() {
    if (gate_.Leave()) Kick();
  }

  // Whether the index may lack what replay would bring back after a power cut:
  // while what reclaim took out is not durable, and for good once a bad piece
  // was dropped in memory only. Then a write around the cache cannot tell from
  // the index that the log says nothing of its range. Set before the index
  // changes, read under the lock of the shard.
  bool index_lags() const { return reclaim_lags_ || index_dropped_piece_; }
  bool set_reclaim_lags(bool lags) { return reclaim_lags_.exchange(lags); }
  void set_index_dropped_piece() { index_dropped_piece_ = true; }

  // How what was read from the backing device is logged. Where writes go around
  // the cache the device may still lose it. In the other modes it holds nothing
  // unflushed that the index lacks: a switch to them flushes it first.
  KeyKind FillKind() const {
    return GoesAround(settings_.mode()) ? KeyKind::kProvisional
                                        : KeyKind::kFill;
  }

  // Bytes that are logged and not on the backing device yet.
  std::atomic<uint64_t>& dirty_bytes() { return dirty_bytes_; }

  // Makes everything acknowledged so far durable on the cache device.
  // `end_epoch`: it is the user who asks, so writeback must keep the boundary.
  void Commit(bool end_epoch, absl::AnyInvocable<void(absl::Status)> done);

  // Commits what is older than the commit interval, notes ages for status, and
  // keeps the proof of durability on the media of an idle log. True if anything
  // was done.
  bool CommitStep();

  // Zero when nothing is dirty; from notes about a second apart.
  absl::Duration OldestDirtyAge();
  // How long ago a set was logged that is not written back yet; from the same
  // notes.
  absl::Duration AgeOf(SequenceNumber sequence);

  // Follows the size of the backing device: what has been added to it belongs
  // to the image as soon as the record says so, durably. One caller at a time.
  // True if it has grown.
  bool SizeStep();

  // A range of dirty data was found bad and is now lost, as its mark says.
  void NoteLost(ImageRange range, const absl::Status& why);
  // Of ranges of which reads answer an error, since dirty data was lost there
  // and nothing was written since. Looks at every shard.
  uint64_t LostBytes();
  // Why the image is degraded as long as nothing is done about it: the backing
  // device has become smaller. Else empty.
  std::string lasting_reason();

  // Changes the image's record durably: `edit` gets a copy and may refuse. One
  // change after the other; errors of the edit and of the cache device.
  absl::Status ChangeRecord(
      absl::FunctionRef<absl::Status(ImageRecord&)> edit);
  ImageRecord record();
  // Where the next version of the record goes.
  SlotCursor record_cursor();

  // Whether dirty data is in the cache that the backing device does not have.
  bool has_dirty_data() {
    // There dirty_tail may stand before what is clean.
    if (read_only_backing_) return dirty_bytes_ != 0;
    return log_.last_dirty() >= tails_.dirty_tail().sequence;
  }

  ImageStatus status();
  void set_replay(const ImageStatus::Replay& replay) { replay_ = replay; }

  // Called when background work may have become possible: by waiting writers,
  // completions of the backing device. Set once, before threads start.
  void set_kick(std::function<void()> kick) { kick_ = std::move(kick); }
  void Kick() {
    if (kick_) kick_();
  }

 private:
  struct AgeSample {
    SequenceNumber last;  // everything up to here is older than
    absl::Time time;
  };

  void NoteAge(absl::Time now);

  const CacheParts parts_;
  const ImageId id_;
  const std::string name_;
  const ImageTag tag_;
  std::atomic<uint64_t> size_;
  const bool read_only_;
  const bool is_mapped_;
  const bool read_only_backing_;
  std::unique_ptr<BackingDevice> backing_;
  std::function<void()> kick_;

  LiveSettings settings_;
  ImageSpace space_;
  WriteThrottle throttle_;
  DataAllocator allocator_;
  PayloadIo payload_;
  Shards shards_;
  KeyLog log_;
  TailKeeper tails_;
  Counters counters_;
  Health health_;
  std::atomic<uint64_t> dirty_bytes_{0};
  ModeGate gate_;
  std::atomic<bool> reclaim_lags_{false};
  std::atomic<bool> index_dropped_piece_{false};
  ImageStatus::Replay replay_;

  // Held over a whole change of the record, barrier included: a second store
  // before the first is durable would leave no durable version if it tore.
  absl::Mutex change_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  SlotCursor record_cursor_ ABSL_GUARDED_BY(change_mutex_);

  absl::Mutex mutex_;
  ImageRecord record_ ABSL_GUARDED_BY(mutex_);
  const std::array<MediaOffset, 2> record_slots_;
  std::vector<AgeSample> ages_ ABSL_GUARDED_BY(mutex_);
  // The last barrier's cover that the log tails on the media tell of.
  SequenceNumber proven_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_commit_ ABSL_GUARDED_BY(mutex_);
  std::string size_problem_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_size_check_;  // of the caller of SizeStep
  std::atomic<bool> commit_in_flight_{false};

  std::unique_ptr<ReadPath> read_path_;
  std::unique_ptr<WritePath> write_path_;
  std::unique_ptr<AroundPath> around_path_;
  std::unique_ptr<Writeback> writeback_;
  std::unique_ptr<Reclaim> reclaim_;
  std::unique_ptr<Carry> carry_;
  std::unique_ptr<ModeSwitch> mode_switch_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_IMAGE_CORE_H_
