#include "test/e2e/testing/faulty_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fuse/libfuse.h"

namespace pcachefs {
namespace {

constexpr fuse_ino_t kFile = 2;
constexpr char kName[] = "disk";

}  // namespace

// libfuse's. Everything runs on the one thread of the session, but what hung
// runs on the thread that heals.
struct FaultyFile::Callbacks {
  static FaultyFile& Self(fuse_req_t request) {
    return *static_cast<FaultyFile*>(fuse_req_userdata(request));
  }

  static struct stat Attributes(FaultyFile& self, fuse_ino_t inode) {
    struct stat attributes = {};
    if (inode == kFile) fstat(self.fd_, &attributes);
    attributes.st_ino = inode;
    attributes.st_mode = inode == kFile ? S_IFREG | 0600 : S_IFDIR | 0700;
    attributes.st_nlink = 1;
    return attributes;
  }

  static void Lookup(fuse_req_t request, fuse_ino_t, const char* name) {
    if (strcmp(name, kName) != 0) {
      fuse_reply_err(request, ENOENT);
      return;
    }
    fuse_entry_param entry = {};
    entry.ino = kFile;
    entry.attr = Attributes(Self(request), kFile);
    entry.entry_timeout = 1000;
    fuse_reply_entry(request, &entry);
  }

  static void GetAttributes(fuse_req_t request, fuse_ino_t inode,
                            fuse_file_info*) {
    FaultyFile& self = Self(request);
    const auto answer = [=, &self] {
      const struct stat attributes = Attributes(self, inode);
      fuse_reply_attr(request, &attributes, 0);
    };
    // Whoever resolves the path asks for the directory's.
    if (inode != kFile) return answer();
    self.Handle(Operation::kAttributes, 0, kEverywhere, request, answer);
  }

  static void Open(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
    info->keep_cache = 1;
    info->direct_io = Self(request).has_short_transfers();
    fuse_reply_open(request, info);
  }

  static void Read(fuse_req_t request, fuse_ino_t, size_t size, off_t offset,
                   fuse_file_info*) {
    FaultyFile& self = Self(request);
    self.Handle(Operation::kRead, offset, size, request, [=, &self] {
      std::vector<char> bytes(self.Part(Operation::kRead, size));
      const ssize_t length =
          pread(self.fd_, bytes.data(), bytes.size(), offset);
      if (length < 0) {
        fuse_reply_err(request, errno);
      } else {
        fuse_reply_buf(request, bytes.data(), length);
      }
    });
  }

  static void Write(fuse_req_t request, fuse_ino_t, const char* data,
                    size_t size, off_t offset, fuse_file_info*) {
    FaultyFile& self = Self(request);
    // A copy: the buffer is the session's, and the request may have to wait.
    self.Handle(Operation::kWrite, offset, size, request,
                [=, &self, bytes = std::string(data, size)] {
                  const size_t part =
                      self.Part(Operation::kWrite, bytes.size());
                  const ssize_t length =
                      pwrite(self.fd_, bytes.data(), part, offset);
                  if (length < 0) {
                    fuse_reply_err(request, errno);
                  } else {
                    fuse_reply_write(request, length);
                  }
                });
  }

  static void Allocate(fuse_req_t request, fuse_ino_t, int mode, off_t offset,
                       off_t length, fuse_file_info*) {
    FaultyFile& self = Self(request);
    self.Handle(Operation::kErase, offset, length, request, [=, &self] {
      const int result = fallocate(self.fd_, mode, offset, length);
      fuse_reply_err(request, result == 0 ? 0 : errno);
    });
  }

  static void Sync(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) {
    FaultyFile& self = Self(request);
    self.Handle(Operation::kFlush, 0, kEverywhere, request, [=, &self] {
      fuse_reply_err(request, fdatasync(self.fd_) == 0 ? 0 : errno);
    });
  }

