#include "test/fakes/fake_media.h"

#include <algorithm>
#include <utility>

#include "absl/base/macros.h"

namespace pcachefs {

FakeMedia::FakeMedia(uint64_t size, uint32_t atom_size)
    : atom_size_(atom_size), visible_(size), durable_(size) {}

void FakeMedia::Write(uint64_t offset, std::span<const std::byte> bytes) {
  visible_.Write(offset, bytes);
  journal_.push_back({offset, bytes.size(),
                      std::make_shared<const std::vector<std::byte>>(
                          bytes.begin(), bytes.end())});
}

void FakeMedia::Zero(uint64_t offset, uint64_t length) {
  visible_.Zero(offset, length);
  journal_.push_back({offset, length, nullptr});
}

void FakeMedia::Apply(const Record& record, CowBytes& bytes) {
  if (record.bytes == nullptr) {
    bytes.Zero(record.offset, record.length);
  } else {
    bytes.Write(record.offset, *record.bytes);
  }
}

void FakeMedia::PersistUpTo(uint64_t end) {
  ABSL_HARDENING_ASSERT(end <= journal_end());
  if (end <= journal_begin_) return;  // an earlier call covered more
  const size_t count = end - journal_begin_;
  if (count == journal_.size()) {
    durable_ = visible_;  // shares the pages: no bytes move
  } else {
    for (size_t i = 0; i < count; ++i) Apply(journal_[i], durable_);
  }
  journal_.erase(journal_.begin(), journal_.begin() + count);
  journal_begin_ = end;
}

std::vector<FakeMedia::Fate> FakeMedia::DrawFates(Random& random) const {
  const size_t count = journal_.size();
  std::vector<Fate> fates(count, Fate::kLost);
  const size_t pivot = count == 0 ? 0 : random.Below(count);
  const uint64_t percent = random.Between(1, 99);
  switch (random.Below(8)) {
    case 0:
      break;
    case 1:
      std::fill(fates.begin(), fates.end(), Fate::kKept);
      break;
    case 2:  // a beginning, and a piece of the next
      std::fill(fates.begin(), fates.begin() + pivot, Fate::kKept);
      if (count > 0) fates[pivot] = Fate::kTorn;
      break;
    case 3:  // an end
      std::fill(fates.begin() + pivot, fates.end(), Fate::kKept);
      break;
    case 4:  // all but one
      std::fill(fates.begin(), fates.end(), Fate::kKept);
      if (count > 0) fates[pivot] = Fate::kLost;
      break;
    case 5:  // everything torn
      std::fill(fates.begin(), fates.end(), Fate::kTorn);
      break;
    case 6:  // all but one of the last few
      std::fill(fates.begin(), fates.end(), Fate::kKept);
      if (count > 0) {
        fates[count - 1 - random.Below(std::min<size_t>(count, 8))] =
            random.Percent(50) ? Fate::kLost : Fate::kTorn;
      }
      break;
    default:
      for (Fate& fate : fates) {
        if (random.Percent(percent)) fate = Fate::kKept;
        if (random.Percent(10)) fate = Fate::kTorn;
      }
  }
  return fates;
}

void FakeMedia::Keep(const Record& record, Fate fate, const CowBytes& rolling,
                     CowBytes& survivors, Random& random) const {
  const uint64_t begin = record.offset / atom_size_ * atom_size_;
  const uint64_t end =
      std::min<uint64_t>((record.offset + record.length + atom_size_ - 1) /
                             atom_size_ * atom_size_,
                         survivors.size());
  if (fate == Fate::kLost) return;
  if (fate == Fate::kKept) {
    survivors.CopyFrom(rolling, begin, end - begin);
    return;
  }
  // Short runs of kept and lost atoms in turn; long ones where there are many.
  const uint64_t longest = 1 + (end - begin) / atom_size_ / 16;
  bool kept = random.Percent(50);
  for (uint64_t at = begin; at < end; kept = !kept) {
    const uint64_t length =
        std::min(random.Between(1, longest) * atom_size_, end - at);
    if (kept) survivors.CopyFrom(rolling, at, length);
    at += length;
  }
}

void FakeMedia::PowerCut(Random& random) {
  const std::vector<Fate> fates = DrawFates(random);
  CowBytes rolling = durable_;
  CowBytes survivors = durable_;
  for (size_t i = 0; i < journal_.size(); ++i) {
    Apply(journal_[i], rolling);
    Keep(journal_[i], fates[i], rolling, survivors, random);
  }
  visible_ = survivors;
  durable_ = std::move(survivors);
  journal_begin_ = journal_end();
  journal_.clear();
}

void FakeMedia::FlipBit(uint64_t offset, int bit) {
  for (CowBytes* bytes : {&visible_, &durable_}) {
    std::byte value;
    bytes->Read(offset, {&value, 1});
    value ^= std::byte{1} << bit;
    bytes->Write(offset, {&value, 1});
  }
}

}  // namespace pcachefs
