#include "fuse/image_requests.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/cached_image.h"
#include "core/hit_view.h"
#include "fuse/errno_mapping.h"
#include "fuse/fuse_reply.h"
#include "fuse/piecewise.h"
#include "fuse/read_buffer.h"
#include "meta/types.h"

namespace pcachefs {
namespace {

// What of [offset, offset + length) lies within the image.
ImageRange Clamp(const CachedImage& image, uint64_t offset, uint64_t length) {
  const uint64_t size = image.size();
  if (offset >= size) return {ImageOffset(size), 0};
  return {ImageOffset(offset), std::min(length, size - offset)};
}

// The kernel has the memory back with the answer.
void ReadIntoPayload(CachedImage& image, ImageRange range, FuseReply reply) {
  const std::span<std::byte> out = reply.payload().first(range.length);
  const uint32_t length = static_cast<uint32_t>(range.length);
  image.Read(
      range, out,
      [reply = std::move(reply), length](absl::Status status) mutable {
        if (!status.ok()) return reply.Send(status);
        reply.Data(reply.payload().first(length));
      },
      CachedImage::Buffer::kUntilAnswered);
}

// The buffer lives as long as the callback.
void ReadIntoBuffer(CachedImage& image, ImageRange range, ReadBuffer buffer,
                    FuseReply reply) {
  const std::span<std::byte> out = buffer->bytes();
  image.Read(range, out,
             [reply = std::move(reply),
              buffer = std::move(buffer)](absl::Status status) mutable {
               if (!status.ok()) return reply.Send(status);
               reply.Data(buffer->bytes());
             });
}

// The first offset from `offset` on that is a hole, or data; the end of the
// image counts as a hole. OutOfRange if there is none.
absl::StatusOr<uint64_t> FindNext(CachedImage& image, uint64_t offset,
                                  bool want_hole) {
  while (offset < image.size()) {
    const absl::StatusOr<CachedImage::Extent> extent =
        image.FindExtent(ImageOffset(offset));
    if (!extent.ok()) return extent.status();
    if (extent->is_hole == want_hole) return offset;
    if (extent->length == 0) break;
    offset += extent->length;
  }
  if (want_hole) return image.size();
  return absl::OutOfRangeError("no data up to the end of the image");
}

}  // namespace

void ImageRequests::Read(CachedImage& image, uint64_t offset, size_t length,
                         FuseReply reply) {
  const ImageRange range = Clamp(image, offset, length);
  if (range.empty()) return reply.Data({});
  if (reply.payload().size() >= range.length) {
    return ReadIntoPayload(image, range, std::move(reply));
  }
  if (reply.payload().empty()) {
    // The classic channel copies from anywhere.
    const HitView hit = image.ViewHit(range);
    if (!hit.empty()) return reply.Gather(hit.parts());
  }
  ReadIntoBuffer(image, range, buffers_.Take(range.length), std::move(reply));
}

void ImageRequests::Write(CachedImage& image, uint64_t offset,
                          std::span<const std::byte> bytes, FuseReply reply) {
  const ImageRange range = Clamp(image, offset, bytes.size());
  if (range.empty()) {
    return bytes.empty() ? reply.Written(0) : reply.Error(ENOSPC);
  }
  // The ring's memory stays ours until the answer; the classic channel's is
  // used for the thread's next request.
  const CachedImage::Payload payload =
      bytes.data() == reply.payload().data()
          ? CachedImage::Payload::kBorrowUntilDone
          : CachedImage::Payload::kCopyIfWaiting;
  const uint32_t length = static_cast<uint32_t>(range.length);
  image.Write(range, bytes.first(range.length), payload,
              [reply = std::move(reply), length](absl::Status status) mutable {
                if (!status.ok()) return reply.Send(status);
                reply.Written(length);
              });
}

void ImageRequests::Flush(CachedImage& image, FuseReply reply) {
  image.Flush([reply = std::move(reply)](absl::Status status) mutable {
    reply.Send(status);
  });
}

void ImageRequests::Fallocate(CachedImage& image, int mode, uint64_t offset,
                              uint64_t length, FuseReply reply) {
  const bool punch = mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  const bool zero = (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
  const bool allocate = (mode & ~FALLOC_FL_KEEP_SIZE) == 0;
  if (!punch && !zero && !allocate) return reply.Error(EOPNOTSUPP);

  const ImageRange range = Clamp(image, offset, length);
  const bool reaches_beyond = range.length < length;
  const bool keeps_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  if (reaches_beyond && (allocate || !keeps_size)) {
    return reply.Error(ENOSPC);
  }
  if (allocate) return reply.Ok();

  using Done = absl::AnyInvocable<void(absl::Status)>;
  RunPiecewise(
      range, kPieceLength,
      [&image, punch](ImageRange piece, Done done) {
        punch ? image.Discard(piece, std::move(done))
              : image.Zero(piece, std::move(done));
      },
      [reply = std::move(reply)](absl::Status status) mutable {
        reply.Send(status);
      });
}

void ImageRequests::Seek(CachedImage& image, uint64_t offset, int whence,
                         FuseReply reply) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return reply.Error(EINVAL);
  if (offset >= image.size()) return reply.Error(ENXIO);
  seeker_.Post([&image, offset, whence, reply = std::move(reply)]() mutable {
    const absl::StatusOr<uint64_t> found =
        FindNext(image, offset, whence == SEEK_HOLE);
    if (found.ok()) return reply.Offset(*found);
    reply.Error(absl::IsOutOfRange(found.status()) ? ENXIO
                                                   : ErrnoOf(found.status()));
  });
}

}  // namespace pcachefs
