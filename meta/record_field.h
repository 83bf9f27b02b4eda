// What the parsers of meta/records.h share: text fields, and the one form of
// their errors, "object: field: got ..., want ...".

#ifndef PCACHEFS_META_RECORD_FIELD_H_
#define PCACHEFS_META_RECORD_FIELD_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "meta/types.h"

namespace pcachefs {

// What grows by one at a time: no device lives to see more, and what is added
// to a number within these bounds does not wrap.
inline constexpr Generation kMaxGeneration{uint32_t{1} << 31};
inline constexpr Incarnation kMaxIncarnation{uint32_t{1} << 31};
inline constexpr SequenceNumber kMaxSequenceNumber{uint64_t{1} << 62};

absl::Status FieldError(absl::string_view record, absl::string_view field,
                        uint64_t got, absl::string_view wanted);

// The text in `bytes`, a zero-padded field with at least one zero. DataLoss if
// there is none or anything but zeros follows it: C strings would hide what
// stands there.
absl::StatusOr<std::string> LoadText(std::span<const std::byte> bytes,
                                     absl::string_view record,
                                     absl::string_view field);

// Requires: text.size() < bytes.size(), no zeros in `text`, `bytes` zeroed.
void StoreText(std::span<std::byte> bytes, absl::string_view text);

// Whether `text` is well-formed UTF-8 (RFC 3629: no overlong forms, no
// surrogates, nothing above U+10FFFF).
bool IsUtf8(absl::string_view text);

}  // namespace pcachefs

#endif  // PCACHEFS_META_RECORD_FIELD_H_
