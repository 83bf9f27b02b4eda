#include "test/sim/reference_image.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/base/macros.h"

namespace pcachefs {
namespace {

// Odd, so that multiplying by it can be undone (reference_image_judge.cc).
constexpr uint64_t kScramble = 0x9e3779b97f4a7c15u;

std::span<const std::byte> Piece(std::span<const std::byte> sector,
                                 uint64_t offset, size_t length) {
  return sector.subspan(offset % kSectorSize, length);
}

}  // namespace

ReferenceImage::ReferenceImage(uint64_t size, Kind initial) : size_(size) {
  ABSL_HARDENING_ASSERT(size % kSectorSize == 0);
  writes_.push_back({.range = {ImageOffset(0), size},
                     .kind = initial,
                     .begun = 0,
                     .ended = 0,
                     .acknowledged = true});
}

void ReferenceImage::Payload(WriteId id, uint64_t offset,
                             std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    const uint64_t at = offset + done;
    const uint64_t word = ((uint64_t{id} << 40) | at / 8) * kScramble;
    if (at % 8 == 0 && out.size() - done >= 8) {  // nearly always
      std::memcpy(out.data() + done, &word, 8);
      done += 8;
      continue;
    }
    std::byte bytes[8];
    std::memcpy(bytes, &word, 8);  // both sides run on this machine
    const size_t length = std::min(8 - at % 8, out.size() - done);
    std::memcpy(out.data() + done, bytes + at % 8, length);
    done += length;
  }
}

bool ReferenceImage::Equal(std::span<const std::byte> a,
                           std::span<const std::byte> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

ReferenceImage::Sector ReferenceImage::Content(uint64_t sector,
                                               const Version& version) const {
  if (version.mixed != nullptr) return *version.mixed;
  Sector content = {};
  if (writes_[version.write].kind == Kind::kBytes) {
    Payload(version.write, sector * kSectorSize, content);
  }
  return content;
}

bool ReferenceImage::Is(uint64_t sector, const Version& version,
                        std::span<const std::byte> bytes) const {
  if (version.mixed != nullptr) return Equal(*version.mixed, bytes);
  const bool is_zero = writes_[version.write].kind == Kind::kZeroes;
  const uint64_t first =
      uint64_t{version.write} << 40 | sector * (kSectorSize / 8);
  for (uint64_t i = 0; i < kSectorSize / 8; ++i) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i * 8, 8);
    if (word != (is_zero ? 0 : (first + i) * kScramble)) return false;
  }
  return true;
}

bool ReferenceImage::Certainly(const History& history, size_t later,
                               size_t earlier) const {
  if (history.versions[later].won && later > earlier) return true;
  return writes_[history.versions[earlier].write].ended <
         writes_[history.versions[later].write].begun;
}

uint64_t ReferenceImage::ReplacedAt(const History& history,
                                    size_t version) const {
  uint64_t replaced_at = kNever;
  for (size_t other = 0; other < history.versions.size(); ++other) {
    const Write& write = writes_[history.versions[other].write];
    if (write.acknowledged && write.ended < replaced_at &&
        Certainly(history, other, version)) {
      replaced_at = write.ended;
    }
  }
  return replaced_at;
}

std::vector<size_t> ReferenceImage::Candidates(const History& history,
                                               uint64_t begun) const {
  std::vector<size_t> candidates;
  for (size_t i = history.versions.size(); i-- > 0;) {
    if (ReplacedAt(history, i) >= begun) candidates.push_back(i);
    const Write& write = writes_[history.versions[i].write];
    if (history.versions[i].won && write.acknowledged && write.ended < begun) {
      break;  // it replaced all older ones
    }
  }
  return candidates;
}

bool ReferenceImage::CanWrite(ImageRange range) const {
  for (WriteId id : in_flight_) {
    const ImageRange& other = writes_[id].range;
    const ImageRange theirs = {
        ImageOffset(RoundDown(other.offset.value(), kSectorSize)),
        RoundUp(other.end().value(), kSectorSize) -
            RoundDown(other.offset.value(), kSectorSize)};
    const ImageRange ours = {
        ImageOffset(RoundDown(range.offset.value(), kSectorSize)),
        RoundUp(range.end().value(), kSectorSize) -
            RoundDown(range.offset.value(), kSectorSize)};
    if (ours.Overlaps(theirs) && (ours != range || theirs != other)) {
      return false;
    }
  }
  for (uint64_t edge : {range.offset.value(), range.end().value()}) {
    if (edge % kSectorSize == 0) continue;
    const auto history = histories_.find(edge / kSectorSize);
    if (MayBeLost(edge / kSectorSize, now_ + 1)) return false;
    if (history != histories_.end() &&
        Candidates(history->second, now_ + 1).size() != 1) {
      return false;
    }
  }
  return true;
}

