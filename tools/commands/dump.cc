#include "tools/commands/dump.h"

#include <array>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/dump.h"
#include "fuse/status_json.h"
#include "iobackend/cache_device.h"
#include "iobackend/open_device.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/status_macros.h"
#include "meta/types.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"

namespace pcachefs {
namespace {

Json ToJson(const LogPosition& position) {
  return {{"segment", position.segment.value()},
          {"offset", position.offset.value()},
          {"generation", position.generation.value()},
          {"sequence", position.sequence.value()}};
}

Json SuperblockToJson(const Superblock& superblock) {
  const Geometry::Stored& geometry = superblock.geometry;
  return {{"uuid", superblock.uuid.ToString()},
          {"major_version", Superblock::kMajorVersion},
          {"minor_version", superblock.minor_version},
          {"format_time", superblock.format_time},
          {"device_size", geometry.device_size},
          {"segment_size", geometry.segment_size},
          {"segments", geometry.segment_count},
          {"segment_capacity", geometry.segment_capacity},
          {"image_slots", geometry.image_slots},
          {"segments_offset", geometry.segments_offset}};
}

Json TailsToJson(const absl::StatusOr<LogTails>& tails) {
  if (!tails.ok()) return {{"error", std::string(tails.status().message())}};
  return {{"key_tail", ToJson(tails->key_tail)},
          {"dirty_tail", ToJson(tails->dirty_tail)},
          {"key_head", ToJson(tails->key_head)},
          {"committed", tails->committed.value()},
          {"clean_stop", tails->clean_stop}};
}

Json ImageToJson(const CacheDump::Image& image) {
  const ImageRecord& record = image.record;
  return {{"name", record.name},
          {"id", image.id.value()},
          {"uuid", record.uuid.ToString()},
          {"state", Name(record.state)},
          {"mode", Name(record.mode)},
          {"order", Name(record.order)},
          {"gc_percent", record.gc_percent},
          {"size", record.size},
          {"share_segments", record.share_segments},
          {"incarnation", record.incarnation.value()},
          {"create_time", record.create_time},
          {"backing", record.backing_spec},
          {"identity",
           {{"kind", Name(record.backing.kind)},
            {"size", record.backing.size},
            {"text", record.backing.text}}},
          {"log", TailsToJson(image.tails)}};
}

Json KeyToJson(const DumpedKey& dumped) {
  return {{"sequence", dumped.position.sequence.value()},
          {"at_segment", dumped.position.segment.value()},
          {"at_offset", dumped.position.offset.value()},
          {"kind", Name(dumped.key.kind)},
          {"offset", dumped.key.range.offset.value()},
          {"length", dumped.key.range.length},
          {"segment", dumped.key.position.segment.value()},
          {"segment_offset", dumped.key.position.offset.value()},
          {"generation", dumped.key.generation.value()}};
}

// How many segments are put to which use.
Json SegmentsToJson(const CacheDump& dump) {
  std::array<uint64_t, 3> counts = {};
  for (const SegmentRecord& segment : dump.segments) {
    ++counts[static_cast<size_t>(segment.use)];
  }
  Json json;
  for (size_t use = 0; use < counts.size(); ++use) {
    json[Name(static_cast<SegmentUse>(use))] = counts[use];
  }
  return json;
}

// What ended the walk goes into the answer: a damaged log is what one wants to
// look at.
void AddKeys(CacheDevice& device, Json& image) {
  Json keys = Json::array();
  const absl::Status end = DumpKeys(
      device, TextOf(image, "name"),
      [&keys](const DumpedKey& key) { keys.push_back(KeyToJson(key)); });
  image["keys"] = std::move(keys);
  if (!end.ok()) image["keys_error"] = std::string(end.message());
}

// "key: value" lines, nested ones indented; lists of keys a line each.
void PrintTree(const Json& json, const std::string& indent) {
  for (const auto& [key, value] : json.items()) {
    if (value.is_object() && !value.empty()) {
      PrintText(absl::StrCat(indent, key, ":\n"));
      PrintTree(value, indent + "  ");
    } else if (value.is_array()) {
      PrintText(absl::StrCat(indent, key, ":\n"));
      for (const Json& element : value) {
        if (element.contains("name")) {
          PrintText(absl::StrCat(indent, "  -\n"));
          PrintTree(element, indent + "    ");
        } else {
          PrintText(absl::StrCat(indent, "  ", ToText(element), "\n"));
        }
      }
    } else {
      PrintText(
          absl::StrCat(indent, key, ": ", TextOf(json, key.c_str()), "\n"));
    }
  }
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const OpenedCacheDevice opened,
                   OpenCacheDevice(arguments.Word(0), {.read_only = true}));
  ASSIGN_OR_RETURN(const CacheDump dump, DumpCache(*opened.device));
  Json json = {{"superblock", SuperblockToJson(dump.superblock)},
               {"info",
                {{"label", dump.info.label},
                 {"clean_stop", dump.info.clean_stop},
                 {"gc_percent", dump.info.gc_percent},
                 {"start_count", dump.info.start_count}}},
               {"segments", SegmentsToJson(dump)},
               {"images", Json::array()}};
  for (const CacheDump::Image& image : dump.images) {
    json["images"].push_back(ImageToJson(image));
    if (arguments.Has("keys")) AddKeys(*opened.device, json["images"].back());
  }
  if (arguments.json()) {
    PrintJson(json);
  } else {
    PrintTree(json, "");
  }
  return 0;
}

}  // namespace

Command DumpCommand() {
  return {.name = "dump",
          .usage = "CACHE [--keys]",
          .help =
              "Shows what stands on a cache that is not being served; with "
              "--keys also every\nkey of every image's log. Changes "
              "nothing.",
          .min_words = 1,
          .max_words = 1,
          .flags = {"keys"},
          .run = Run};
}

}  // namespace pcachefs
