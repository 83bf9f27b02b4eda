// RETURN_IF_ERROR and ASSIGN_OR_RETURN for absl::Status and absl::StatusOr.

#ifndef PCACHEFS_META_STATUS_MACROS_H_
#define PCACHEFS_META_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define PCACHEFS_CONCAT_INNER(a, b) a##b
#define PCACHEFS_CONCAT(a, b) PCACHEFS_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expression)                                           \
  do {                                                                        \
    if (absl::Status pcachefs_status = (expression); !pcachefs_status.ok()) { \
      return pcachefs_status;                                                 \
    }                                                                         \
  } while (false)

#define ASSIGN_OR_RETURN(left, expression)                              \
  ASSIGN_OR_RETURN_INNER(PCACHEFS_CONCAT(pcachefs_or_, __LINE__), left, \
                         expression)

// `left` may be a declaration, which cannot stand in parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define ASSIGN_OR_RETURN_INNER(temporary, left, expression)  \
  auto temporary = (expression);                             \
  if (!temporary.ok()) return std::move(temporary).status(); \
  left = *std::move(temporary)
// NOLINTEND(bugprone-macro-parentheses)

#endif  // PCACHEFS_META_STATUS_MACROS_H_
