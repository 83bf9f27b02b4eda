#include "core/log_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "meta/endian.h"
#include "meta/key_set.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Reads grow from one to the other while the walk goes on, so that looking at
// one set is cheap and looking at millions is too.
constexpr size_t kFirstRead = 4 * kKiB;
constexpr size_t kLargestRead = kMiB;

// Where the tag stands in the header of a key set.
constexpr size_t kTagOffset = 24;

}  // namespace

LogReader::LogReader(CacheDevice& device, SegmentTable& segments,
                     const Start& start)
    : device_(device),
      segments_(segments),
      image_(start.image),
      image_size_(start.image_size),
      position_(start.position),
      incarnation_(start.min_incarnation),
      read_size_(kFirstRead) {}

absl::StatusOr<KeySetView> LogReader::Next() {
  absl::StatusOr<KeySetView> view = ParseHere(/*refresh=*/false);
  if (!view.ok()) view = ParseHere(/*refresh=*/true);
  if (!view.ok()) return view;

  if (view->header().is_link) {
    RETURN_IF_ERROR(FollowLink(*view));
  } else {
    const SegmentOffset next = position_.offset + view->header().length;
    const uint32_t last = segments_.geometry().segment_size() - kLinkSetSize;
    if (next.value() > last) {
      // What is appended here would stand in another segment.
      return absl::DataLossError(absl::StrCat(
          "key set ", view->header().sequence.value(), ": in segment ",
          position_.segment.value(), ": end: got ", next.value(),
          ", want at most ", last, ", which leaves room for a link"));
    }
    position_.offset = next;
  }
  incarnation_ = view->header().incarnation;
  position_.sequence += 1;
  return view;
}

absl::StatusOr<SequenceNumber> LogReader::FindProofOfDurability(
    CacheDevice& device, const Geometry& geometry, ImageTag image,
    CachePosition from, SequenceNumber expected) {
  SequenceNumber proven;
  std::vector<std::byte> rest(geometry.segment_size() - from.offset.value());
  RETURN_IF_ERROR(device.Read(geometry.position(from), rest));
  // By the tag in the headers: memory is searched faster than sets are parsed.
  char tag[sizeof(uint64_t)];
  StoreLittle<uint64_t>(std::as_writable_bytes(std::span(tag)), 0,
                        image.value());
  const absl::string_view text(reinterpret_cast<const char*>(rest.data()),
                               rest.size());
  const absl::string_view wanted(tag, sizeof(tag));
  for (size_t found = text.find(wanted, kTagOffset);
       found != absl::string_view::npos; found = text.find(wanted, found + 1)) {
    const size_t at = found - kTagOffset;
    if (at % kKeySetAlignment != 0) continue;
    const absl::StatusOr<KeySetHeader> header =
        KeySetView::Probe(std::span(rest).subspan(at), image);
    if (!header.ok() || header->sequence < expected) continue;
    proven = std::max(proven, header->durable);
  }
  return proven;
}

absl::StatusOr<KeySetView> LogReader::ParseHere(bool refresh) {
  const KeySetExpectation expected = {.image = image_,
                                      .sequence = position_.sequence,
                                      .min_incarnation = incarnation_};
  const Geometry& geometry = segments_.geometry();
  ASSIGN_OR_RETURN(std::span<const std::byte> bytes,
                   Bytes(kKeySetHeaderSize, refresh));
  absl::StatusOr<KeySetView> view =
      KeySetView::Parse(bytes, expected, geometry, image_size_);
  if (view.ok() || bytes.size() >= kMaxKeySetSize) return view;
  // The set may be longer than what was buffered.
  ASSIGN_OR_RETURN(bytes, Bytes(kMaxKeySetSize, refresh));
  return KeySetView::Parse(bytes, expected, geometry, image_size_);
}

absl::StatusOr<std::span<const std::byte>> LogReader::Bytes(size_t wanted,
                                                            bool refresh) {
  const uint32_t at = position_.offset.value();
  const uint32_t segment_size = segments_.geometry().segment_size();
  wanted = std::min<size_t>(wanted, segment_size - at);
  const bool buffered = buffered_from_.has_value() &&
                        buffered_segment_ == position_.segment.value() &&
                        *buffered_from_ <= at &&
                        *buffered_from_ + buffered_length_ >= at + wanted;
  if (refresh || !buffered) {
    const size_t length =
        std::min<size_t>(std::max(wanted, read_size_), segment_size - at);
    read_size_ = std::min(2 * read_size_, kLargestRead);
    buffer_.resize(std::max(buffer_.size(), length));
    buffered_from_.reset();
    RETURN_IF_ERROR(device_.Read(
        segments_.geometry().position({position_.segment, position_.offset}),
        std::span(buffer_).first(length)));
    buffered_from_ = at;
    buffered_segment_ = position_.segment.value();
    buffered_length_ = length;
  }
  return std::span<const std::byte>(buffer_).subspan(
      at - *buffered_from_, *buffered_from_ + buffered_length_ - at);
}

absl::Status LogReader::FollowLink(const KeySetView& view) {
  KeySetView::Cursor cursor(view);
  if (!cursor.Next()) {
    return absl::DataLossError("key log: link without a key");
  }
  const SegmentId next = cursor.key().position.segment;
  const SegmentRecord record = segments_.record(next);
  const SequenceNumber first = position_.sequence + 1;
  if (record.use != SegmentUse::kLog || record.image != image_ ||
      record.generation != cursor.key().generation ||
      record.first_sequence != first) {
    return absl::FailedPreconditionError(absl::StrCat(
        "key log: link in segment ", position_.segment.value(), " at ",
        position_.offset.value(), " names segment ", next.value(),
        " generation ", cursor.key().generation.value(),
        " for key set ", first.value(), ", but that segment is ",
        Name(record.use), ", generation ", record.generation.value(),
        ", first key set ", record.first_sequence.value()));
  }
  position_.segment = next;
  position_.offset = SegmentOffset(0);
  position_.generation = record.generation;
  return absl::OkStatus();
}

}  // namespace pcachefs
