// The words of the records' choices, one table each.

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "meta/records.h"

namespace pcachefs {
namespace {

// Indexed by the number of the enumerator.
constexpr const char* kStates[] = {"none", "attached", "detached"};
constexpr const char* kModes[] = {"writeback", "writethrough", "writearound",
                                  "writeonly", "passthrough"};
constexpr const char* kOrders[] = {"strict", "grouped", "relaxed"};
constexpr const char* kBackingKinds[] = {"unknown", "file", "block-device",
                                         "nbd"};
constexpr const char* kUses[] = {"free", "payload", "log"};

template <typename Enum, size_t kCount>
const char* NameIn(const char* const (&names)[kCount], Enum value) {
  const auto index = static_cast<size_t>(value);
  return index < kCount ? names[index] : "unknown";
}

template <typename Enum, size_t kCount>
absl::StatusOr<Enum> ParseIn(const char* const (&names)[kCount],
                             absl::string_view name, absl::string_view what) {
  for (size_t i = 0; i < kCount; ++i) {
    if (name == names[i]) return static_cast<Enum>(i);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": got '", absl::CHexEscape(name), "', want one of ",
                   absl::StrJoin(names, ", ")));
}

}  // namespace

const char* Name(ImageState state) { return NameIn(kStates, state); }
const char* Name(CacheMode mode) { return NameIn(kModes, mode); }
const char* Name(WritebackOrder order) { return NameIn(kOrders, order); }
const char* Name(BackingKind kind) { return NameIn(kBackingKinds, kind); }
const char* Name(SegmentUse use) { return NameIn(kUses, use); }

absl::StatusOr<CacheMode> ParseCacheMode(absl::string_view name) {
  return ParseIn<CacheMode>(kModes, name, "cache mode");
}

absl::StatusOr<WritebackOrder> ParseWritebackOrder(absl::string_view name) {
  return ParseIn<WritebackOrder>(kOrders, name, "writeback order");
}

}  // namespace pcachefs
