// Damages a cache device as a fuzzer's input says, in ways that get past the
// checksums: what a hostile cache file may look like.

#ifndef PCACHEFS_TEST_FUZZ_DEVICE_MUTATOR_H_
#define PCACHEFS_TEST_FUZZ_DEVICE_MUTATOR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "iobackend/cache_device.h"
#include "meta/endian.h"
#include "meta/geometry.h"
#include "meta/types.h"

namespace pcachefs {

// A sound device of one image, and where its log stands.
struct SoundDevice {
  Geometry geometry;
  ImageTag image;
  std::vector<LogPosition> key_sets;  // not empty
};

class DeviceMutator {
 public:
  // Both outlive the mutator.
  DeviceMutator(CacheDevice& device, const SoundDevice& sound)
      : device_(device), sound_(sound) {}

  // Takes one mutation, kMutationSize bytes, from the input and applies it.
  static constexpr size_t kMutationSize = 16;
  void Apply(ByteReader& input);

 private:
  struct Mutation {
    uint8_t which, width;  // width: of what is stored, bytes
    uint16_t offset;
    uint64_t value;
    uint32_t place;
  };

  // Stores into a record, which gets the next update number and its checksum.
  void EditRecord(const Mutation& mutation);
  template <typename T>
  void EditRecord(const Mutation& mutation, MediaOffset slot0,
                  MediaOffset slot1);
  // Stores into a key set, which gets its checksum.
  void EditKeySet(const Mutation& mutation);
  // Writes a key set of one key at any place.
  void ForgeKeySet(const Mutation& mutation);
  // Stores anywhere, checksums or not.
  void EditBytes(const Mutation& mutation);
  // Copies a block over another one.
  void CopyBlock(const Mutation& mutation);

  // Places that mean something: records, key sets, payload.
  uint64_t Place(uint32_t number) const;
  void Read(uint64_t offset, std::vector<std::byte>& bytes);
  void Write(uint64_t offset, const std::vector<std::byte>& bytes);

  CacheDevice& device_;
  const SoundDevice& sound_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FUZZ_DEVICE_MUTATOR_H_
