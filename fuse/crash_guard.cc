#include "fuse/crash_guard.h"

#include <glog/logging.h>

#include <algorithm>
#include <iterator>

#include "fuse/failover_state.h"

namespace pcachefs {

CrashGuard::CrashGuard(SharedCrashes& shared, bool is_successor)
    : shared_(shared) {
  if (is_successor && shared_.is_on_trial) Suspect(shared_.trial);
  is_careful_ = is_successor && !shared_.is_calm;
  shared_.is_on_trial = false;
  shared_.is_calm = !is_successor;
}

void CrashGuard::Suspect(const RequestRecord& request) {
  auto* found = std::find_if(
      std::begin(shared_.suspects), std::end(shared_.suspects),
      [&](const SharedCrashes::Suspect& suspect) {
        return suspect.deaths > 0 && suspect.request.unique == request.unique;
      });
  if (found == std::end(shared_.suspects)) {
    // Of those before it the one with the least against it.
    found = std::min_element(
        std::begin(shared_.suspects), std::end(shared_.suspects),
        [](const auto& a, const auto& b) { return a.deaths < b.deaths; });
    *found = {.request = request, .deaths = 0};
  }
  ++found->deaths;
  LOG(ERROR) << "the daemon died " << found->deaths << " times of request "
             << request.opcode << " on inode " << request.node << " at "
             << request.offset << ", " << request.length << " bytes";
}

void CrashGuard::BeginTrial(const RequestRecord& request) {
  shared_.trial = request;
  shared_.is_on_trial = true;
}

void CrashGuard::EndTrial() { shared_.is_on_trial = false; }

bool CrashGuard::Refuses(const RequestRecord& request) {
  for (SharedCrashes::Suspect& suspect : shared_.suspects) {
    if (suspect.deaths < kMaxDeaths ||
        suspect.request.unique != request.unique) {
      continue;
    }
    suspect.deaths = 0;
    const uint64_t count = shared_.poisoned_count;
    shared_.poisoned[count % SharedCrashes::kPoisoned] = request;
    shared_.poisoned_count = count + 1;
    LOG(ERROR) << "request " << request.opcode << " on inode " << request.node
               << " at " << request.offset << ", " << request.length
               << " bytes, has killed " << kMaxDeaths
               << " daemons and is answered with EIO; please report it";
    return true;
  }
  return false;
}

void CrashGuard::BecomeCalm() {
  if (shared_.is_calm) return;
  is_careful_ = false;
  for (SharedCrashes::Suspect& suspect : shared_.suspects) suspect.deaths = 0;
  shared_.is_calm = true;
}

}  // namespace pcachefs
