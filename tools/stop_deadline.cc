#include "tools/stop_deadline.h"

#include <glog/logging.h>
#include <unistd.h>

#include <utility>

namespace pcachefs {

StopDeadline::StopDeadline(absl::Duration patience, int exit_code,
                           std::string what)
    : thread_([this, patience, exit_code, what = std::move(what)] {
        if (met_.WaitFor(patience)) return;
        LOG(ERROR) << "stopping without an orderly end: " << what << " after "
                   << patience;
        google::FlushLogFiles(google::GLOG_INFO);
        _exit(exit_code);
      }) {}

StopDeadline::~StopDeadline() {
  met_.Set();
  thread_.join();
}

}  // namespace pcachefs
