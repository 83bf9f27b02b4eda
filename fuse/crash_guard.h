// Finds the request that kills one daemon after the other, and refuses it.
//
// Unanswered requests are sent again to a successor, and so is one that the
// daemon cannot survive. A successor whose predecessor died before it had
// answered what was sent again to it is careful: it handles one request at a
// time and notes which, so that if it dies the culprit is known. What killed
// three careful daemons is answered with EIO; the rest lives on.
//
// A daemon that dies for other reasons now and then loses nothing by it: being
// careful ends with the first request that was not sent again.
//
// Thread-safe but for the constructor. Remembers in SharedCrashes.

#ifndef PCACHEFS_FUSE_CRASH_GUARD_H_
#define PCACHEFS_FUSE_CRASH_GUARD_H_

#include <atomic>
#include <cstdint>

#include "fuse/failover_state.h"

namespace pcachefs {

class CrashGuard {
 public:
  static constexpr uint32_t kMaxDeaths = 3;

  // At the start of a daemon. `shared` outlives it.
  CrashGuard(SharedCrashes& shared, bool is_successor);

  // Requests must come one at a time, each between BeginTrial and EndTrial.
  bool is_careful() const { return is_careful_; }
  void BeginTrial(const RequestRecord& request);
  void EndTrial();

  // Whether it must not be handled. It is then counted.
  bool Refuses(const RequestRecord& request);

  // All that was sent again has come.
  void EndCare() { is_careful_ = false; }
  // And is answered.
  void BecomeCalm();

 private:
  void Suspect(const RequestRecord& request);

  SharedCrashes& shared_;
  std::atomic<bool> is_careful_ = false;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_CRASH_GUARD_H_
