#include "tools/commands/format.h"

#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/cache.h"
#include "core/options.h"
#include "fuse/status_json.h"
#include "iobackend/cache_device.h"
#include "iobackend/open_device.h"
#include "meta/geometry.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/foreign_content.h"
#include "meta/size_parser.h"
#include "tools/system_clock.h"

namespace pcachefs {
namespace {

absl::StatusOr<uint64_t> SizeFlag(const Arguments& arguments,
                                  const std::string& flag) {
  if (!arguments.Has(flag)) return 0;
  absl::StatusOr<uint64_t> size = ParseSize(arguments.Flag(flag));
  if (size.ok()) return size;
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, ": ", size.status().message()));
}

absl::StatusOr<OpenedCacheDevice> Open(const std::string& path, uint64_t size) {
  absl::StatusOr<OpenedCacheDevice> opened =
      OpenCacheDevice(path, {.create_size = size});
  if (!absl::IsNotFound(opened.status()) || size != 0) return opened;
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": does not exist; --size=SIZE makes a file of that size"));
}

// What would be lost; empty if nothing.
absl::StatusOr<std::string> FindContent(CacheDevice& device) {
  const absl::Status inspected = Cache::Inspect(device);
  if (inspected.ok()) return "a pcachefs cache";
  if (absl::IsDataLoss(inspected)) return "a damaged pcachefs cache";
  return DescribeDevice(device);
}

absl::Status RefuseToOverwrite(const std::string& path, CacheDevice& device) {
  ASSIGN_OR_RETURN(const std::string content, FindContent(device));
  if (content.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": holds ", content,
                   "; --force overwrites it, and what it holds is lost"));
}

// A size that is asked for of a device that has another one is a mistake.
absl::Status CheckSize(const std::string& path, uint64_t wanted, uint64_t got) {
  if (wanted == 0 || wanted == got) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": exists and has ", got, " bytes, want ", wanted,
                   "; leave --size out to use it as it is"));
}

void PrintResult(const Arguments& arguments, const std::string& path,
                 const Geometry& geometry) {
  if (arguments.json()) {
    return PrintJson({{"ok", true},
                      {"path", path},
                      {"size", geometry.device_size()},
                      {"segment_size", geometry.segment_size()},
                      {"segments", geometry.segment_count()}});
  }
  PrintText(absl::StrCat(path, ": formatted, ", geometry.segment_count(),
                         " segments of ", FormatSize(geometry.segment_size()),
                         "\n"));
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  const std::string path = arguments.Word(0);
  ASSIGN_OR_RETURN(const uint64_t size, SizeFlag(arguments, "size"));
  FormatOptions options;
  ASSIGN_OR_RETURN(options.segment_size, SizeFlag(arguments, "segment_size"));

  ASSIGN_OR_RETURN(const OpenedCacheDevice opened, Open(path, size));
  absl::Cleanup remove = [&] {
    if (opened.created) unlink(path.c_str());
  };
  CacheDevice& device = *opened.device;
  if (!opened.created && !arguments.Has("force")) {
    RETURN_IF_ERROR(RefuseToOverwrite(path, device));
  }
  RETURN_IF_ERROR(CheckSize(path, size, device.size()));
  ASSIGN_OR_RETURN(const Geometry geometry,
                   Geometry::ForDevice(device.size(), options.segment_size));
  SystemClock clock;
  RETURN_IF_ERROR(Cache::Format(device, options, clock));
  std::move(remove).Cancel();
  PrintResult(arguments, path, geometry);
  return 0;
}

}  // namespace

Command FormatCommand() {
  return {.name = "format",
          .usage = "CACHE [--size=SIZE] [--segment_size=SIZE] [--force]",
          .help =
              "Makes an empty cache of a file or block device; with --size "
              "the file is made\nif there is none. Refuses to overwrite "
              "anything unless --force is given.",
          .min_words = 1,
          .max_words = 1,
          .flags = {"size", "segment_size", "force"},
          .run = Run};
}

}  // namespace pcachefs
