// What every request of one mount finds as its session's user data.
//
// Owned by FuseServer; outlives every request. Thread-safe.

#ifndef PCACHEFS_FUSE_CONNECTION_H_
#define PCACHEFS_FUSE_CONNECTION_H_

#include <atomic>
#include <memory>

#include "fuse/in_flight_counter.h"
#include "fuse/work_thread.h"

namespace pcachefs {

struct Connection {
  InFlightCounter in_flight;

  // Those of them that an earlier daemon was sent first.
  InFlightCounter resent_in_flight;

  // Set at the start of a stop: requests are refused from then on.
  std::atomic<bool> is_stopping = false;

  // Some request has come over io_uring. (Only ever set; no order needed.)
  std::atomic<bool> has_seen_ring = false;

  // Answers requests of the ring that another thread than the ring's has
  // finished: see FuseReply. Null on the classic channel.
  std::unique_ptr<WorkThread> ring_replier;

  // The file system's own; not touched here.
  void* file_system = nullptr;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_CONNECTION_H_
