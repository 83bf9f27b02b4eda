#include "fuse/fuse_operations.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fuse/connection.h"
#include "fuse/control_tree.h"
#include "fuse/current_request.h"
#include "fuse/file_system.h"
#include "fuse/fuse_reply.h"
#include "fuse/image_directory.h"
#include "fuse/inode.h"
#include "fuse/kept_images.h"
#include "fuse/libfuse.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// How long the kernel may believe attributes; names are asked for every time,
// since images come and go.
constexpr double kAttributeSeconds = 1;
constexpr double kEntrySeconds = 0;
// Of an image, in bytes.
constexpr unsigned long kLongestName = 63;

FileSystem& FileSystemOf(const FuseReply& reply) {
  return *static_cast<FileSystem*>(reply.connection().file_system);
}

// The image behind an inode, none for everything else. It stays in service
// until the handler returns, and then as long as it is open.
ImageUse UseImage(FileSystem& fs, fuse_ino_t inode) {
  const Node node = NodeOf(inode);
  return ImageUse(node.kind == NodeKind::kImage
                      ? fs.directory().FindImage(node.image)
                      : nullptr);
}

bool IsImage(fuse_ino_t inode) {
  return NodeOf(inode).kind == NodeKind::kImage;
}

// Answers in place of the handler when the mount is going away.
bool RefuseIfStopping(FuseReply& reply) {
  if (!reply.connection().is_stopping) return false;
  reply.Error(ENOTCONN);
  return true;
}

void Lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  FuseReply reply(request);
  FileSystem& fs = FileSystemOf(reply);
  const Inode inode = InodeOf(fs.directory().Lookup(parent, name));
  const absl::StatusOr<struct stat> attributes = fs.Attributes(inode);
  if (!attributes.ok()) return reply.Send(attributes.status());
  fuse_entry_param entry = {};
  entry.ino = inode;
  entry.attr = *attributes;
  entry.attr_timeout = kAttributeSeconds;
  entry.entry_timeout = kEntrySeconds;
  reply.Entry(entry);
}

// Inodes are not counted.
void Forget(fuse_req_t request, fuse_ino_t /*inode*/, uint64_t /*count*/) {
  FuseReply(request).None();
}

void ForgetMulti(fuse_req_t request, size_t /*count*/,
                 fuse_forget_data* /*forgets*/) {
  FuseReply(request).None();
}

void ReplyAttributes(FileSystem& fs, fuse_ino_t inode, FuseReply reply) {
  const absl::StatusOr<struct stat> attributes = fs.Attributes(inode);
  if (!attributes.ok()) return reply.Send(attributes.status());
  reply.Attributes(*attributes, kAttributeSeconds);
}

void GetAttributes(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
  FuseReply reply(request);
  FileSystem& fs = FileSystemOf(reply);
  ReplyAttributes(fs, inode, std::move(reply));
}

void ApplyOwnership(const struct stat& wanted, int mask, MountedImage& image,
                    KeptImages* kept) {
  Ownership ownership = image.ownership();
  if (mask & FUSE_SET_ATTR_MODE) ownership.permissions = wanted.st_mode & 0777;
  if (mask & FUSE_SET_ATTR_UID) ownership.uid = wanted.st_uid;
  if (mask & FUSE_SET_ATTR_GID) ownership.gid = wanted.st_gid;
  const absl::Time now = absl::Now();
  if (mask & FUSE_SET_ATTR_ATIME) {
    ownership.access_time = mask & FUSE_SET_ATTR_ATIME_NOW
                                ? now
                                : absl::TimeFromTimespec(wanted.st_atim);
  }
  if (mask & FUSE_SET_ATTR_MTIME) {
    ownership.modification_time = mask & FUSE_SET_ATTR_MTIME_NOW
                                      ? now
                                      : absl::TimeFromTimespec(wanted.st_mtim);
  }
  image.set_ownership(ownership);
  if (kept != nullptr) kept->KeepOwnership(image.id(), ownership);
}