  static fuse_lowlevel_ops Table() {
    fuse_lowlevel_ops table = {};
    table.lookup = Lookup;
    table.getattr = GetAttributes;
    table.open = Open;
    table.read = Read;
    table.write = Write;
    table.fallocate = Allocate;
    table.fsync = Sync;
    return table;
  }
};

absl::StatusOr<std::unique_ptr<FaultyFile>> FaultyFile::Serve(
    const std::string& file, const std::string& directory) {
  const int fd = open(file.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, file);
  mkdir(directory.c_str(), 0700);
  std::unique_ptr<FaultyFile> faulty(new FaultyFile(fd, directory));
  char program[] = "faulty";
  char* argv[] = {program, nullptr};
  fuse_args arguments = FUSE_ARGS_INIT(1, argv);
  const fuse_lowlevel_ops table = Callbacks::Table();
  fuse_session* const session =
      fuse_session_new(&arguments, &table, sizeof table, faulty.get());
  fuse_opt_free_args(&arguments);
  if (session == nullptr) return absl::UnknownError("fuse_session_new");
  if (fuse_session_mount(session, directory.c_str()) != 0) {
    fuse_session_destroy(session);
    return absl::UnknownError(absl::StrCat(directory, ": cannot mount"));
  }
  faulty->session_ = session;
  faulty->thread_ = std::thread([session] { fuse_session_loop(session); });
  return faulty;
}

FaultyFile::FaultyFile(int fd, std::string directory)
    : fd_(fd),
      directory_(std::move(directory)),
      path_(absl::StrCat(directory_, "/", kName)) {}

FaultyFile::~FaultyFile() {
  if (session_ != nullptr) {
    Fail({Operation::kRead, Operation::kWrite, Operation::kErase,
          Operation::kFlush},
         EIO);
    // MNT_FORCE aborts the connection, which ends the loop. Whoever still has
    // the file open keeps the mount, not us.
    umount2(directory_.c_str(), MNT_FORCE);
    umount2(directory_.c_str(), MNT_DETACH);
    thread_.join();
    fuse_session_destroy(session_);
  }
  close(fd_);
}

void FaultyFile::Fail(std::set<Operation> operations, int error,
                      uint64_t offset, uint64_t length) {
  std::vector<std::function<void()>> waiting;
  {
    absl::MutexLock lock(&mutex_);
    failing_ = std::move(operations);
    error_ = error;
    offset_ = offset;
    length_ = length;
    hangs_ = false;
    waiting.swap(waiting_);
  }
  for (const auto& request : waiting) request();
}

void FaultyFile::Hang(bool attributes) {
  absl::MutexLock lock(&mutex_);
  answers_attributes_ = attributes;
  hangs_ = true;
}

void FaultyFile::Heal() { Fail({}, 0); }

uint64_t FaultyFile::fault_count() const {
  absl::MutexLock lock(&mutex_);
  return fault_count_;
}

void FaultyFile::TransferShort(std::set<Operation> operations) {
  absl::MutexLock lock(&mutex_);
  short_ = std::move(operations);
}

bool FaultyFile::has_short_transfers() const {
  absl::MutexLock lock(&mutex_);
  return !short_.empty();
}

size_t FaultyFile::Part(Operation operation, size_t size) {
  constexpr size_t kSector = 512;
  absl::MutexLock lock(&mutex_);
  if (short_.count(operation) == 0 || size <= kSector) return size;
  ++fault_count_;
  return (size / 2 + kSector - 1) / kSector * kSector;
}

void FaultyFile::Handle(Operation operation, uint64_t offset, uint64_t length,
                        fuse_req* request, std::function<void()> perform) {
  int error = 0;
  {
    absl::MutexLock lock(&mutex_);
    if (hangs_ &&
        !(operation == Operation::kAttributes && answers_attributes_)) {
      ++fault_count_;
      waiting_.push_back(
          [=, this] { Handle(operation, offset, length, request, perform); });
      return;
    }
    const bool touches = operation == Operation::kFlush ||
                         (offset < offset_ + std::min(length_, ~offset_) &&
                          offset_ < offset + std::min(length, ~offset));
    if (failing_.count(operation) != 0 && touches) {
      ++fault_count_;
      error = error_;
    }
  }
  if (error != 0) {
    fuse_reply_err(request, error);
  } else {
    perform();
  }
}

}  // namespace pcachefs
