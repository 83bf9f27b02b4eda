// The judgements of ReferenceImage over a whole image.

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "meta/status_macros.h"
#include "test/sim/reference_image.h"

namespace pcachefs {
namespace {

// Inverse of the multiplier in reference_image.cc, modulo 2^64.
constexpr uint64_t kUnscramble = 0xf1de83e19937733du;
static_assert(kUnscramble * 0x9e3779b97f4a7c15u == 1);

// Bytes read per call of a Reader.
constexpr uint64_t kChunk = 64 * kKiB;

// Instants between two events: 2 t + 1 is just after event t.
uint64_t JustAfter(uint64_t event) { return 2 * event + 1; }
// End of an interval of those just before event t, and earlier.
uint64_t EndingBefore(uint64_t event) {
  return event >= IntervalSet::kEnd / 2 ? IntervalSet::kEnd : 2 * event;
}

}  // namespace

absl::Status ReferenceImage::ForEachWritten(
    Reader reader, absl::FunctionRef<absl::Status(uint64_t, const History&,
                                                  std::span<const std::byte>)>
                       action) const {
  std::vector<std::byte> chunk;
  auto next = histories_.begin();
  for (uint64_t offset = 0; offset < size_; offset += kChunk) {
    chunk.resize(std::min(kChunk, size_ - offset));
    reader(offset, chunk);
    for (uint64_t at = 0; at < chunk.size(); at += kSectorSize) {
      const uint64_t sector = (offset + at) / kSectorSize;
      const std::span<const std::byte> bytes =
          std::span(chunk).subspan(at, kSectorSize);
      if (next != histories_.end() && next->first == sector) {
        if (!next->second.is_lost) {
          RETURN_IF_ERROR(action(sector, next->second, bytes));
        }
        ++next;
      } else if (!Is(sector, {}, bytes)) {
        return NoVersion(sector * kSectorSize, bytes, "never written");
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ReferenceImage::Match>> ReferenceImage::MatchAll(
    Reader reader, Allowed allowed, IntervalSet& common,
    const char* what) const {
  std::vector<Match> matches;
  RETURN_IF_ERROR(
      ForEachWritten(reader, [&](uint64_t sector, const History& history,
                                 std::span<const std::byte> bytes) {
        Match match = {.sector = sector};
        IntervalSet allowed_here;
        for (size_t i = history.versions.size(); i-- > 0;) {
          if (!Is(sector, history.versions[i], bytes)) {
            continue;
          }
          match.versions.push_back(i);
          match.intervals.push_back(allowed(history, i));
          allowed_here.Add(match.intervals.back());
        }
        if (match.versions.empty())
          return NoVersion(sector * kSectorSize, bytes, what);
        matches.push_back(std::move(match));
        common.Intersect(allowed_here);
        return absl::OkStatus();
      }));
  if (common.empty()) return Contradiction(matches, what);
  return matches;
}

absl::Status ReferenceImage::JudgePowerCut(Reader image) {
  EndAllInFlight();
  IntervalSet common({JustAfter(durable_), IntervalSet::kEnd});
  ASSIGN_OR_RETURN(
      const std::vector<Match> matches,
      MatchAll(
          image,
          [this](const History& history, size_t i) {
            return IntervalSet::Interval{
                JustAfter(writes_[history.versions[i].write].begun),
                EndingBefore(ReplacedAt(history, i))};
          },
          common, "after a power cut"));
  const uint64_t instant = common.intervals().back().begin;
  for (const Match& match : matches) {
    for (size_t i = 0; i < match.versions.size(); ++i) {
      if (match.intervals[i].begin <= instant &&
          instant < match.intervals[i].end) {
        Adopt(match.sector, match.versions[i]);
        break;
      }
    }
  }
  EndJudgement();
  EndCleanStop();
  return absl::OkStatus();
}

absl::Status ReferenceImage::JudgeSectors(Reader image, uint64_t begun,
                                          const char* what) {
  std::vector<std::pair<uint64_t, size_t>> observed;
  RETURN_IF_ERROR(
      ForEachWritten(image, [&](uint64_t sector, const History& history,
                                std::span<const std::byte> bytes) {
        for (size_t i : Candidates(history, begun)) {
          if (Is(sector, history.versions[i], bytes)) {
            observed.emplace_back(sector, i);
            return absl::OkStatus();
          }
        }
        return NoVersion(sector * kSectorSize, bytes, what);
      }));
  for (const auto& [sector, version] : observed) Adopt(sector, version);
  EndJudgement();
  ++now_;
  return absl::OkStatus();
}

absl::Status ReferenceImage::JudgeDaemonCrash(Reader image) {
  EndAllInFlight();
  return JudgeSectors(image, now_, "after a crash of the daemon");
}

absl::Status ReferenceImage::JudgePowerCutOfPlainDisk(Reader image) {
  EndAllInFlight();
  RETURN_IF_ERROR(
      JudgeSectors(image, durable_, "after a power cut around the cache"));
  EndCleanStop();
  return absl::OkStatus();
}

void ReferenceImage::EndAllInFlight() {
  ++now_;
  for (WriteId id : in_flight_) writes_[id].ended = now_;
  in_flight_.clear();
  ++now_;
}

void ReferenceImage::Damage(ImageRange range) {
  ++now_;
  const uint64_t end = std::min(range.end().value(), size_);
  for (uint64_t sector = range.offset.value() / kSectorSize;
       sector * kSectorSize < end; ++sector) {
    History& history = histories_[sector];
    if (history.versions.empty()) history.versions.push_back({});
    history.damaged = now_;
  }
}

bool ReferenceImage::MayBeLost(uint64_t sector, uint64_t begun) const {
  const auto place = histories_.find(sector);
  if (place == histories_.end()) return false;
  const History& history = place->second;
  if (history.damaged == kNever) return false;
  return absl::c_none_of(history.versions, [&](const Version& version) {
    const Write& write = writes_[version.write];
    return write.begun > history.damaged && write.acknowledged &&
           write.ended < begun && version.mixed == nullptr;
  });
}

bool ReferenceImage::NoteLost(uint64_t sector, bool power_was_cut) {
  if (!MayBeLost(sector, power_was_cut ? durable_ : now_ + 1)) return false;
  History& history = histories_[sector];
  history.is_lost = true;
  history.damaged = now_ + 1;
  return true;
}

void ReferenceImage::EndJudgement() {
  for (auto& [sector, history] : histories_) history.is_lost = false;
}

void ReferenceImage::Adopt(uint64_t sector, size_t observed) {
  History& history = histories_[sector];
  Version version = history.versions[observed];
  version.won = true;
  std::vector<Version> kept;
  for (size_t i = 0; i < history.versions.size(); ++i) {
    // Lost, or it never happened. What was replaced stays: the backing device
    // may still have it.
    if (i == observed || Certainly(history, i, observed)) continue;
    const Write& write = writes_[history.versions[i].write];
    if (!write.acknowledged && i > observed) continue;
    kept.push_back(history.versions[i]);
  }
  kept.push_back(version);
  history.versions = std::move(kept);
  // It was in flight, or failed, and turns out to have happened.
  writes_[version.write].acknowledged = true;
}

void ReferenceImage::EndCleanStop() {
  ++now_;
  durable_ = now_;
  flushes_.push_back({now_, now_});
  ++now_;
}

absl::Status ReferenceImage::JudgeBacking(Reader backing) const {
  std::vector<Flush> flushes = flushes_;
  absl::c_sort(flushes, [](const Flush& a, const Flush& b) {
    return a.begun < b.begun;
  });
  // Boundary j lies between flush j - 1 and flush j. There, no write may be
  // missing that ended before flush j - 1 began, and none be present that began
  // after flush j, or any later one, ended.
  const size_t count = flushes.size();
  std::vector<uint64_t> first_end(count + 1, kNever);
  for (size_t j = count; j-- > 0;) {
    first_end[j] = std::min(flushes[j].ended, first_end[j + 1]);
  }
  IntervalSet common({0, count + 1});
  return MatchAll(
             backing,
             [&](const History& history, size_t i) {
               if (history.damaged != kNever) {
                 return IntervalSet::Interval{0, count + 1};
               }
               const uint64_t begun = writes_[history.versions[i].write].begun;
               const uint64_t replaced = ReplacedAt(history, i);
               IntervalSet::Interval allowed;
               allowed.begin =
                   std::upper_bound(first_end.begin(), first_end.end(), begun) -
                   first_end.begin();
               allowed.end =
                   1 + (std::partition_point(flushes.begin(), flushes.end(),
                                             [&](const Flush& flush) {
                                               return flush.begun < replaced;
                                             }) -
                        flushes.begin());
               return allowed;
             },
             common, "on the backing device")
      .status();
}

absl::Status ReferenceImage::JudgeDrained(Reader backing) const {
  return ForEachWritten(backing, [&](uint64_t sector, const History& history,
                                     std::span<const std::byte> bytes) {
    std::vector<size_t> candidates = Candidates(history, now_ + 1);
    if (MayBeLost(sector, now_ + 1)) {
      candidates.resize(history.versions.size());
      std::iota(candidates.begin(), candidates.end(), size_t{0});
    }
    for (size_t i : candidates) {
      if (Is(sector, history.versions[i], bytes)) {
        return absl::OkStatus();
      }
    }
    return NoVersion(sector * kSectorSize, bytes, "drained");
  });
}

std::string ReferenceImage::Describe(WriteId id) const {
  const Write& write = writes_[id];
  std::string text =
      absl::StrCat(write.kind == Kind::kZeroes ? "zeroes " : "write ", id,
                   " of [", write.range.offset.value(), ", +",
                   write.range.length, "), begun at ", write.begun);
  if (write.ended != kNever) {
    absl::StrAppend(
        &text, write.acknowledged ? ", acknowledged at " : ", given up at ",
        write.ended);
  }
  return text;
}

std::string ReferenceImage::Describe(uint64_t sector) const {
  std::string text =
      absl::StrCat("\n  offset ", sector * kSectorSize, " had, oldest first:");
  const auto history = histories_.find(sector);
  if (history == histories_.end()) return text + " nothing";
  const auto& versions = history->second.versions;
  const size_t first = versions.size() - std::min<size_t>(versions.size(), 6);
  for (size_t i = first; i < versions.size(); ++i) {
    absl::StrAppend(&text, "\n    ", Describe(versions[i].write),
                    versions[i].mixed ? " (a part of the sector)" : "");
  }
  return text;
}

std::string ReferenceImage::DescribeFlushes() const {
  std::string text;
  const size_t count = std::min<size_t>(flushes_.size(), 8);
  for (size_t i = flushes_.size() - count; i < flushes_.size(); ++i) {
    absl::StrAppend(&text, " ", flushes_[i].begun, "-", flushes_[i].ended);
  }
  return text;
}

absl::Status ReferenceImage::NoVersion(uint64_t offset,
                                       std::span<const std::byte> bytes,
                                       const char* what) const {
  std::string got = "unknown bytes";
  if (absl::c_all_of(bytes, [](std::byte b) { return b == std::byte{0}; })) {
    got = "zeroes";
  } else if (const uint64_t skip = RoundUp(offset, 8) - offset;
             bytes.size() >= skip + 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + skip, 8);
    word *= kUnscramble;
    if (word >> 40 < writes_.size()) {
      got = absl::StrCat("offset ", (word & ((uint64_t{1} << 40) - 1)) * 8,
                         " of ", Describe(WriteId(word >> 40)));
    }
  }
  return absl::DataLossError(absl::StrCat(
      what, ": offset ", offset, " has ", got,
      ", which it must not have now (event ", now_, ", flushed as of ",
      durable_, ")", Describe(offset / kSectorSize)));
}

absl::Status ReferenceImage::Contradiction(const std::vector<Match>& matches,
                                           const char* what) const {
  // The sector that demands the latest cut, and the one that demands the
  // earliest: one of them is wrong.
  const Match* latest = nullptr;
  const Match* earliest = nullptr;
  uint64_t begin = 0;
  uint64_t end = 0;
  for (const Match& match : matches) {
    IntervalSet set;
    for (const auto& interval : match.intervals) set.Add(interval);
    if (set.empty()) {
      latest = earliest = &match;
      break;
    }
    if (latest == nullptr || set.first() > begin) {
      latest = &match;
      begin = set.first();
    }
    if (earliest == nullptr || set.end() < end) {
      earliest = &match;
      end = set.end();
    }
  }
  const auto has = [this](const Match& match) {
    const auto& versions = histories_.find(match.sector)->second.versions;
    return absl::StrCat("\n  offset ", match.sector * kSectorSize, " has ",
                        Describe(versions[match.versions.front()].write));
  };
  return absl::DataLossError(absl::StrCat(
      what, ": no prefix of history: flushed as of ", durable_, has(*latest),
      ", present", has(*earliest), ", something later missing",
      Describe(latest->sector), Describe(earliest->sector),
      "\n  last flushes (begun-ended):", DescribeFlushes()));
}

}  // namespace pcachefs
