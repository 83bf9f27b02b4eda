#include "core/read_streams.h"

#include <algorithm>

namespace pcachefs {

ReadStreams::Stream ReadStreams::OnMiss(ImageRange range, uint64_t image_size,
                                        uint64_t max_window,
                                        uint64_t max_length) {
  absl::MutexLock lock(&mutex_);
  Entry& entry = Find(range);
  entry.last_use = ++uses_;
  const uint64_t end = range.end().value();
  if (entry.length > 0 && end <= entry.next) {
    // Overtaken by a later request of the same reader, or within his window.
    return {.length = entry.length};
  }
  // What he left out between is not his.
  const uint64_t begin = std::max(range.offset.value(), entry.next);
  entry.length += end - begin;
  entry.next = end;
  ++entry.reads;
  Stream stream = {.length = entry.length};
  if (entry.reads < kFirstSequential || max_window == 0 ||
      entry.length > max_length) {
    return stream;
  }
  entry.window = std::min(
      entry.window == 0 ? kFirstWindow : entry.window * 2, max_window);
  // Whole blocks, so that the next one begins with one.
  const uint64_t window_end =
      std::min(RoundDown(end + entry.window, kBlockSize), image_size);
  if (window_end <= end) return stream;
  stream.window = {range.end(), window_end - end};
  entry.length += stream.window.length;
  entry.next = window_end;
  return stream;
}

ReadStreams::Entry& ReadStreams::Find(ImageRange range) {
  Entry* oldest = &entries_[0];
  for (Entry& entry : entries_) {
    if (entry.length > 0 && range.offset.value() <= entry.next + kSlack &&
        range.end().value() + std::max(kSlack, entry.window) > entry.next) {
      return entry;
    }
    if (entry.last_use < oldest->last_use) oldest = &entry;
  }
  *oldest = Entry{.next = range.offset.value()};
  return *oldest;
}

}  // namespace pcachefs
