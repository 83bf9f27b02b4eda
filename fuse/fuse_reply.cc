#include "fuse/fuse_reply.h"

#include <glog/logging.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "fuse/connection.h"
#include "fuse/current_request.h"
#include "fuse/errno_mapping.h"
#include "fuse/libfuse.h"
#include "fuse/ring_queue.h"

namespace pcachefs {
namespace {

// The request whose handler runs, or ran last, on this thread.
thread_local fuse_req_t handled_request = nullptr;

#if !PCACHEFS_HAVE_PARALLEL_DIRECT_WRITES
// struct fuse_open_out and flags of the kernel's protocol 7.
struct OpenOut {
  uint64_t file_handle;
  uint32_t flags;
  int32_t backing_id;
};
constexpr uint32_t kOpenDirectIo = 1u << 0;
constexpr uint32_t kOpenNoflush = 1u << 5;
constexpr uint32_t kOpenParallelDirectWrites = 1u << 6;
#endif

void SetTime(double seconds, uint64_t& whole, uint32_t& nanoseconds) {
  // A day is for ever.
  const double bounded = std::min(seconds, 86400.0);
  whole = static_cast<uint64_t>(bounded);
  nanoseconds = static_cast<uint32_t>((bounded - whole) * 1e9);
}

fuse_attr AttributesOf(const struct stat& attributes) {
  fuse_attr out = {};
  out.ino = attributes.st_ino;
  out.size = attributes.st_size;
  out.blocks = attributes.st_blocks;
  out.atime = attributes.st_atim.tv_sec;
  out.mtime = attributes.st_mtim.tv_sec;
  out.ctime = attributes.st_ctim.tv_sec;
  out.atimensec = attributes.st_atim.tv_nsec;
  out.mtimensec = attributes.st_mtim.tv_nsec;
  out.ctimensec = attributes.st_ctim.tv_nsec;
  out.mode = attributes.st_mode;
  out.nlink = static_cast<uint32_t>(attributes.st_nlink);
  out.uid = attributes.st_uid;
  out.gid = attributes.st_gid;
  out.rdev = static_cast<uint32_t>(attributes.st_rdev);
  out.blksize = static_cast<uint32_t>(attributes.st_blksize);
  return out;
}

}  // namespace

FuseReply::FuseReply(fuse_req_t request)
    : bits_(reinterpret_cast<uintptr_t>(request) |
            (current_request.is_resent ? kResent : 0)) {
  if (RingEntry* const entry = current_request.ring_entry) {
    entry->request = request;
    bits_ = reinterpret_cast<uintptr_t>(entry) | (bits_ & kResent) | kInRing;
    current_request.is_taken = true;
  }
  handled_request = request;
  Connection& connection = this->connection();
  connection.in_flight.Begin();
  if (is_resent()) connection.resent_in_flight.Begin();
#if PCACHEFS_HAVE_FUSE_URING
  if (fuse_req_is_uring(request) &&
      !connection.has_seen_ring.load(std::memory_order_relaxed)) {
    connection.has_seen_ring.store(true, std::memory_order_relaxed);
  }
#endif
}

FuseReply::~FuseReply() {
  CHECK_EQ(bits_, 0u) << "a FUSE request was dropped unanswered";
}

fuse_req_t FuseReply::request() const {
  if (const RingEntry* const entry = ring_entry()) return entry->request;
  return reinterpret_cast<fuse_req_t>(bits_ & ~kResent);
}

Connection& FuseReply::connection() const {
  return *static_cast<Connection*>(fuse_req_userdata(request()));
}

std::span<std::byte> FuseReply::payload() const {
#if PCACHEFS_HAVE_FUSE_URING
  if (fuse_req_is_uring(request())) {
    char* bytes = nullptr;
    size_t size = 0;
    if (fuse_req_get_payload(request(), &bytes, &size, nullptr) == 0) {
      return {reinterpret_cast<std::byte*>(bytes), size};
    }
  }
#endif
  return {};
}

// libfuse runs the handlers of a ring under that ring's lock, and takes the
// same lock for an answer from elsewhere. A thread that completes requests
// must not wait there: the handler may be waiting for room in the very queue
// that this thread empties. Another thread waits in its stead.
bool FuseReply::MustHandOver() const {
#if PCACHEFS_HAVE_FUSE_URING
  return request() != handled_request && fuse_req_is_uring(request()) &&
         connection().ring_replier != nullptr;
#else
  return false;
#endif
}

template <typename Sender>
void FuseReply::Deliver(Sender sender) {
  CHECK_NE(bits_, 0u) << "a FUSE request was answered twice";
  Connection& connection = this->connection();
  const bool must_hand_over = MustHandOver();
  const fuse_req_t request = this->request();
  const bool was_resent = is_resent();
  bits_ = 0;
  if (must_hand_over) {
    // No failover here, hence nothing that was sent again.
    connection.ring_replier->Post([request, sender, &connection] {
      sender(request);
      connection.in_flight.End();
    });
    return;
  }
  // An error means that the kernel does not want the answer any more.
  sender(request);
  if (was_resent) connection.resent_in_flight.End();
  connection.in_flight.End();
}

void FuseReply::AnswerInRing(int error, std::span<const iovec> parts) {
  Connection& connection = this->connection();
  const bool was_resent = is_resent();
  const RingEntry entry = *ring_entry();
  bits_ = 0;
  fuse_reply_none(entry.request);  // frees it, and says nothing
  entry.queue->Answer(entry.number, error, parts);
  if (was_resent) connection.resent_in_flight.End();
  connection.in_flight.End();
}

void FuseReply::AnswerInRing(const void* bytes, size_t size) {
  const iovec part = {const_cast<void*>(bytes), size};
  AnswerInRing(0, {&part, 1});
}

void FuseReply::Error(int error) {
  if (ring_entry() != nullptr) return AnswerInRing(error, {});
  Deliver([error](fuse_req_t request) { fuse_reply_err(request, error); });
}

void FuseReply::Send(const absl::Status& status) { Error(ErrnoOf(status)); }

void FuseReply::Entry(const fuse_entry_param& entry) {
  if (ring_entry() != nullptr) {
    fuse_entry_out out = {};
    out.nodeid = entry.ino;
    out.generation = entry.generation;
    SetTime(entry.entry_timeout, out.entry_valid, out.entry_valid_nsec);
    SetTime(entry.attr_timeout, out.attr_valid, out.attr_valid_nsec);
    out.attr = AttributesOf(entry.attr);
    return AnswerInRing(&out, sizeof(out));
  }
  Deliver([entry](fuse_req_t request) { fuse_reply_entry(request, &entry); });
}

void FuseReply::Attributes(const struct stat& attributes,
                           double timeout_seconds) {
  if (ring_entry() != nullptr) {
    fuse_attr_out out = {};
    SetTime(timeout_seconds, out.attr_valid, out.attr_valid_nsec);
    out.attr = AttributesOf(attributes);
    return AnswerInRing(&out, sizeof(out));
  }
  Deliver([attributes, timeout_seconds](fuse_req_t request) {
    fuse_reply_attr(request, &attributes, timeout_seconds);
  });
}

void FuseReply::Open(const fuse_file_info& info, bool parallel_writes) {
  if (ring_entry() != nullptr) {
    fuse_open_out out = {};
    out.fh = info.fh;
    out.open_flags = (info.direct_io ? FOPEN_DIRECT_IO : 0) |
                     (info.keep_cache ? FOPEN_KEEP_CACHE : 0) |
                     (info.nonseekable ? FOPEN_NONSEEKABLE : 0) |
                     (info.cache_readdir ? FOPEN_CACHE_DIR : 0) |
                     (info.noflush ? 1u << 5 : 0) |
                     (parallel_writes ? 1u << 6 : 0);
    return AnswerInRing(&out, sizeof(out));
  }
#if PCACHEFS_HAVE_PARALLEL_DIRECT_WRITES
  fuse_file_info answer = info;
  answer.parallel_direct_writes = parallel_writes;
  Deliver([answer](fuse_req_t request) { fuse_reply_open(request, &answer); });
#else
  if (!parallel_writes) {
    return Deliver(
        [info](fuse_req_t request) { fuse_reply_open(request, &info); });
  }
  OpenOut out = {};
  out.file_handle = info.fh;
  out.flags = (info.direct_io ? kOpenDirectIo : 0) |
              (info.noflush ? kOpenNoflush : 0) | kOpenParallelDirectWrites;
  Deliver([out](fuse_req_t request) {
    fuse_reply_buf(request, reinterpret_cast<const char*>(&out), sizeof(out));
  });
#endif
}

void FuseReply::Data(std::span<const std::byte> bytes) {
  if (ring_entry() != nullptr) return AnswerInRing(bytes.data(), bytes.size());
  Deliver([bytes](fuse_req_t request) {
    fuse_reply_buf(request, reinterpret_cast<const char*>(bytes.data()),
                   bytes.size());
  });
}

void FuseReply::Gather(std::span<const std::span<const std::byte>> parts) {
  if (parts.size() == 1) return Data(parts.front());
  absl::InlinedVector<iovec, 16> vectors;
  for (const std::span<const std::byte> part : parts) {
    vectors.push_back(
        {const_cast<std::byte*>(part.data()), part.size()});
  }
  if (ring_entry() != nullptr) return AnswerInRing(0, vectors);
  CHECK(payload().empty());
  // Within this call, since nothing is handed over without a ring.
  Deliver([&vectors](fuse_req_t request) {
    fuse_reply_iov(request, vectors.data(), static_cast<int>(vectors.size()));
  });
}

void FuseReply::Written(size_t length) {
  if (ring_entry() != nullptr) {
    fuse_write_out out = {};
    out.size = static_cast<uint32_t>(length);
    return AnswerInRing(&out, sizeof(out));
  }
  Deliver([length](fuse_req_t request) { fuse_reply_write(request, length); });
}

void FuseReply::Statfs(const struct statvfs& statistics) {
  if (ring_entry() != nullptr) {
    fuse_statfs_out out = {};
    out.st.blocks = statistics.f_blocks;
    out.st.bfree = statistics.f_bfree;
    out.st.bavail = statistics.f_bavail;
    out.st.files = statistics.f_files;
    out.st.ffree = statistics.f_ffree;
    out.st.bsize = static_cast<uint32_t>(statistics.f_bsize);
    out.st.namelen = static_cast<uint32_t>(statistics.f_namemax);
    out.st.frsize = static_cast<uint32_t>(statistics.f_frsize);
    return AnswerInRing(&out, sizeof(out));
  }
  Deliver([statistics](fuse_req_t request) {
    fuse_reply_statfs(request, &statistics);
  });
}

void FuseReply::Offset(uint64_t offset) {
  if (ring_entry() != nullptr) {
    const fuse_lseek_out out = {.offset = offset};
    return AnswerInRing(&out, sizeof(out));
  }
  Deliver([offset](fuse_req_t request) { fuse_reply_lseek(request, offset); });
}

void FuseReply::None() {
  if (ring_entry() != nullptr) return Error(0);
  Deliver([](fuse_req_t request) { fuse_reply_none(request); });
}

}  // namespace pcachefs
