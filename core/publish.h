// The commit step of every path that changes what the image holds: keys go to
// the log, then to the index, in one critical section under the locks of the
// shards they touch, so that index order equals log order (C8).

#ifndef PCACHEFS_CORE_PUBLISH_H_
#define PCACHEFS_CORE_PUBLISH_H_

#include <memory>
#include <span>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/image_core.h"
#include "core/key_log.h"
#include "core/shard.h"
#include "meta/types.h"

namespace pcachefs {

using PendingKeys = absl::InlinedVector<PendingKey, 2>;
using Placeholders = absl::InlinedVector<std::shared_ptr<Fill>, 2>;

// Appends `keys`, which lie within `range`, as one set and makes the index
// follow. The references that came with the keys' allocations become the
// keys'. Nothing has changed when it fails: Aborted if one of `placeholders` was
// overwritten in the meantime; ResourceExhausted if the log has no room; errors
// of the device. Fills that overlap the range are told that they were
// overwritten.
absl::Status PublishKeys(ImageCore& core, ImageRange range,
                         std::span<const PendingKey> keys,
                         std::span<const std::shared_ptr<Fill>> placeholders);

// A part of it, for who holds the locks of the shards of all keys, has looked at
// his placeholders, and has no dirty keys.
absl::Status AppendLocked(ImageCore& core, std::span<const PendingKey> keys);

// What the index holds for a part of `key` that begins at `offset`, if the key
// stands in the set `sequence`.
PieceSource SourceOf(const PayloadIo& payload, const Key& key,
                     SequenceNumber sequence, ImageOffset offset);

// Allocates payload blocks for `bytes` of the image at `range`, copies them
// there and appends the keys to `keys` (not yet published; checksums point into
// the segments). Everything is given back when it fails: ResourceExhausted if
// the share is used up; errors of the device.
absl::Status WritePayload(ImageCore& core, KeyKind kind, ImageRange range,
                          std::span<const std::byte> bytes, PendingKeys& keys,
                          AllocationPurpose purpose =
                              AllocationPurpose::kRequest);

// Gives the blocks of keys that were not published back.
void AbandonPayload(ImageCore& core, std::span<const PendingKey> keys);

// Makes those parts of `range` that are still served from `source` (of the
// range's start) answer an error: logged as kLost. For dirty payload that is not
// what was written. Errors of PublishKeys.
absl::Status MarkLost(ImageCore& core, ImageRange range, PieceSource source);

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_PUBLISH_H_
