#include "fuse/ring_channels.h"

#include <glog/logging.h>
#include <sched.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

// Of the calling thread.
bool RunOn(int processor) {
  cpu_set_t processors;
  CPU_ZERO(&processors);
  CPU_SET(processor, &processors);
  return sched_setaffinity(0, sizeof(processors), &processors) == 0;
}

}  // namespace

std::unique_ptr<RingChannels> RingChannels::Make(
    std::unique_ptr<RingMemory> memory, fuse_session* session, int fd,
    Connection& connection) {
  auto rings = absl::WrapUnique(new RingChannels(std::move(memory)));
  for (int i = 0; i < rings->memory_->queues(); ++i) {
    rings->queues_.push_back(std::make_unique<RingQueue>(
        i, *rings->memory_, session, fd, connection));
  }
  return rings;
}

absl::Status RingChannels::Open() {
  for (const auto& queue : queues_) RETURN_IF_ERROR(queue->Open());
  return absl::OkStatus();
}

void RingChannels::Start() {
  for (const auto& queue : queues_) queue->Start();
}

void RingChannels::Hold(absl::Duration patience) {
  for (const auto& queue : queues_) queue->Hold();
  // One that takes longer has begun, and waits in its handler.
  const absl::Time until = absl::Now() + patience;
  for (const auto& queue : queues_) {
    while (queue->is_dispatching() && absl::Now() < until) {
      absl::SleepFor(absl::Microseconds(100));
    }
  }
}

bool RingChannels::AreFull(const std::vector<RingQueue*>& queues) {
  return std::ranges::all_of(queues,
                             [](RingQueue* queue) { return queue->IsFull(); });
}

std::vector<RingQueue*> RingChannels::FillableQueues() const {
  std::vector<RingQueue*> queues;
  cpu_set_t own;
  CPU_ZERO(&own);
  sched_getaffinity(0, sizeof(own), &own);
  for (size_t i = 0; i < queues_.size(); ++i) {
    if (RunOn(static_cast<int>(i))) queues.push_back(queues_[i].get());
  }
  sched_setaffinity(0, sizeof(own), &own);
  return queues;
}

void RingChannels::StartFilling(const std::string& mountpoint) const {
  std::string order = absl::StrCat(kFillVariable, "=", memory_->queues(), ":",
                                   memory_->depth(), ":", mountpoint);
  char name[] = "pcachefs";
  char* const arguments[] = {name, nullptr};
  std::vector<char*> environment;
  for (char** word = environ; *word != nullptr; ++word) {
    environment.push_back(*word);
  }
  environment.push_back(order.data());
  environment.push_back(nullptr);
  // It outlives this process, so it must hold nothing of it.
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, "/proc/self/exe", &actions, nullptr,
                                arguments, environment.data());
  posix_spawn_file_actions_destroy(&actions);
  LOG_IF(ERROR, error != 0) << "filling the rings: " << strerror(error);
}

bool RingChannels::Seal(const std::string& mountpoint,
                        absl::Duration patience) {
  StartFilling(mountpoint);
  const std::vector<RingQueue*> fillable = FillableQueues();
  const absl::Time until = absl::Now() + patience;
  while (!AreFull(fillable) && absl::Now() < until) {
    absl::SleepFor(absl::Microseconds(200));
  }
  for (const auto& queue : queues_) queue->Seal();
  // An answer that came meanwhile may have emptied one.
  while (!AreFull(fillable) && absl::Now() < until) {
    absl::SleepFor(absl::Microseconds(200));
  }
  return std::ranges::all_of(
      queues_, [](const auto& queue) { return queue->IsFull(); });
}

int RingChannels::Fill(const std::string& order) {
  const std::vector<std::string> words =
      absl::StrSplit(order, absl::MaxSplits(':', 2));
  int queues = 0, depth = 0;
  if (words.size() != 3 || !absl::SimpleAtoi(words[0], &queues) ||
      !absl::SimpleAtoi(words[1], &depth)) {
    return EXIT_FAILURE;
  }
  std::vector<std::thread> threads;
  for (int queue = 0; queue < queues; ++queue) {
    for (int entry = 0; entry < depth; ++entry) {
      threads.emplace_back([&words, queue, entry] {
        if (!RunOn(queue)) return;
        struct stat attributes;
        const std::string path = absl::StrCat(words[2], "/.pcache-probe-",
                                              queue, "-", entry);
        stat(path.c_str(), &attributes);
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
  return EXIT_SUCCESS;
}

}  // namespace pcachefs
