#include "meta/types.h"

#include <cstddef>
#include <span>
#include <string>

#include "meta/endian.h"

namespace pcachefs {

std::string Uuid::ToString() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(36);
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 0xf];
  }
  return text;
}

ImageTag Uuid::tag() const {
  return ImageTag(LoadLittle<uint64_t>(std::as_bytes(std::span(bytes)), 0));
}

}  // namespace pcachefs
