// Everything that can be set for a daemon: one table that feeds the command
// line, `-o key=value`, the help text, and whatever reads settings later.

#ifndef PCACHEFS_TOOLS_SETTINGS_H_
#define PCACHEFS_TOOLS_SETTINGS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fuse/transport.h"
#include "meta/records.h"
#include "meta/size_parser.h"
#include "tools/image_specs.h"
#include "tools/metrics_address.h"

namespace pcachefs {

struct Settings {
  std::string cache;  // absolute path
  std::string mountpoint;
  uint64_t cache_size = 0;    // bytes; 0: the cache must exist
  uint64_t segment_size = 0;  // bytes; 0: by size of the cache
  std::vector<ImageSpec> backing;
  CacheMode mode = CacheMode::kWriteback;
  WritebackOrder order = WritebackOrder::kStrict;
  int gc_percent = -1;            // -1: the cache's default
  uint64_t image_cache_size = 0;  // bytes; 0: an even share
  // Of every image that is attached at the start; nullopt: as recorded.
  std::optional<SizeOrPercent> max_dirty;
  // Largest window read ahead of sequential readers, bytes; nullopt: default.
  std::optional<uint64_t> read_ahead;
  bool foreground = false;
  Transport transport = Transport::kAuto;
  int threads = 0;  // 0: by number of processors
  bool allow_other = false;
  bool read_only = false;
  bool read_only_backing = false;  // of new images
  int nbd_connections = 4;  // most, per image
  int nbd_timeout = 30;     // seconds
  std::optional<MetricsAddress> metrics_listen;
  bool skip_missing = false;
  bool failover = false;
  bool planned_failover = false;  // for upgrades only, over io_uring
  bool is_supervised() const { return failover || planned_failover; }
};

struct Setting {
  const char* name;
  const char* placeholder;  // of the value; nullptr: a switch
  const char* help;
  // `value` as written; a switch gets "true" or "false". InvalidArgument with
  // got and wanted, without the setting's name.
  absl::Status (*set)(absl::string_view value, Settings& settings);

  bool is_switch() const { return placeholder == nullptr; }
};

std::span<const Setting> AllSettings();
// nullptr if there is none of that name.
const Setting* FindSetting(absl::string_view name);

// The settings from values by name; what is not there keeps its default. The
// first value that is refused is named: "cache_size: got ..., want ...".
absl::StatusOr<Settings> ReadSettings(
    const std::map<std::string, std::string>& values);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SETTINGS_H_
