#include "fuse/control_attributes.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/status.h"
#include "fuse/control_target.h"
#include "meta/records.h"
#include "meta/status_macros.h"

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

absl::Status SetGcPercent(ControlTarget& target, const ImageStatus& image,
                          absl::string_view value) {
  int percent = 0;
  if (!absl::SimpleAtoi(value, &percent) || percent < 0 ||
      percent > kMaxGcPercent) {
    return absl::InvalidArgumentError(
        absl::StrCat("gc_percent: got '", value, "', want 0..", kMaxGcPercent));
  }
  return target.SetGcPercent(image.name, percent);
}

absl::Status SetMode(ControlTarget& /*target*/, const ImageStatus& image,
                     absl::string_view value) {
  ASSIGN_OR_RETURN(const CacheMode mode, ParseCacheMode(value));
  if (mode == image.mode) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "cache_mode: image ", image.name, " is in mode ", Name(image.mode),
      "; switching to ", Name(mode), " is not possible in this version"));
}

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

const std::vector<ImageSetting>& ImageSettings() {
  static const auto& settings = *new std::vector<ImageSetting>{
      {"gc_percent", GcPercentText, SetGcPercent},
      {"cache_mode", ModeText, SetMode},
  };
  return settings;
}

const ImageSetting* FindImageSetting(absl::string_view key) {
  for (const ImageSetting& setting : ImageSettings()) {
    if (setting.key == key) return &setting;
  }
  return nullptr;
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
