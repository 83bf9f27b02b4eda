#include "tools/settings.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/options.h"
#include "fuse/transport.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/size_parser.h"
#include "meta/status_macros.h"
#include "tools/image_specs.h"
#include "tools/metrics_address.h"

namespace pcachefs {
namespace {

constexpr int kMaxThreads = 64;

absl::Status SetSize(absl::string_view value, uint64_t& field) {
  ASSIGN_OR_RETURN(field, ParseSize(value));
  return absl::OkStatus();
}

absl::Status SetSegmentSize(absl::string_view value, Settings& settings) {
  ASSIGN_OR_RETURN(const uint64_t size, ParseSize(value));
  if (size < kMinSegmentSize || size > kMaxSegmentSize ||
      (size & (size - 1)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "got '", value, "', want a power of two from 1M to 64M"));
  }
  settings.segment_size = size;
  return absl::OkStatus();
}

absl::Status SetSwitch(absl::string_view value, bool& field) {
  if (absl::SimpleAtob(value, &field)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("got '", value, "', want true or false"));
}

absl::Status SetNumber(absl::string_view value, int min, int max, int& field) {
  if (absl::SimpleAtoi(value, &field) && field >= min && field <= max) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("got '", value, "', want ", min, "..", max));
}

absl::Status SetCache(absl::string_view value, Settings& settings) {
  std::error_code error;
  const auto path = std::filesystem::absolute(std::string(value), error);
  if (value.empty() || error) {
    return absl::InvalidArgumentError(absl::StrCat(
        "got '", value, "', want the path of a file or block device"));
  }
  settings.cache = path.lexically_normal().string();
  return absl::OkStatus();
}

absl::Status SetBacking(absl::string_view value, Settings& settings) {
  ASSIGN_OR_RETURN(settings.backing, ParseImageSpecs(value));
  return absl::OkStatus();
}

absl::Status SetMode(absl::string_view value, Settings& settings) {
  ASSIGN_OR_RETURN(settings.mode, ParseCacheMode(value));
  return absl::OkStatus();
}

absl::Status SetOrder(absl::string_view value, Settings& settings) {
  ASSIGN_OR_RETURN(settings.order, ParseWritebackOrder(value));
  return absl::OkStatus();
}

absl::Status SetTransport(absl::string_view value, Settings& settings) {
  ASSIGN_OR_RETURN(settings.transport, ParseTransport(value));
  return absl::OkStatus();
}

absl::Status SetMaxDirty(absl::string_view value, Settings& settings) {
  ASSIGN_OR_RETURN(settings.max_dirty, ParseSizeOrPercent(value));
  return absl::OkStatus();
}

absl::Status SetReadAhead(absl::string_view value, Settings& settings) {
  settings.read_ahead = 0;
  if (value == "0") return absl::OkStatus();
  ASSIGN_OR_RETURN(settings.read_ahead, ParseSize(value));
  return CacheOptions{.read_ahead = *settings.read_ahead}.Validate();
}

absl::Status SetMetricsListen(absl::string_view value, Settings& settings) {
  ASSIGN_OR_RETURN(settings.metrics_listen, ParseMetricsAddress(value));
  return absl::OkStatus();
}

