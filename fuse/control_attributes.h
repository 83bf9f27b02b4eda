// The attribute files of the control tree: one value, one line each, under the
// names that pcache has in sysfs.

#ifndef PCACHEFS_FUSE_CONTROL_ATTRIBUTES_H_
#define PCACHEFS_FUSE_CONTROL_ATTRIBUTES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/status.h"
#include "fuse/control_target.h"

namespace pcachefs {

// In the order of their numbers, as ImageDirectory wants them.
std::vector<std::string> CacheAttributeNames();
std::vector<std::string> ImageAttributeNames();

bool IsWritableImageAttribute(int attribute);

// A line with its end. Requires: attribute is one of those above.
std::string CacheAttributeText(int attribute, const CacheStatus& cache);
std::string ImageAttributeText(int attribute, const ImageStatus& image);

// What was written to an attribute file; one line end is allowed.
// Unimplemented, InvalidArgument with got and wanted, or as the setting says.
absl::Status StoreImageAttribute(int attribute, ControlTarget& target,
                                 const ImageStatus& image,
                                 absl::string_view value);

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_CONTROL_ATTRIBUTES_H_
