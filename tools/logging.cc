#include "tools/logging.h"

#include <gflags/gflags.h>
#include <glog/logging.h>
#include <syslog.h>

#include <cstddef>
#include <ctime>

namespace pcachefs {
namespace {

class SyslogSink : public google::LogSink {
 public:
  void send(google::LogSeverity severity, const char* /*full_filename*/,
            const char* base_filename, int line,
            const google::LogMessageTime& /*time*/, const char* message,
            size_t length) override {
    constexpr int kPriorities[] = {LOG_INFO, LOG_WARNING, LOG_ERR, LOG_CRIT};
    syslog(kPriorities[severity], "%.*s (%s:%d)", static_cast<int>(length),
           message, base_filename, line);
  }
};

}  // namespace

void StartLogging(const char* program, bool foreground) {
  google::InitGoogleLogging(program);
  FLAGS_stderrthreshold = google::GLOG_FATAL;
  if (foreground) {
    FLAGS_logtostderr = true;
    return;
  }
  if (!FLAGS_log_dir.empty()) return;
  for (int severity = 0; severity < google::NUM_SEVERITIES; ++severity) {
    google::SetLogDestination(severity, "");  // no files
  }
  openlog(program, LOG_PID | LOG_NDELAY, LOG_DAEMON);
  google::AddLogSink(new SyslogSink);
}

}  // namespace pcachefs
