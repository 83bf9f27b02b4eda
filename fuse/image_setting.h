// The settings of an image for `pcachectl get` and `set` and for the writable
// attribute files: their keys, and their values as people write them.

#ifndef PCACHEFS_FUSE_IMAGE_SETTING_H_
#define PCACHEFS_FUSE_IMAGE_SETTING_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/status.h"
#include "fuse/control_target.h"

namespace pcachefs {

struct ImageSetting {
  const char* key;
  const char* values;  // what may be set, for people
  std::string (*get)(const ImageStatus& image);
  // InvalidArgument with key, got and wanted, or what the target says.
  absl::Status (*set)(ControlTarget& target, const ImageStatus& image,
                      absl::string_view value);
};

// In the order in which they are shown. Sizes are bytes when read; written,
// they may have a letter (64M). "0" and "off" mean none.
const std::vector<ImageSetting>& ImageSettings();

// nullptr if there is none of that name.
const ImageSetting* FindImageSetting(absl::string_view key);

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_IMAGE_SETTING_H_
