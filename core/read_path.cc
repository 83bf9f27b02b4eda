#include "core/read_path.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/aligned_buffer.h"
#include "core/payload_io.h"
#include "core/publish.h"
#include "core/read_operation.h"
#include "core/write_path.h"
#include "glog/logging.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Free segments below which nothing is read ahead.
constexpr uint32_t kRoomForReadAhead = 2;
constexpr uint64_t kReadAheadPart = 256 * kKiB;

}  // namespace

void ReadPath::Read(ImageRange range, std::span<std::byte> out,
                    CachedImage::Buffer buffer, Done done) {
  core_.counters().Add(Counter::kReads);
  core_.counters().Add(Counter::kReadBytes, range.length);
  if (IsAligned(range.offset.value(), kSectorSize) &&
      IsAligned(range.length, kSectorSize)) {
    ReadAligned(range, out, buffer, std::move(done));
  } else {
    ReadUnaligned(range, out, std::move(done));
  }
}

void ReadPath::ReadUnaligned(ImageRange range, std::span<std::byte> out,
                             Done done) {
  const ImageOffset begin(RoundDown(range.offset.value(), kSectorSize));
  const ImageRange whole = {
      begin, RoundUp(range.end().value(), kSectorSize) - begin.value()};
  AlignedBuffer buffer(whole.length);
  const std::span<std::byte> bytes = buffer.span();
  ReadAligned(whole, bytes, CachedImage::Buffer::kUntilDestroyed,
              [range, whole, out, buffer = std::move(buffer),
               done = std::move(done)](absl::Status status) mutable {
                if (status.ok()) {
                  std::memcpy(
                      out.data(),
                      buffer.data() + (range.offset - whole.offset),
                      range.length);
                }
                done(std::move(status));
              });
}

void ReadPath::ReadAligned(ImageRange range, std::span<std::byte> out,
                           CachedImage::Buffer buffer, Done done) {
  Request request = {.core = core_,
                     .range = range,
                     .out = out,
                     .buffer = buffer,
                     .done = std::move(done),
                     .began = core_.clock().NowNanos()};
  Pieces pieces = Plan(request);
  Account(request);
  for (Piece& piece : pieces) {
    switch (piece.kind) {
      case Piece::Kind::kZero: {
        const std::span<std::byte> part = request.Part(piece.range);
        std::memset(part.data(), 0, part.size());
        break;
      }
      case Piece::Kind::kLost:
        request.error = absl::DataLossError(absl::StrCat(
            "image ", core_.name(), ": data at ", piece.range.offset.value(),
            " was lost on the cache device"));
        break;
      case Piece::Kind::kPayload:
        CopyPayload(request, std::move(piece));
        break;
    }
  }
  if (request.operation == nullptr) {
    core_.counters().AddLatency(Timing::kReadHit,
                                core_.clock().NowNanos() - request.began);
    request.done(std::move(request.error));
    return;
  }
  if (!request.error.ok()) {
    request.operation->AddPart()(std::move(request.error));
  }
  if (request.read_ahead.empty()) {
    request.operation->Start();
    return;
  }
  // Our own read goes first, but its answer may be the end of us.
  Done hold = request.operation->AddPart();
  request.operation->Start();
  ReadAhead(request.read_ahead);
  hold(absl::OkStatus());
}

void ReadPath::LookAtStream(Request& request) {
  const uint64_t cutoff = core_.settings().sequential_cutoff();
  // Nothing is read ahead that would be bypassed, or take what others wait for.
  const bool has_room = FillsReads(core_.settings().mode()) &&
                        !core_.write_path().has_waiting() &&
                        core_.space().payload_left() >= kRoomForReadAhead;
  const uint64_t longest = cutoff != 0 && IsFull()
                               ? cutoff
                               : std::numeric_limits<uint64_t>::max();
  const ReadStreams::Stream stream =
      streams_.OnMiss(request.range, core_.size(),
                      has_room ? core_.options().read_ahead : 0, longest);
  request.is_bypass = stream.length > longest;
  request.read_ahead = stream.window;
}

bool ReadPath::IsFull() {
  // Reclaim keeps the use a little below its threshold.
  const uint64_t share = core_.space().share();
  return (core_.space().used() + share / 16 + 1) * 100 >=
         share * static_cast<uint64_t>(core_.settings().gc_percent());
}

