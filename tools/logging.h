// Where the log goes.

#ifndef PCACHEFS_TOOLS_LOGGING_H_
#define PCACHEFS_TOOLS_LOGGING_H_

namespace pcachefs {

// In the foreground to stderr. Otherwise to syslog (under systemd that is the
// journal), or to files if --log_dir was given. To be called once.
void StartLogging(const char* program, bool foreground);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_LOGGING_H_
