// FUSE over io_uring whose requests can be handed over to another process: a
// queue for each processor. See ring_queue.h.
//
// The kernel fails a request that it is just giving out when the process ends,
// and answering one fetches the next. So before the end every entry is made to
// hold a request, look-ups of our own where there is nothing else: then there
// is none to be given out. The successor answers them all.

#ifndef PCACHEFS_FUSE_RING_CHANNELS_H_
#define PCACHEFS_FUSE_RING_CHANNELS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fuse/connection.h"
#include "fuse/libfuse.h"
#include "fuse/ring_memory.h"
#include "fuse/ring_queue.h"

namespace pcachefs {

// Of one thread, which calls Open, Start, and for a hand-over Hold and Seal; what
// was begun before Hold is answered from any.
class RingChannels {
 public:
  // All outlive it; memory is taken.
  static std::unique_ptr<RingChannels> Make(
      std::unique_ptr<RingMemory> memory, fuse_session* session, int fd,
      Connection& connection);

  int memory_fd() const { return memory_->fd(); }

  // All that can fail, so that who cannot serve takes nothing over.
  absl::Status Open();
  void Start();
  // No request is begun any more; one that is being begun is counted as in
  // flight on return.
  void Hold(absl::Duration patience);
  // Once those that were begun are answered, or given up: false if after
  // `patience` the kernel still has entries to give requests out in, or at once
  // if only processors have that this process may not run on.
  bool Seal(const std::string& mountpoint, absl::Duration patience);

  // Of a queue that is being filled: looks up a name for each entry, waits for
  // the answers. A process of its own, since they come from the successor.
  static constexpr char kFillVariable[] = "PCACHEFS_FILL_RINGS";
  static int Fill(const std::string& order);

 private:
  explicit RingChannels(std::unique_ptr<RingMemory> memory)
      : memory_(std::move(memory)) {}

  static bool AreFull(const std::vector<RingQueue*>& queues);
  void StartFilling(const std::string& mountpoint) const;
  // Those of processors that this process, and a child, may run on.
  std::vector<RingQueue*> FillableQueues() const;

  const std::unique_ptr<RingMemory> memory_;
  std::vector<std::unique_ptr<RingQueue>> queues_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_RING_CHANNELS_H_
