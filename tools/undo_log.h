// What a repair overwrote, in a file, so that it can be taken back.

#ifndef PCACHEFS_TOOLS_UNDO_LOG_H_
#define PCACHEFS_TOOLS_UNDO_LOG_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/repair.h"
#include "meta/types.h"

namespace pcachefs {

// Makes the file, for its owner only, durably. AlreadyExists if there is one.
// `cache` tells what it belongs to. The format is a line of text, then for each
// store offset, length (8 bytes each, little-endian) and bytes, then the
// CRC-32C of all that (4 bytes).
absl::Status WriteUndoLog(const std::string& path, const Uuid& cache,
                          const std::vector<RepairStep::Store>& stores);

// DataLoss if the file is damaged, FailedPrecondition if it is of another
// cache.
absl::StatusOr<std::vector<RepairStep::Store>> ReadUndoLog(
    const std::string& path, const Uuid& cache);

// The file's content; `path` is for the messages only.
std::string UndoLogText(const Uuid& cache,
                        const std::vector<RepairStep::Store>& stores);
absl::StatusOr<std::vector<RepairStep::Store>> ParseUndoLog(
    absl::string_view path, absl::string_view text, const Uuid& cache);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_UNDO_LOG_H_