ReferenceImage::WriteId ReferenceImage::BeginWrite(ImageRange range,
                                                   Kind kind) {
  ABSL_HARDENING_ASSERT(!range.empty() && range.end().value() <= size_);
  const WriteId id = static_cast<WriteId>(writes_.size());
  writes_.push_back({.range = range, .kind = kind, .begun = ++now_});
  in_flight_.push_back(id);
  const uint64_t end = range.end().value();
  for (uint64_t sector = range.offset.value() / kSectorSize;
       sector * kSectorSize < end; ++sector) {
    History& history = histories_[sector];
    if (history.versions.empty()) history.versions.push_back({});
    const uint64_t from = std::max(sector * kSectorSize, range.offset.value());
    const uint64_t to = std::min((sector + 1) * kSectorSize, end);
    Version version = {.write = id};
    if (to - from < kSectorSize) {
      const size_t base = Candidates(history, now_).front();
      auto mixed =
          std::make_shared<Sector>(Content(sector, history.versions[base]));
      const Sector ours = Content(sector, version);
      std::copy_n(ours.begin() + from % kSectorSize, to - from,
                  mixed->begin() + from % kSectorSize);
      version.mixed = std::move(mixed);
    }
    history.versions.push_back(std::move(version));
  }
  return id;
}

void ReferenceImage::EndWrite(WriteId id, bool acknowledged) {
  const auto place = absl::c_find(in_flight_, id);
  ABSL_HARDENING_ASSERT(place != in_flight_.end());
  in_flight_.erase(place);
  writes_[id].ended = ++now_;
  writes_[id].acknowledged = acknowledged;
}

void ReferenceImage::EndFlush(uint64_t begun, bool acknowledged) {
  ++now_;
  if (!acknowledged) return;
  durable_ = std::max(durable_, begun);
  flushes_.push_back({begun, now_});
}

absl::Status ReferenceImage::EndRead(uint64_t begun, ImageRange range,
                                     std::span<const std::byte> bytes) {
  ++now_;
  uint64_t done = 0;
  while (done < range.length) {
    const uint64_t at = range.offset.value() + done;
    const uint64_t length =
        std::min(kSectorSize - at % kSectorSize, range.length - done);
    if (absl::Status status =
            ReadSector(begun, at, bytes.subspan(done, length));
        !status.ok()) {
      return status;
    }
    done += length;
  }
  return absl::OkStatus();
}

absl::Status ReferenceImage::ReadSector(uint64_t begun, uint64_t offset,
                                        std::span<const std::byte> bytes) {
  const uint64_t sector = offset / kSectorSize;
  const auto place = histories_.find(sector);
  if (place == histories_.end()) {
    const Sector initial = Content(sector, {});
    if (Equal(Piece(initial, offset, bytes.size()), bytes)) {
      return absl::OkStatus();
    }
    return NoVersion(offset, bytes, "read");
  }
  History& history = place->second;
  std::vector<size_t> matches;
  for (size_t candidate : Candidates(history, begun)) {
    const Sector content = Content(sector, history.versions[candidate]);
    if (Equal(Piece(content, offset, bytes.size()), bytes)) {
      matches.push_back(candidate);
    }
  }
  if (matches.empty()) return NoVersion(offset, bytes, "read");
  if (matches.size() > 1 || history.versions.back().won) {
    return absl::OkStatus();
  }
  // Once all have ended acknowledged, the one that is there came last.
  for (const Version& version : history.versions) {
    const Write& write = writes_[version.write];
    if (!write.acknowledged || write.ended >= begun) return absl::OkStatus();
  }
  const auto observed = history.versions.begin() + matches.front();
  std::rotate(observed, observed + 1, history.versions.end());
  history.versions.back().won = true;
  return absl::OkStatus();
}

}  // namespace pcachefs
