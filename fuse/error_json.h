// Errors as they travel in answers of the control file, and back.

#ifndef PCACHEFS_FUSE_ERROR_JSON_H_
#define PCACHEFS_FUSE_ERROR_JSON_H_

#include "absl/status/status.h"
#include "fuse/status_json.h"

namespace pcachefs {

// The answer that stands for an error.
Json ErrorToJson(const absl::Status& status);
// What ErrorToJson was made from, as far as it can be told; OK for answers that
// are no errors.
absl::Status StatusFromJson(const Json& answer);

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_ERROR_JSON_H_
