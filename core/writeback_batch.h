// One batch of writeback: which key sets, what of them must be written, and the
// bytes.

#ifndef PCACHEFS_CORE_WRITEBACK_BATCH_H_
#define PCACHEFS_CORE_WRITEBACK_BATCH_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/aligned_buffer.h"
#include "core/image_core.h"
#include "core/log_reader.h"
#include "iobackend/backing_device.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/types.h"

namespace pcachefs {

// Not thread-safe: used by one Step after the other.
class WritebackBatch {
 public:
  // What counts towards the size of a batch: bytes of payload, or what carrying
  // them takes, keys included.
  enum class Cost { kPayload, kCarrying };

  explicit WritebackBatch(ImageCore& core, Cost cost = Cost::kPayload)
      : core_(core), cost_(cost) {}

  // Collects key sets from `from`, none beyond `limit`: up to `max_bytes` of
  // payload or a bound on the number of sets, at least one set. In strict order
  // no further than the end of the epoch; in grouped order up to the last end of
  // an epoch in there, or like strict if there is none. DataLoss if the log
  // itself is damaged.
  absl::Status Collect(const LogPosition& from, SequenceNumber limit,
                       uint64_t max_bytes, WritebackOrder order);

  // The requests that bring the batch to the backing device, sorted by offset,
  // neighbours merged; empty if nothing is to be written. Payload is verified
  // here; ranges whose payload is bad are left out and noted in lost(). May be
  // called again to retry. The batch owns the buffers.
  //
  // Payload that cannot be read is an error, to be tried again, unless
  // `unreadable_is_lost`: then it is treated as bad.
  absl::StatusOr<std::vector<BackingRequest>> MakeRequests(
      bool unreadable_is_lost);

  // What the newest key of the batch says of each range, by offset.
  void Visit(absl::FunctionRef<void(ImageRange, KeyKind, PieceSource)> visit)
      const;

  struct LostRange {
    ImageRange range;
    PieceSource source;
    absl::Status why;
  };
  const std::vector<LostRange>& lost() const { return lost_; }

  // Everything up to end() is on the backing device: dirty marks are taken off.
  void MarkClean();

  bool has_dirty_keys() const { return !keys_.empty(); }
  // dirty_tail may pass it only after a flush of the backing device.
  bool has_provisional_keys() const { return has_provisional_keys_; }
  bool spans_epochs() const { return spans_epochs_; }
  // Where the log goes on behind the batch.
  const LogPosition& end() const { return end_; }
  uint64_t bytes_to_write() const { return bytes_to_write_; }

 private:
  // What the newest key of the batch says of a range; by image offset, disjoint.
  struct Extent {
    uint64_t length;
    KeyKind kind;
    PieceSource source;
  };
  struct DirtyKey {
    Key key;
    SequenceNumber sequence;
  };

  LogReader ReaderAt(const LogPosition& position);
  absl::Status LogError(const LogPosition& position,
                        const absl::Status& why) const;
  // The last set before the last boundary between epochs that a batch with
  // these bounds reaches; `limit` if it reaches none.
  absl::StatusOr<SequenceNumber> EndOfGroup(const LogPosition& from,
                                            SequenceNumber limit,
                                            uint64_t max_bytes);
  void Add(const Key& key, SequenceNumber sequence);
  uint64_t CostOf(const Key& key) const;
  void Cut(uint64_t begin, uint64_t end);
  bool Holds(ImageRange range) const;  // anything of it
  absl::Status AppendPayload(ImageOffset offset, const Extent& extent,
                             std::vector<BackingRequest>& requests);

  ImageCore& core_;
  const Cost cost_;
  LogPosition end_;
  uint64_t set_count_ = 0;
  uint64_t bytes_to_write_ = 0;
  bool unreadable_is_lost_ = false;
  bool has_provisional_keys_ = false;
  bool spans_epochs_ = false;
  std::map<uint64_t, Extent> extents_;
  std::vector<DirtyKey> keys_;
  std::vector<AlignedBuffer> buffers_;
  std::vector<LostRange> lost_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_WRITEBACK_BATCH_H_
