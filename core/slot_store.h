// Keeps one fixed record in its two slots on the cache device: the I/O around
// meta/slot_pair.h, the same for every record type.
//
// A store goes to the slot that does not hold the newest version known to be
// durable (C6), so a power cut at any instant leaves the old or the new value.
// Stores that follow each other without a barrier in between overwrite the same
// slot for that reason; Load expects that a barrier comes before the first
// Store, since what it found need not be durable yet.

#ifndef PCACHEFS_CORE_SLOT_STORE_H_
#define PCACHEFS_CORE_SLOT_STORE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/barrier.h"
#include "core/mutation.h"
#include "iobackend/cache_device.h"
#include "meta/slot_pair.h"
#include "meta/status_macros.h"
#include "meta/types.h"

namespace pcachefs {

// Where the versions of a record stand; 24 bytes, so that every segment can
// have one.
class SlotCursor {
 public:
  SlotCursor() = default;
  SlotCursor(int newest_slot, uint64_t update_number)
      : update_number_(update_number), slot_(newest_slot) {}

  // Whether a barrier covered the newest version.
  bool durable(Barrier& barrier) const {
    return update_number_ == 0 || !stored_ || barrier.Covered(ticket_);
  }
  // The slot and number of the next store.
  int NextSlot(Barrier& barrier) const {
    if (Planted(Mutation::kStoreOverNewestSlot)) return slot_;
    return durable(barrier) ? 1 - slot_ : slot_;
  }
  uint64_t next_update_number() const { return update_number_ + 1; }

  void Stored(int slot, Barrier& barrier) {
    ++update_number_;
    slot_ = slot;
    stored_ = true;
    ticket_ = barrier.WriteTicket();
  }

  uint64_t update_number() const { return update_number_; }

 private:
  uint64_t update_number_ = 0;  // of the newest version; 0: none
  uint64_t ticket_ = 0;         // tells whether the newest version is durable
  int slot_ = 1;                // of the newest version
  bool stored_ = false;         // by us: else it was durable before
};

// Writes the next version of a record; durable after a barrier.
template <typename T>
absl::Status StoreSlot(CacheDevice& device, Barrier& barrier,
                       const std::array<MediaOffset, 2>& slots,
                       SlotCursor& cursor, const T& value) {
  const int slot = cursor.NextSlot(barrier);
  const auto bytes = EncodeSlot(value, cursor.next_update_number());
  RETURN_IF_ERROR(device.Write(slots[slot], bytes));
  cursor.Stored(slot, barrier);
  return absl::OkStatus();
}

// Reads both slots. Errors of ChooseSlot, with the place.
template <typename T>
absl::StatusOr<SlotChoice<T>> LoadSlots(
    CacheDevice& device, const std::array<MediaOffset, 2>& slots) {
  std::array<std::array<std::byte, T::kSize>, 2> bytes;
  for (int slot : {0, 1}) {
    // A slot that cannot be read is as good as a damaged one: the other may
    // hold the record. All ones is no valid record of any type.
    if (!device.Read(slots[slot], bytes[slot]).ok()) {
      bytes[slot].fill(std::byte{0xff});
    }
  }
  return ChooseSlot<T>(bytes[0], bytes[1]);
}

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_SLOT_STORE_H_
