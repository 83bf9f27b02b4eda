#include "fuse/control_attributes.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/status.h"
#include "fuse/control_target.h"
#include "fuse/image_setting.h"
#include "meta/records.h"

namespace pcachefs {
namespace {

struct CacheAttribute {
  const char* name;
  std::string (*text)(const CacheStatus& cache);
};

const CacheAttribute kCacheAttributes[] = {
    {"path", [](const CacheStatus& c) { return c.path; }},
    {"uuid", [](const CacheStatus& c) { return c.uuid.ToString(); }},
    {"segment_size",
     [](const CacheStatus& c) { return absl::StrCat(c.segment_size); }},
    {"segments", [](const CacheStatus& c) { return absl::StrCat(c.segments); }},
    {"segments_used",
     [](const CacheStatus& c) { return absl::StrCat(c.segments_used); }},
    {"state", [](const CacheStatus& c) { return std::string(Name(c.state)); }},
};

struct ImageAttribute {
  const char* name;
  std::string (*text)(const ImageStatus& image);
  const char* setting;  // the key that writing sets; nullptr: read-only
};

std::string GcPercentText(const ImageStatus& i) {
  return absl::StrCat(i.gc_percent);
}
std::string ModeText(const ImageStatus& i) { return Name(i.mode); }

const ImageAttribute kImageAttributes[] = {
    {"name", [](const ImageStatus& i) { return i.name; }, nullptr},
    {"path", [](const ImageStatus& i) { return i.backing; }, nullptr},
    {"mapped_id",
     [](const ImageStatus& i) { return absl::StrCat(i.id.value()); }, nullptr},
    {"cache_segs",
     [](const ImageStatus& i) { return absl::StrCat(i.cache_segs); }, nullptr},
    {"cache_used_segs",
     [](const ImageStatus& i) { return absl::StrCat(i.cache_used_segs); },
     nullptr},
    {"cache_gc_percent", GcPercentText, "gc_percent"},
    {"cache_mode", ModeText, "cache_mode"},
    {"dirty_bytes",
     [](const ImageStatus& i) { return absl::StrCat(i.dirty_bytes); }, nullptr},
    {"state", [](const ImageStatus& i) { return std::string(Name(i.state)); },
     nullptr},
};

}  // namespace

std::vector<std::string> CacheAttributeNames() {
  std::vector<std::string> names;
  for (const CacheAttribute& attribute : kCacheAttributes) {
    names.push_back(attribute.name);
  }
  return names;
}

std::vector<std::string> ImageAttributeNames() {
  std::vector<std::string> names;
  for (const ImageAttribute& attribute : kImageAttributes) {
    names.push_back(attribute.name);
  }
  return names;
}

bool IsWritableImageAttribute(int attribute) {
  return kImageAttributes[attribute].setting != nullptr;
}

std::string CacheAttributeText(int attribute, const CacheStatus& cache) {
  return kCacheAttributes[attribute].text(cache) + "\n";
}

std::string ImageAttributeText(int attribute, const ImageStatus& image) {
  return kImageAttributes[attribute].text(image) + "\n";
}

absl::Status StoreImageAttribute(int attribute, ControlTarget& target,
                                 const ImageStatus& image,
                                 absl::string_view value) {
  const ImageAttribute& described = kImageAttributes[attribute];
  if (described.setting == nullptr) {
    return absl::PermissionDeniedError(
        absl::StrCat(described.name, ": is read-only"));
  }
  return FindImageSetting(described.setting)
      ->set(target, image, absl::StripAsciiWhitespace(value));
}

}  // namespace pcachefs