void SetAttributes(fuse_req_t request, fuse_ino_t inode, struct stat* wanted,
                   int mask, fuse_file_info*) {
  FuseReply reply(request);
  FileSystem& fs = FileSystemOf(reply);
  if (const ImageUse image = UseImage(fs, inode)) {
    const bool resizes =
        (mask & FUSE_SET_ATTR_SIZE) &&
        static_cast<uint64_t>(wanted->st_size) != image->size();
    if (resizes) return reply.Error(EPERM);  // its backing device decides
    ApplyOwnership(*wanted, mask, image.mounted(), fs.kept_images());
  } else if (mask &
             (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
    return reply.Error(EPERM);
  }
  // Truncating a file of the control tree, as a shell's '>' does, is nothing.
  ReplyAttributes(fs, inode, std::move(reply));
}

void OpenControlFile(FileSystem& fs, fuse_ino_t inode, fuse_file_info* info,
                     FuseReply reply) {
  const Node node = fs.directory().Find(inode);
  const bool writes = (info->flags & O_ACCMODE) != O_RDONLY;
  if (node.kind == NodeKind::kNone) return reply.Error(ENOENT);
  if (writes && !ControlTree::IsWritable(node)) return reply.Error(EACCES);
  const absl::StatusOr<uint64_t> handle = fs.control_tree().Open(node);
  if (!handle.ok()) return reply.Send(handle.status());
  info->fh = *handle;
  info->direct_io = 1;
  info->nonseekable = node.kind == NodeKind::kControlFile;
  reply.Open(*info, /*parallel_writes=*/false);
}

// One that is sent again counts once: MountedImage has begun with what was
// counted then.
bool CountOpen(FileSystem& fs, MountedImage& image) {
  if (!image.AddOpen()) return false;
  KeptImages* const kept = fs.kept_images();
  if (kept != nullptr &&
      !kept->CountOpen(image.id(), current_request.unique, 1)) {
    image.RemoveOpen();
  }
  return true;
}

void CountRelease(FileSystem& fs, MountedImage& image) {
  KeptImages* const kept = fs.kept_images();
  if (kept == nullptr ||
      kept->CountOpen(image.id(), current_request.unique, -1)) {
    image.RemoveOpen();
  }
}

void Open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info) {
  FuseReply reply(request);
  if (RefuseIfStopping(reply)) return;
  FileSystem& fs = FileSystemOf(reply);
  if (!IsImage(inode)) {
    return OpenControlFile(fs, inode, info, std::move(reply));
  }
  const ImageUse image = UseImage(fs, inode);
  if (!image) return reply.Error(ENOENT);
  // The mount itself stays writable: its control file is.
  if (image->read_only() && (info->flags & O_ACCMODE) != O_RDONLY) {
    return reply.Error(EROFS);
  }
  if (!CountOpen(fs, image.mounted())) return reply.Error(EBUSY);
  info->fh = 0;         // the inode says it all, also to a restarted daemon
  info->direct_io = 1;  // every byte would be in memory twice otherwise
  info->noflush = 1;    // closing promises nothing
  reply.Open(*info, /*parallel_writes=*/true);
}

void Release(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info) {
  FuseReply reply(request);
  FileSystem& fs = FileSystemOf(reply);
  if (const ImageUse image = UseImage(fs, inode)) {
    CountRelease(fs, image.mounted());
  } else {
    fs.control_tree().Release(info->fh);
  }
  reply.Ok();
}

void Read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
          fuse_file_info* info) {
  FuseReply reply(request);
  if (RefuseIfStopping(reply)) return;
  FileSystem& fs = FileSystemOf(reply);
  if (const ImageUse image = UseImage(fs, inode)) {
    return fs.image_requests().Read(*image, offset, size, std::move(reply));
  }
  fs.control_tree().Read(NodeOf(inode), info->fh, offset, size,
                         std::move(reply));
}

void Write(fuse_req_t request, fuse_ino_t inode, const char* bytes, size_t size,
           off_t offset, fuse_file_info* info) {
  FuseReply reply(request);
  if (RefuseIfStopping(reply)) return;
  FileSystem& fs = FileSystemOf(reply);
  if (const ImageUse image = UseImage(fs, inode)) {
    return fs.image_requests().Write(
        *image, offset,
        {reinterpret_cast<const std::byte*>(bytes), size}, std::move(reply));
  }
  fs.control_tree().Write(NodeOf(inode), info->fh,
                          absl::string_view(bytes, size),
                          current_request.is_resent, std::move(reply));
}

