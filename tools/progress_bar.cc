#include "tools/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "meta/size_parser.h"

namespace pcachefs {
namespace {

constexpr int kWidth = 30;

}  // namespace

ProgressBar::ProgressBar(absl::string_view title)
    : title_(title), is_terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (has_drawn_) fputc('\n', stderr);
}

void ProgressBar::Update(uint64_t done, uint64_t total,
                         absl::Duration elapsed) {
  if (!is_terminal_) return;
  // Back to the start of the line, and clear what is behind.
  fprintf(stderr, "\r%s\033[K", Line(title_, done, total, elapsed).c_str());
  fflush(stderr);
  has_drawn_ = true;
}

std::string ProgressBar::Line(absl::string_view title, uint64_t done,
                              uint64_t total, absl::Duration elapsed) {
  done = std::min(done, total);
  const double share =
      total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total);
  const int filled = static_cast<int>(share * kWidth);
  std::string line = absl::StrFormat(
      "%s  [%s%s]  %3d%%  %s of %s", title, std::string(filled, '#'),
      std::string(kWidth - filled, ' '), static_cast<int>(share * 100),
      FormatSize(done), FormatSize(total));
  const double seconds = absl::ToDoubleSeconds(elapsed);
  if (seconds <= 0 || done == 0) return line;

  const double rate = static_cast<double>(done) / seconds;
  const double left = static_cast<double>(total - done) / rate;
  absl::StrAppendFormat(&line, "  %s/s  %ds left",
                        FormatSize(static_cast<uint64_t>(rate)),
                        static_cast<int64_t>(left + 0.5));
  return line;
}

}  // namespace pcachefs
