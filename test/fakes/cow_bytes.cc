#include "test/fakes/cow_bytes.h"

#include <algorithm>
#include <cstring>

#include "absl/base/macros.h"

namespace pcachefs {
namespace {

// Calls action(page, offset in page, length, offset in range) for each piece.
template <typename Action>
void ForEachPage(uint64_t offset, uint64_t length, Action action) {
  uint64_t done = 0;
  while (done < length) {
    const uint64_t in_page = (offset + done) % CowBytes::kPageSize;
    const uint64_t piece =
        std::min(CowBytes::kPageSize - in_page, length - done);
    action((offset + done) / CowBytes::kPageSize, in_page, piece, done);
    done += piece;
  }
}

}  // namespace

CowBytes::CowBytes(uint64_t size)
    : size_(size), pages_((size + kPageSize - 1) / kPageSize) {}

void CowBytes::Read(uint64_t offset, std::span<std::byte> out) const {
  ABSL_HARDENING_ASSERT(offset + out.size() <= size_);
  ForEachPage(
      offset, out.size(),
      [&](uint64_t index, uint64_t in_page, uint64_t length, uint64_t done) {
        if (pages_[index] == nullptr) {
          std::memset(out.data() + done, 0, length);
        } else {
          std::memcpy(out.data() + done, pages_[index]->data() + in_page,
                      length);
        }
      });
}

void CowBytes::Write(uint64_t offset, std::span<const std::byte> bytes) {
  ABSL_HARDENING_ASSERT(offset + bytes.size() <= size_);
  ForEachPage(
      offset, bytes.size(),
      [&](uint64_t index, uint64_t in_page, uint64_t length, uint64_t done) {
        std::memcpy(OwnedPage(index).data() + in_page, bytes.data() + done,
                    length);
      });
}

void CowBytes::Zero(uint64_t offset, uint64_t length) {
  ABSL_HARDENING_ASSERT(offset + length <= size_);
  ForEachPage(offset, length,
              [&](uint64_t index, uint64_t in_page, uint64_t piece, uint64_t) {
                if (pages_[index] == nullptr) return;
                if (piece == kPageSize) {
                  pages_[index] = nullptr;
                } else {
                  std::memset(OwnedPage(index).data() + in_page, 0, piece);
                }
              });
}

void CowBytes::CopyFrom(const CowBytes& other, uint64_t offset,
                        uint64_t length) {
  ABSL_HARDENING_ASSERT(other.size_ == size_ && offset + length <= size_);
  ForEachPage(offset, length,
              [&](uint64_t index, uint64_t in_page, uint64_t piece, uint64_t) {
                if (pages_[index] == other.pages_[index]) return;
                if (piece == kPageSize) {
                  pages_[index] = other.pages_[index];
                } else if (other.pages_[index] == nullptr) {
                  std::memset(OwnedPage(index).data() + in_page, 0, piece);
                } else {
                  std::memcpy(OwnedPage(index).data() + in_page,
                              other.pages_[index]->data() + in_page, piece);
                }
              });
}

uint64_t CowBytes::allocated_bytes() const {
  uint64_t pages = 0;
  for (const auto& page : pages_) pages += page != nullptr;
  return pages * kPageSize;
}

CowBytes::Page& CowBytes::OwnedPage(uint64_t index) {
  std::shared_ptr<Page>& page = pages_[index];
  if (page == nullptr) {
    page = std::make_shared<Page>();  // value-initialised: zeroes
  } else if (page.use_count() > 1) {
    page = std::make_shared<Page>(*page);
  }
  return *page;
}

}  // namespace pcachefs