const Setting kSettings[] = {
    {"cache", "PATH",
     "the cache device: a regular file, block device, tmpfs file or DAX device",
     SetCache},
    {"cache_size", "SIZE",
     "make a cache file of this size if there is none at PATH",
     [](absl::string_view v, Settings& s) { return SetSize(v, s.cache_size); }},
    {"backing", "NAME=SPEC,...",
     "images to attach: NAME shows SPEC, a file, a block device or an NBD URI; "
     "images that the cache knows come back by themselves",
     SetBacking},
    {"mode", "MODE",
     "of new images: writeback, writethrough, writearound, writeonly or "
     "passthrough (writeback)",
     SetMode},
    {"order", "ORDER",
     "of writeback, for new images: strict, grouped or relaxed (strict)",
     SetOrder},
    {"gc_percent", "N",
     "reclaim clean segments when so many percent of an image's share are "
     "used, 0..90 (70)",
     [](absl::string_view v, Settings& s) {
       return SetNumber(v, 0, kMaxGcPercent, s.gc_percent);
     }},
    {"segment_size", "SIZE",
     "of a new cache, 1M to 64M (16M, or less for a small cache)",
     SetSegmentSize},
    {"image_cache_size", "SIZE",
     "share of a new image (an even share of what is free)",
     [](absl::string_view v, Settings& s) {
       return SetSize(v, s.image_cache_size);
     }},
    {"foreground", nullptr, "stay, and log to the terminal",
     [](absl::string_view v, Settings& s) {
       return SetSwitch(v, s.foreground);
     }},
    {"transport", "auto|io_uring|dev_fuse",
     "how requests come from the kernel (auto)", SetTransport},
    {"threads", "N", "that serve dev_fuse (one per processor, 2 to 8)",
     [](absl::string_view v, Settings& s) {
       return SetNumber(v, 1, kMaxThreads, s.threads);
     }},
    {"allow_other", nullptr, "let other users in, as the file modes say",
     [](absl::string_view v, Settings& s) {
       return SetSwitch(v, s.allow_other);
     }},
    {"skip_missing", nullptr,
     "serve the others if the backing device of an image that --backing does "
     "not name is not there",
     [](absl::string_view v, Settings& s) {
       return SetSwitch(v, s.skip_missing);
     }},
    {"failover", nullptr,
     "keep the mount when the daemon dies or is upgraded: a supervisor restarts "
     "it, and requests wait meanwhile; needs Linux 6.9 and dev_fuse",
     [](absl::string_view v, Settings& s) {
       return SetSwitch(v, s.failover);
     }},
    {"planned_failover", nullptr,
     "over io_uring: keep the mount when the daemon is upgraded; a death of the "
     "daemon is its end, as without",
     [](absl::string_view v, Settings& s) {
       return SetSwitch(v, s.planned_failover);
     }},
    {"read_only", nullptr, "refuse writes, write nothing back",
     [](absl::string_view v, Settings& s) {
       return SetSwitch(v, s.read_only);
     }},
    {"read_only_backing", nullptr,
     "of new images: never write to the backing device, keep what is written in "
     "the cache",
     [](absl::string_view v, Settings& s) {
       return SetSwitch(v, s.read_only_backing);
     }},
    {"max_dirty", "SIZE|PERCENT",
     "most dirty data an image may have: a size, or a part of its share such "
     "as 50% (most of the share)",
     SetMaxDirty},
    {"read_ahead", "SIZE",
     "most that is read ahead of a sequential reader at a time, 0 = nothing "
     "(2M)",
     SetReadAhead},
    {"nbd_connections", "N",
     "most connections to an NBD server, if it allows several, 1..16 (4)",
     [](absl::string_view v, Settings& s) {
       return SetNumber(v, 1, 16, s.nbd_connections);
     }},
    {"nbd_timeout", "SECONDS",
     "how long an NBD server may be silent before requests fail, 1..3600 (30)",
     [](absl::string_view v, Settings& s) {
       return SetNumber(v, 1, 3600, s.nbd_timeout);
     }},
    {"metrics_listen", "ADDR",
     "serve Prometheus metrics at 127.0.0.1:PORT, [::1]:PORT, localhost:PORT "
     "or unix:PATH",
     SetMetricsListen},
};

}  // namespace

std::span<const Setting> AllSettings() { return kSettings; }

const Setting* FindSetting(absl::string_view name) {
  for (const Setting& setting : kSettings) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

absl::StatusOr<Settings> ReadSettings(
    const std::map<std::string, std::string>& values) {
  Settings settings;
  for (const auto& [name, value] : values) {
    const Setting* setting = FindSetting(name);
    if (setting == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown setting '", name, "'"));
    }
    const absl::Status status = setting->set(value, settings);
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat(name, ": ", status.message()));
    }
  }
  if (settings.failover && settings.planned_failover) {
    return absl::InvalidArgumentError(
        "planned_failover: does not go with failover, which survives upgrades "
        "too; want one of them");
  }
  return settings;
}

}  // namespace pcachefs
