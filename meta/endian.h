// Little-endian numbers in byte buffers: the only way bytes of the media become
// numbers and back. Every access is checked against the buffer's end.
//
// LoadLittle and StoreLittle take a position that the caller knows to be in
// bounds, as in records of a fixed size; being wrong there is a bug and ends
// the process. ByteReader and ByteWriter go through a buffer from its start and
// remember that it was too short, for input of unknown length.

#ifndef PCACHEFS_META_ENDIAN_H_
#define PCACHEFS_META_ENDIAN_H_

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "absl/base/macros.h"

namespace pcachefs {

namespace endian_internal {
template <std::unsigned_integral T>
T NativeFromLittle(T value) {
  if constexpr (std::endian::native == std::endian::big) {
    auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    std::reverse(bytes.begin(), bytes.end());
    return std::bit_cast<T>(bytes);
  }
  return value;
}
}  // namespace endian_internal

// Requires: offset + sizeof(T) <= bytes.size().
template <std::unsigned_integral T>
T LoadLittle(std::span<const std::byte> bytes, size_t offset) {
  ABSL_HARDENING_ASSERT(offset <= bytes.size() &&
                        sizeof(T) <= bytes.size() - offset);
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return endian_internal::NativeFromLittle(value);
}

// Requires: offset + sizeof(T) <= bytes.size(). T is spelled out by the caller,
// since it is the size of the field.
template <std::unsigned_integral T>
void StoreLittle(std::span<std::byte> bytes, size_t offset,
                 std::type_identity_t<T> value) {
  ABSL_HARDENING_ASSERT(offset <= bytes.size() &&
                        sizeof(T) <= bytes.size() - offset);
  const T little = endian_internal::NativeFromLittle<T>(value);
  std::memcpy(bytes.data() + offset, &little, sizeof(T));
}

// Reads numbers one behind the other. Past the end it yields zeros, and ok()
// is false from then on.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <std::unsigned_integral T>
  T Read() {
    const std::span<const std::byte> bytes = Take(sizeof(T));
    return bytes.empty() ? 0 : LoadLittle<T>(bytes, 0);
  }

  // The next `length` bytes; empty if there are fewer.
  std::span<const std::byte> Take(size_t length) {
    if (length > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
      return {};
    }
    const std::span<const std::byte> taken = bytes_.first(length);
    bytes_ = bytes_.subspan(length);
    return taken;
  }

  bool ok() const { return ok_; }
  std::span<const std::byte> rest() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
  bool ok_ = true;
};

// Writes numbers one behind the other. What does not fit is not written, and
// ok() is false from then on.
class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> bytes) : bytes_(bytes) {}

  template <std::unsigned_integral T>
  void Write(std::type_identity_t<T> value) {
    if (sizeof(T) > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
      return;
    }
    StoreLittle<T>(bytes_, 0, value);
    bytes_ = bytes_.subspan(sizeof(T));
  }

  bool ok() const { return ok_; }
  std::span<std::byte> rest() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
  bool ok_ = true;
};

}  // namespace pcachefs

#endif  // PCACHEFS_META_ENDIAN_H_
