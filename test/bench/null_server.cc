// A FUSE server that does nothing: one file in memory, behind the same session,
// transport and reply code as pcachefs. What it delivers is the ceiling that
// benchmarks of pcachefs are measured against.
//
//   null_server --size=1073741824 --transport=dev_fuse MOUNTPOINT
//   fio --filename=MOUNTPOINT/file ...
//
// Reads answer whatever is in a buffer, writes are copied to memory and
// forgotten. With --service_us it is a slow disk: each request takes that long,
// and --us_per_mib for its bytes, --at_once of them at the same time; an fsync
// takes --fsync_us.
// Stays in the foreground; prints "ready TRANSPORT" when the mount
// answers; SIGTERM, SIGINT or an unmount ends it.

#include <gflags/gflags.h>
#include <glog/logging.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fuse/connection.h"
#include "fuse/fuse_reply.h"
#include "fuse/fuse_server.h"
#include "fuse/libfuse.h"
#include "fuse/transport.h"
#include "meta/units.h"

DEFINE_uint64(size, 1 << 30, "size of the file in bytes");
DEFINE_string(transport, "auto", "auto, io_uring or dev_fuse");
DEFINE_int32(threads, 0, "threads of the classic channel, 0: by processors");
DEFINE_int32(service_us, 0, "how long the disk takes for a read or write");
DEFINE_int32(us_per_mib, 0, "how much longer for each MiB");
DEFINE_int32(at_once, 1, "how many of them the disk does at the same time");
DEFINE_int32(fsync_us, 0, "how long the disk takes for an fsync");

namespace pcachefs {
namespace {

constexpr fuse_ino_t kFileInode = 2;
constexpr char kFileName[] = "file";

// Of the thread: where reads come from and writes go.
std::span<std::byte> Scratch() {
  thread_local std::vector<std::byte> scratch(kMiB);
  return scratch;
}

// The disk does at most so many things at once; returns when it has done this.
void Occupy(std::chrono::nanoseconds time) {
  using Clock = std::chrono::steady_clock;
  static std::mutex mutex;
  static std::vector<Clock::time_point> free_at(std::max(1, FLAGS_at_once));
  if (time.count() == 0) return;
  Clock::time_point end;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    Clock::time_point& earliest = *std::ranges::min_element(free_at);
    earliest = end = std::max(earliest, Clock::now()) + time;
  }
  std::this_thread::sleep_until(end);
}

void Transfer(size_t length) {
  Occupy(std::chrono::nanoseconds(
      FLAGS_service_us * 1000LL +
      FLAGS_us_per_mib * 1000LL * static_cast<int64_t>(length) /
          static_cast<int64_t>(kMiB)));
}

struct stat AttributesOf(fuse_ino_t inode) {
  struct stat attributes = {};
  attributes.st_ino = inode;
  attributes.st_blksize = kBlockSize;
  if (inode == kFileInode) {
    attributes.st_mode = S_IFREG | 0600;
    attributes.st_size = static_cast<off_t>(FLAGS_size);
    attributes.st_nlink = 1;
  } else {
    attributes.st_mode = S_IFDIR | 0755;
    attributes.st_nlink = 2;
  }
  return attributes;
}

void Lookup(fuse_req_t request, fuse_ino_t /*parent*/, const char* name) {
  FuseReply reply(request);
  if (strcmp(name, kFileName) != 0) return reply.Error(ENOENT);
  fuse_entry_param entry = {};
  entry.ino = kFileInode;
  entry.attr = AttributesOf(kFileInode);
  entry.attr_timeout = entry.entry_timeout = 1;
  reply.Entry(entry);
}

void GetAttributes(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
  FuseReply(request).Attributes(AttributesOf(inode), 1);
}

void SetAttributes(fuse_req_t request, fuse_ino_t inode, struct stat*, int,
                   fuse_file_info*) {
  FuseReply(request).Attributes(AttributesOf(inode), 1);
}

void Open(fuse_req_t request, fuse_ino_t /*inode*/, fuse_file_info* info) {
  info->direct_io = 1;
  info->noflush = 1;
  FuseReply(request).Open(*info, /*parallel_writes=*/true);
}

void Read(fuse_req_t request, fuse_ino_t /*inode*/, size_t size, off_t offset,
          fuse_file_info*) {
  FuseReply reply(request);
  const uint64_t left = FLAGS_size - std::min<uint64_t>(offset, FLAGS_size);
  const size_t length = std::min<uint64_t>({size, left, kMiB});
  Transfer(length);
  if (reply.payload().size() >= length) {
    return reply.Data(reply.payload().first(length));
  }
  reply.Data(Scratch().first(length));
}

void Write(fuse_req_t request, fuse_ino_t /*inode*/, const char* bytes,
           size_t size, off_t /*offset*/, fuse_file_info*) {
  const size_t length = std::min<size_t>(size, kMiB);
  memcpy(Scratch().data(), bytes, length);
  Transfer(length);
  FuseReply(request).Written(length);
}

void Fsync(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) {
  Occupy(std::chrono::microseconds(FLAGS_fsync_us));
  FuseReply(request).Ok();
}

void Fallocate(fuse_req_t request, fuse_ino_t, int, off_t, off_t,
               fuse_file_info*) {
  FuseReply(request).Ok();
}

void Statfs(fuse_req_t request, fuse_ino_t) {
  struct statvfs statistics = {};
  statistics.f_bsize = statistics.f_frsize = kBlockSize;
  FuseReply(request).Statfs(statistics);
}

fuse_lowlevel_ops Operations() {
  fuse_lowlevel_ops operations = {};
  operations.lookup = Lookup;
  operations.getattr = GetAttributes;
  operations.setattr = SetAttributes;
  operations.open = Open;
  operations.read = Read;
  operations.write = Write;
  operations.fsync = Fsync;
  operations.fallocate = Fallocate;
  operations.statfs = Statfs;
  return operations;
}

int Run(const std::string& mountpoint) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT}) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  const auto transport = ParseTransport(FLAGS_transport);
  CHECK(transport.ok()) << transport.status();
  FuseServerOptions options;
  options.mountpoint = mountpoint;
  options.transport = *transport;
  options.threads = FLAGS_threads;
  auto server = FuseServer::Mount(options, Operations(), nullptr);
  CHECK(server.ok()) << server.status();

  std::thread stopper([&] {
    int number = 0;
    sigwait(&signals, &number);
    (*server)->Stop();
  });
  const absl::Status status = (*server)->Serve([&] {
    printf("ready %s\n", Name((*server)->transport()));
    fflush(stdout);
  });
  pthread_kill(stopper.native_handle(), SIGTERM);
  stopper.join();
  LOG_IF(ERROR, !status.ok()) << status;
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) {
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  CHECK_EQ(argc, 2) << "usage: null_server [flags] MOUNTPOINT";
  return pcachefs::Run(argv[1]);
}
