#include "test/sim/simulation_counts.h"

#include "absl/strings/str_cat.h"

namespace pcachefs {
namespace {

constexpr const char* kEvents[] = {
    // disturbances
    "crash of the daemon", "power cut", "clean stop", "stop at a change",
    "disk stops at a change", "disk read error", "disk write error",
    "disk error in a range", "disk hangs", "disk full",
    "cache device write error", "cache device persist error",
    "cache device read error", "cache device full", "clean payload rots", "dirty payload rots",
    "record rots",
    // administration
    "attach", "attach of the wrong disk", "detach", "detach of a dirty image",
    "detach keeping dirty data", "detach discarding dirty data", "drain",
    "share changed", "share refused", "cache device grows", "disk grows",
    "mode switched", "order changed", "settings changed", "log filled"};

uint64_t Of(const std::map<std::string, uint64_t>& events, const char* event) {
  const auto it = events.find(event);
  return it == events.end() ? 0 : it->second;
}

}  // namespace

uint64_t SimulationCounts::crash_states() const {
  return Of(events, "power cut") + Of(events, "crash of the daemon") +
         Of(events, "record rots");
}

uint64_t SimulationCounts::operations() const {
  uint64_t sum = requests;
  for (const auto& [event, count] : events) sum += count;
  return sum;
}

std::vector<std::string> SimulationCounts::Missing() const {
  std::vector<std::string> missing;
  for (const char* event : kEvents) {
    if (Of(events, event) == 0) missing.push_back(event);
  }
  if (short_disk_transfers == 0) missing.push_back("short disk transfers");
  if (short_cache_transfers == 0) missing.push_back("short cache transfers");
  return missing;
}

std::string SimulationCounts::ToString() const {
  std::string text = absl::StrCat(
      lives, " lives, ", requests, " requests (", failed_requests, " failed, ",
      lost_reports, " of lost data), ", crash_states(),
      " crash states, backing devices judged ", backing_judgements, " times, short transfers: ",
      short_disk_transfers, " of disks, ", short_cache_transfers,
      " of the cache device");
  for (const auto& [event, count] : events) {
    absl::StrAppend(&text, "\n  ", event, ": ", count);
  }
  return text;
}

}  // namespace pcachefs