void ReadPath::ReadAhead(ImageRange window) {
  uint64_t begun = 0;
  while (!window.empty()) {
    // In parts, so that a reader who waits need not wait for all of it.
    const ImageRange part = {window.offset,
                             std::min(window.length, kReadAheadPart)};
    window = {part.end(), window.length - part.length};
    auto buffer = std::make_shared<AlignedBuffer>(part.length);
    auto operation = std::make_shared<ReadOperation>(
        core_, part, buffer->span(), CachedImage::Buffer::kUntilDestroyed,
        core_.clock().NowNanos(), [buffer](absl::Status) {});
    uint64_t bytes = 0;
    ForEachSlice(part, [&](const ShardSlice& slice) {
      Shard& shard = core_.shards()[slice.shard];
      absl::MutexLock lock(&shard.mutex);
      ImageOffset next = slice.offset;
      const auto add_gap = [&](ImageOffset end)
                               ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex) {
        if (next == end) return;
        const ImageRange gap = {next, end - next};
        if (operation->AddReadAhead(shard, gap)) bytes += gap.length;
      };
      shard.index.Visit(
          slice.start, slice.length,
          [&](const KeyIndex::Piece& found) ABSL_NO_THREAD_SAFETY_ANALYSIS {
            add_gap(slice.OffsetOf(found.start));
            next = slice.OffsetOf(found.start + found.length);
          });
      add_gap(slice.range().end());
    });
    if (bytes > 0) operation->Start();
    begun += bytes;
  }
  if (begun == 0) return;
  core_.counters().Add(Counter::kReadAheads);
  core_.counters().Add(Counter::kReadAheadBytes, begun);
}

ReadOperation& ReadPath::Request::NeedOperation() {
  if (operation == nullptr) {
    operation =
        std::make_shared<ReadOperation>(core, range, out, buffer, began,
                                        std::move(done));
  }
  return *operation;
}

ReadPath::Pieces ReadPath::Plan(Request& request) {
  Pieces pieces;
  ForEachSlice(request.range, [&](const ShardSlice& slice) {
    PlanSlice(request, slice, pieces);
  });
  return pieces;
}

void ReadPath::PlanSlice(Request& request, const ShardSlice& slice,
                         Pieces& pieces) {
  // Nothing is dirty then: the backing device has everything but what was lost.
  const bool pass_by = core_.settings().mode() == CacheMode::kPassthrough;
  Shard& shard = core_.shards()[slice.shard];
  absl::MutexLock lock(&shard.mutex);
  ImageOffset next = slice.offset;
  const auto add_miss = [&](ImageOffset end)
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex) {
    if (next == end) return;
    if (request.missed == 0) LookAtStream(request);
    request.missed += end - next;
    request.NeedOperation().AddMiss(
        shard, {next, end - next},
        request.is_bypass ? ReadOperation::Keep::kBypass
                          : ReadOperation::Keep::kFill);
  };
  shard.index.Visit(slice.start, slice.length,
                    [&](const KeyIndex::Piece& found)
                        ABSL_NO_THREAD_SAFETY_ANALYSIS {
                      if (pass_by && found.source.kind() !=
                                         PieceSource::Kind::kLost) {
                        return;
                      }
                      const ImageRange part = {
                          slice.OffsetOf(found.start),
                          uint64_t{found.length} * kSectorSize};
                      add_miss(part.offset);
                      next = part.end();
                      pieces.push_back(PieceFor(part, found.source));
                    });
  add_miss(slice.range().end());
}

ReadPath::Piece ReadPath::PieceFor(ImageRange range, PieceSource source) {
  Piece piece = {.kind = Piece::Kind::kZero, .range = range};
  if (source.kind() == PieceSource::Kind::kLost) {
    piece.kind = Piece::Kind::kLost;
  } else if (source.kind() == PieceSource::Kind::kPayload) {
    piece.kind = Piece::Kind::kPayload;
    piece.position = core_.payload().PositionOf(source.media_sector());
    Segment& segment = core_.table().segment(piece.position.segment);
    segment.Pin();
    piece.pin = SegmentPin(&segment);
  }
  return piece;
}

