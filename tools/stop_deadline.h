// Ends the process if its orderly end takes too long: what waits for a device
// that hangs cannot be taken apart. To the cache that is a crash of the daemon,
// which loses nothing that was acknowledged.

#ifndef PCACHEFS_TOOLS_STOP_DEADLINE_H_
#define PCACHEFS_TOOLS_STOP_DEADLINE_H_

#include <string>
#include <thread>

#include "absl/time/time.h"
#include "iobackend/wakeup.h"

namespace pcachefs {

// Not thread-safe.
class StopDeadline {
 public:
  // Unless this object is gone after `patience`, says what was waited for and
  // exits, without taking anything apart.
  StopDeadline(absl::Duration patience, int exit_code, std::string what);
  ~StopDeadline();
  StopDeadline(const StopDeadline&) = delete;
  StopDeadline& operator=(const StopDeadline&) = delete;

 private:
  Wakeup met_;
  std::thread thread_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_STOP_DEADLINE_H_