// close(2): promises nothing.
void Flush(fuse_req_t request, fuse_ino_t /*inode*/, fuse_file_info*) {
  FuseReply(request).Ok();
}

void Fsync(fuse_req_t request, fuse_ino_t inode, int /*data_only*/,
           fuse_file_info*) {
  FuseReply reply(request);
  if (RefuseIfStopping(reply)) return;
  FileSystem& fs = FileSystemOf(reply);
  const ImageUse image = UseImage(fs, inode);
  if (!image) return reply.Ok();
  fs.image_requests().Flush(*image, std::move(reply));
}

void Fallocate(fuse_req_t request, fuse_ino_t inode, int mode, off_t offset,
               off_t length, fuse_file_info*) {
  FuseReply reply(request);
  if (RefuseIfStopping(reply)) return;
  FileSystem& fs = FileSystemOf(reply);
  const ImageUse image = UseImage(fs, inode);
  if (!image) return reply.Error(EOPNOTSUPP);
  fs.image_requests().Fallocate(*image, mode, offset, length,
                                std::move(reply));
}

void Seek(fuse_req_t request, fuse_ino_t inode, off_t offset, int whence,
          fuse_file_info*) {
  FuseReply reply(request);
  if (RefuseIfStopping(reply)) return;
  FileSystem& fs = FileSystemOf(reply);
  const ImageUse image = UseImage(fs, inode);
  if (!image) return reply.Error(EINVAL);
  fs.image_requests().Seek(*image, offset, whence, std::move(reply));
}

// A directory is listed anew for every request; it is short, and offsets are
// positions in it. One that changes in between may show an entry twice or not.
void ReadDirectory(fuse_req_t request, fuse_ino_t inode, size_t size,
                   off_t offset, fuse_file_info*) {
  FuseReply reply(request);
  std::vector<DirectoryEntry> entries = {{".", inode, true},
                                         {"..", kRootInode, true}};
  for (DirectoryEntry& entry : FileSystemOf(reply).directory().List(inode)) {
    entries.push_back(std::move(entry));
  }
  std::vector<char> buffer(size);
  size_t used = 0;
  for (size_t i = offset; i < entries.size(); ++i) {
    struct stat attributes = {};
    attributes.st_ino = entries[i].inode;
    attributes.st_mode = entries[i].is_directory ? S_IFDIR : S_IFREG;
    const size_t length =
        fuse_add_direntry(request, buffer.data() + used, size - used,
                          entries[i].name.c_str(), &attributes, i + 1);
    if (length > size - used) break;
    used += length;
  }
  reply.Data(std::as_bytes(std::span<const char>(buffer.data(), used)));
}

void Statfs(fuse_req_t request, fuse_ino_t /*inode*/) {
  FuseReply reply(request);
  struct statvfs statistics = {};
  // A loop device takes f_bsize for its discard granularity.
  statistics.f_bsize = kBlockSize;
  statistics.f_frsize = kBlockSize;
  statistics.f_blocks = FileSystemOf(reply).TotalSize() / kBlockSize;
  statistics.f_namemax = kLongestName;
  reply.Statfs(statistics);
}

// Images come and go by pcachectl, not by touch and rm.
template <typename... Rest>
void Refuse(fuse_req_t request, Rest...) {
  FuseReply(request).Error(EPERM);
}

}  // namespace

fuse_lowlevel_ops FuseOperations() {
  fuse_lowlevel_ops operations = {};
  operations.lookup = Lookup;
  operations.forget = Forget;
  operations.forget_multi = ForgetMulti;
  operations.getattr = GetAttributes;
  operations.setattr = SetAttributes;
  operations.open = Open;
  operations.release = Release;
  operations.read = Read;
  operations.write = Write;
  operations.flush = Flush;
  operations.fsync = Fsync;
  operations.fallocate = Fallocate;
  operations.lseek = Seek;
  operations.readdir = ReadDirectory;
  operations.statfs = Statfs;
  operations.mknod = Refuse;
  operations.mkdir = Refuse;
  operations.unlink = Refuse;
  operations.rmdir = Refuse;
  operations.symlink = Refuse;
  operations.link = Refuse;
  operations.rename = Refuse;
  return operations;
}

}  // namespace pcachefs