void ReadPath::CopyPayload(Request& request, Piece piece) {
  NoteHit(piece);
  const std::span<std::byte> part = request.Part(piece.range);
  const absl::StatusOr<bool> copied =
      core_.payload().TryRead(piece.position, part);
  if (copied.ok() && *copied) return;
  if (copied.ok()) {
    FetchPayload(request, std::move(piece));
    return;
  }
  const uint64_t in_block =
      kBlockSize - piece.position.offset.value() % kBlockSize;
  if (piece.range.length > in_block) {
    // One block and the rest, so that no good block shares a bad one's fate.
    const ImageRange first = {piece.range.offset, in_block};
    const ImageRange rest = {first.end(), piece.range.length - in_block};
    for (const ImageRange half : {first, rest}) {
      ReadAligned(half, request.Part(half), request.buffer,
                  request.NeedOperation().AddPart());
    }
    return;
  }
  absl::Status forgotten = ForgetBadPiece(piece, copied.status());
  if (forgotten.ok()) {
    // Again: what is left of it in the index, and misses.
    ReadAligned(piece.range, part, request.buffer,
                request.NeedOperation().AddPart());
  } else {
    request.error = std::move(forgotten);
  }
}

void ReadPath::NoteHit(const Piece& piece) {
  const uint32_t used =
      core_.payload().MarkHit(piece.position, piece.range.length);
  if (used > 0) {
    core_.counters().Add(Counter::kReadAheadUsedBytes, used * kBlockSize);
  }
}

void ReadPath::FetchPayload(Request& request, Piece piece) {
  const std::span<std::byte> part = request.Part(piece.range);
  const CachePosition position = piece.position;
  core_.payload().ReadAsync(
      position, part,
      [this, part, buffer = request.buffer, piece = std::move(piece),
       wait = request.NeedOperation().AddPart()](
          absl::Status status) mutable {
        if (!status.ok()) {
          status = ForgetBadPiece(piece, status);
          if (status.ok()) {
            ReadAligned(piece.range, part, buffer, std::move(wait));
            return;
          }
        }
        wait(std::move(status));
      });
}

absl::Status ReadPath::ForgetBadPiece(const Piece& piece,
                                      const absl::Status& why) {
  core_.counters().Add(absl::IsDataLoss(why) ? Counter::kChecksumErrors
                                             : Counter::kCacheErrors);
  Segment& segment = core_.table().segment(piece.position.segment);
  const uint32_t begin = piece.position.offset.value() / kBlockSize;
  const uint32_t end = DivideRoundingUp(
      piece.position.offset.value() + piece.range.length, kBlockSize);
  for (uint32_t block = begin; block < end; ++block) {
    if (!segment.dirty(block)) continue;
    LOG_EVERY_N(ERROR, 64) << "image " << core_.name()
                           << ": dirty data at " << piece.range << ": " << why;
    return why;
  }
  LOG_EVERY_N(WARNING, 64) << "image " << core_.name() << ": clean data at "
                           << piece.range << " is read again: " << why;
  const PieceSource source =
      PieceSource::Payload(core_.payload().MediaSectorOf(piece.position));
  core_.set_index_dropped_piece();  // the log still tells of it
  ForEachSlice(piece.range, [&](const ShardSlice& slice) {
    Shard& shard = core_.shards()[slice.shard];
    absl::MutexLock lock(&shard.mutex);
    shard.index.RemoveIfFrom(
        slice.start, slice.length,
        source.Advanced((slice.offset - piece.range.offset) / kSectorSize));
  });
  return absl::OkStatus();
}

void ReadPath::Account(const Request& request) {
  const uint64_t missed = request.missed;
  const uint64_t hit = request.range.length - missed;
  Counters& counters = core_.counters();
  counters.Add(missed == 0 ? Counter::kReadHits
               : hit == 0  ? Counter::kReadMisses
                           : Counter::kReadPartialHits);
  if (missed > 0) counters.Add(Counter::kReadMissBytes, missed);
  if (request.is_bypass) {
    counters.Add(Counter::kBypasses);
    counters.Add(Counter::kBypassBytes, missed);
  }
  if (hit > 0) counters.Add(Counter::kReadHitBytes, hit);
}

}  // namespace pcachefs
