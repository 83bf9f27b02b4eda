#include "core/publish.h"

#include <algorithm>
#include <utility>

#include "core/mutation.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

void SetDirty(ImageCore& core, std::span<const PendingKey> keys, bool dirty) {
  for (const PendingKey& pending : keys) {
    if (pending.key.kind != KeyKind::kWrite) continue;
    if (dirty) {
      core.throttle().AddDirty(pending.checksums.size());
    } else {
      core.throttle().RemoveDirty(pending.checksums.size());
    }
    core.table()
        .segment(pending.key.position.segment)
        .SetDirty(pending.key.position.offset.value() / kBlockSize,
                  pending.checksums.size(), dirty);
  }
}

void InsertLocked(ImageCore& core, const Key& key, SequenceNumber sequence)
    ABSL_NO_THREAD_SAFETY_ANALYSIS {
  ForEachSlice(key.range, [&](const ShardSlice& slice)
                              ABSL_NO_THREAD_SAFETY_ANALYSIS {
    Shard& shard = core.shards()[slice.shard];
    shard.KillFills(slice.range());
    if (Planted(Mutation::kIndexKeepsOlder) && key.kind != KeyKind::kForget) {
      bool anything = false;
      shard.index.Visit(slice.start, slice.length,
                        [&](const KeyIndex::Piece&) { anything = true; });
      if (anything) return;
    }
    if (key.kind == KeyKind::kForget) {
      shard.index.Remove(slice.start, slice.length);
    } else {
      shard.index.Insert(
          slice.start, slice.length,
          SourceOf(core.payload(), key, sequence, slice.offset));
    }
  });
}

// What of the slice is still served from `source`, as keys; no more than one
// set takes.
PendingKeys LostKeysLocked(Shard& shard, const ShardSlice& slice,
                           PieceSource source)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex) {
  constexpr size_t kMaxKeys = 1024;
  PendingKeys keys;
  shard.index.Visit(
      slice.start, slice.length, [&](const KeyIndex::Piece& piece) {
        if (keys.size() == kMaxKeys ||
            piece.source != source.Advanced(piece.start - slice.start)) {
          return;
        }
        keys.push_back({.key = {.kind = KeyKind::kLost,
                                .range = {slice.OffsetOf(piece.start),
                                          piece.length * kSectorSize}}});
      });
  return keys;
}

absl::Status MarkLostInSlice(ImageCore& core, const ShardSlice& slice,
                             PieceSource source) {
  Shard& shard = core.shards()[slice.shard];
  // Looking and publishing are one step unless a write comes in between, which
  // the placeholder tells.
  auto placeholder = std::make_shared<Fill>();
  placeholder->range = slice.range();
  placeholder->arrived = true;
  absl::Status status;
  while (status.ok() || absl::IsAborted(status)) {
    PendingKeys keys;
    {
      absl::MutexLock lock(&shard.mutex);
      shard.ForgetFill(placeholder.get());
      placeholder->overwritten = false;
      shard.fills.push_back(placeholder);
      keys = LostKeysLocked(shard, slice, source);
    }
    if (keys.empty()) {
      status = absl::OkStatus();
      break;
    }
    status = PublishKeys(core, slice.range(), keys, {&placeholder, 1});
  }
  absl::MutexLock lock(&shard.mutex);
  shard.ForgetFill(placeholder.get());
  return status;
}

}  // namespace

absl::Status AppendLocked(ImageCore& core,
                               std::span<const PendingKey> keys) {
  const absl::StatusOr<SequenceNumber> sequence = core.log().Append(keys);
  RETURN_IF_ERROR(sequence.status());
  for (const PendingKey& pending : keys) {
    InsertLocked(core, pending.key, *sequence);
  }
  return absl::OkStatus();
}

absl::Status PublishKeys(ImageCore& core, ImageRange range,
                         std::span<const PendingKey> keys,
                         std::span<const std::shared_ptr<Fill>> placeholders) {
  uint64_t dirty = 0;
  for (const PendingKey& pending : keys) {
    if (IsDirty(pending.key.kind)) dirty += pending.key.range.length;
  }
  // Before anyone can see the keys: writeback may take them at once.
  SetDirty(core, keys, true);
  core.dirty_bytes() += dirty;

  absl::Status status;
  {
    ShardLocks locks(core.shards(), range);
    for (const auto& placeholder : placeholders) {
      if (placeholder->overwritten &&
          !Planted(Mutation::kFillBeatsOverwrite)) {
        status = absl::AbortedError("overwritten in the meantime");
      }
    }
    if (status.ok()) status = AppendLocked(core, keys);
  }
  if (!status.ok()) {
    SetDirty(core, keys, false);
    core.dirty_bytes() -= dirty;
  }
  return status;
}

PieceSource SourceOf(const PayloadIo& payload, const Key& key,
                     SequenceNumber sequence, ImageOffset offset) {
  if (key.kind == KeyKind::kLost) return PieceSource::Lost(sequence);
  if (!HasPayload(key.kind)) return PieceSource::Zero(sequence);
  return PieceSource::Payload(payload.MediaSectorOf(key.position) +
                              (offset - key.range.offset) / kSectorSize);
}

absl::Status WritePayload(ImageCore& core, KeyKind kind, ImageRange range,
                          std::span<const std::byte> bytes, PendingKeys& keys,
                          AllocationPurpose purpose) {
  absl::Status status;
  const size_t first_key = keys.size();
  while (!range.empty() && status.ok()) {
    const uint64_t wanted = std::min(range.length, kMaxKeyPayload);
    const absl::StatusOr<Allocation> allocation =
        core.allocator().Allocate(DivideRoundingUp(wanted, kBlockSize),
                                  purpose);
    if (!allocation.ok()) {
      status = allocation.status();
      break;
    }
    const uint64_t length =
        std::min(wanted, allocation->block_count * kBlockSize);
    status = core.payload().Write(*allocation, bytes.first(length));
    core.counters().Add(Counter::kPayloadBytes,
                        allocation->block_count * kBlockSize);
    keys.push_back(
        {.key = {.kind = kind,
                 .range = {range.offset, length},
                 .position = allocation->position(),
                 .generation = allocation->generation},
         .checksums = {core.table().segment(allocation->segment).checksums() +
                           allocation->first_block,
                       allocation->block_count}});
    bytes = bytes.subspan(length);
    range.offset += length;
    range.length -= length;
  }
  if (!status.ok()) {
    AbandonPayload(core, std::span(keys).subspan(first_key));
    keys.resize(first_key);
  }
  return status;
}

absl::Status MarkLost(ImageCore& core, ImageRange range, PieceSource source) {
  absl::Status status;
  ForEachSlice(range, [&](const ShardSlice& slice) {
    status.Update(MarkLostInSlice(
        core, slice,
        source.Advanced((slice.offset - range.offset) / kSectorSize)));
  });
  return status;
}

void AbandonPayload(ImageCore& core, std::span<const PendingKey> keys) {
  for (const PendingKey& pending : keys) {
    core.space().DropReference(pending.key.position.segment);
  }
}

}  // namespace pcachefs
