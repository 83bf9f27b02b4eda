// A progress bar with rate and time left, on a terminal only.

#ifndef PCACHEFS_TOOLS_PROGRESS_BAR_H_
#define PCACHEFS_TOOLS_PROGRESS_BAR_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pcachefs {

class ProgressBar {
 public:
  // Draws on stderr if that is a terminal, else never.
  explicit ProgressBar(absl::string_view title);
  // Ends the line.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `done` of `total` bytes after `elapsed`.
  void Update(uint64_t done, uint64_t total, absl::Duration elapsed);

  // "drain  [#####     ]  50%  1.5G of 3G  120M/s  13s left".
  static std::string Line(absl::string_view title, uint64_t done,
                          uint64_t total, absl::Duration elapsed);

 private:
  const std::string title_;
  const bool is_terminal_;
  bool has_drawn_ = false;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_PROGRESS_BAR_H_
