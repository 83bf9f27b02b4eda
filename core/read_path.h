// Reads of one image: hits at once on the caller's thread, misses through the
// backing device straight into the caller's buffer.
//
// plan: under the lock of each shard, pin what is cached and put placeholders
// where nothing is. I/O: copy and verify hits, one batch of backing reads for
// the misses. commit: answer first, then fill the cache, unless the range was
// overwritten meanwhile. Readers that miss what another is already reading wait
// for his bytes. Sequential readers are known by their misses: what they will
// ask for next is read ahead of them, and what is long does not push everything
// else out of a full cache (docs/reclaim.md).

#ifndef PCACHEFS_CORE_READ_PATH_H_
#define PCACHEFS_CORE_READ_PATH_H_

#include <cstddef>
#include <memory>
#include <span>

#include "absl/container/inlined_vector.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "core/cached_image.h"
#include "core/image_core.h"
#include "core/read_streams.h"
#include "core/shard.h"
#include "meta/types.h"

namespace pcachefs {

class ReadOperation;

// Thread-safe. `core` outlives it.
class ReadPath {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  explicit ReadPath(ImageCore& core) : core_(core) {}

  // As CachedImage::Read; the range is checked and not empty.
  void Read(ImageRange range, std::span<std::byte> out,
            CachedImage::Buffer buffer, Done done);

 private:
  friend class ReadOperation;

  // A part of a request that the cache serves.
  struct Piece {
    enum class Kind { kPayload, kZero, kLost };
    Kind kind;
    ImageRange range;
    CachePosition position;  // kPayload
    SegmentPin pin;          // kPayload
  };
  using Pieces = absl::InlinedVector<Piece, 4>;

  // A request on its way; `operation` exists once a part of it has to wait.
  struct Request {
    ImageCore& core;
    ImageRange range;
    std::span<std::byte> out;
    CachedImage::Buffer buffer;
    Done done;
    int64_t began = 0;  // nanoseconds of the clock
    std::shared_ptr<ReadOperation> operation;
    uint64_t missed = 0;  // bytes
    // Known from the first miss on.
    bool is_bypass = false;
    ImageRange read_ahead;
    absl::Status error;

    ReadOperation& NeedOperation();
    std::span<std::byte> Part(ImageRange part) {
      return out.subspan(part.offset - range.offset, part.length);
    }
  };

  void ReadAligned(ImageRange range, std::span<std::byte> out,
                   CachedImage::Buffer buffer, Done done);
  void ReadUnaligned(ImageRange range, std::span<std::byte> out, Done done);

  // Pins what is cached; what is not becomes the operation's.
  Pieces Plan(Request& request);
  void PlanSlice(Request& request, const ShardSlice& slice, Pieces& pieces);
  Piece PieceFor(ImageRange range, PieceSource source);

  // What the first miss of a request says of its reader.
  void LookAtStream(Request& request);
  // Whether the next fills would push others out.
  bool IsFull();
  // Begins to read what a sequential reader will ask for next.
  void ReadAhead(ImageRange window);

  void CopyPayload(Request& request, Piece piece);
  void FetchPayload(Request& request, Piece piece);
  // For reclaim, which keeps what was hit.
  void NoteHit(const Piece& piece);

  // What to do about a payload piece that cannot be read or is not what was
  // written: clean data is forgotten, so that it is a miss from now on (OK);
  // data that only the cache had is an error.
  absl::Status ForgetBadPiece(const Piece& piece, const absl::Status& why);
  void Account(const Request& request);

  ImageCore& core_;
  ReadStreams streams_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_READ_PATH_H_
