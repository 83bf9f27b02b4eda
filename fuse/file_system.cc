#include "fuse/file_system.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/image_map.h"
#include "core/status.h"
#include "fuse/control_attributes.h"
#include "fuse/control_tree.h"
#include "fuse/image_directory.h"
#include "fuse/inode.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Waits for several callbacks; the first error wins.
class Gathering {
 public:
  Gathering(size_t count, CachedImage::Done done)
      : left_(count), done_(std::move(done)) {}

  void End(absl::Status status) {
    CachedImage::Done done;
    {
      absl::MutexLock lock(&mutex_);
      status_.Update(status);
      if (--left_ > 0) return;
      done = std::move(done_);
      status = status_;
    }
    done(std::move(status));
  }

 private:
  absl::Mutex mutex_;
  size_t left_ ABSL_GUARDED_BY(mutex_);
  CachedImage::Done done_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

void FillImageAttributes(const ImageUse& image, struct stat& attributes) {
  const Ownership ownership = image.mounted().ownership();
  attributes.st_mode = S_IFREG | ownership.permissions;
  attributes.st_nlink = 1;
  attributes.st_uid = ownership.uid;
  attributes.st_gid = ownership.gid;
  attributes.st_size = static_cast<off_t>(image->size());
  attributes.st_blocks =
      static_cast<blkcnt_t>(image->allocated_bytes() / kSectorSize);
  attributes.st_atim = absl::ToTimespec(ownership.access_time);
  attributes.st_mtim = absl::ToTimespec(ownership.modification_time);
  attributes.st_ctim = attributes.st_mtim;
}

}  // namespace

FileSystem::FileSystem(Cache& cache, BackingSource source,
                       absl::AnyInvocable<ServerFacts()> facts,
                       absl::AnyInvocable<void()> begin_stop,
                       UpgradeCalls upgrade)
    : cache_(cache),
      facts_(std::move(facts)),
      begin_stop_(std::move(begin_stop)),
      upgrade_(std::move(upgrade)),
      directory_(CacheAttributeNames(), ImageAttributeNames()),
      manager_(cache, directory_, std::move(source)),
      control_tree_(*this) {}

void FileSystem::NoteAbsent(const std::string& name, const absl::Status& why) {
  absl::MutexLock lock(&absent_mutex_);
  absent_reasons_[name] = std::string(why.message());
}

absl::StatusOr<struct stat> FileSystem::Attributes(Inode inode) {
  const Node node = directory_.Find(inode);
  if (node.kind == NodeKind::kNone) {
    return absl::NotFoundError(absl::StrCat("no inode ", inode));
  }
  struct stat attributes = {};
  attributes.st_ino = inode;
  attributes.st_blksize = kBlockSize;
  if (node.kind == NodeKind::kImage) {
    const ImageUse image(directory_.FindImage(node.image));
    if (!image) return absl::NotFoundError("the image has gone");
    FillImageAttributes(image, attributes);
    return attributes;
  }
  attributes.st_uid = getuid();
  attributes.st_gid = getgid();
  attributes.st_atim = attributes.st_mtim = attributes.st_ctim =
      absl::ToTimespec(start_);
  if (IsDirectory(node.kind)) {
    attributes.st_mode = S_IFDIR | 0755;
    attributes.st_nlink = 2 + directory_.CountDirectories(inode);
  } else {
    // Size 0 as in procfs: what is read is known only when it is opened.
    attributes.st_mode =
        S_IFREG | (ControlTree::IsWritable(node) ? 0600 : 0444);
    attributes.st_nlink = 1;
  }
  return attributes;
}

uint64_t FileSystem::TotalSize() {
  uint64_t sum = 0;
  for (MountedImage* mounted : directory_.images()) {
    const ImageUse image(mounted);
    if (image) sum += image->size();
  }
  return sum;
}

CacheStatus FileSystem::GetStatus() {
  CacheStatus status = cache_.status();
  absl::MutexLock lock(&absent_mutex_);
  for (AbsentImage& image : status.absent) {
    const auto reason = absent_reasons_.find(image.name);
    if (!image.is_detached && reason != absent_reasons_.end()) {
      image.reason = reason->second;
    }
  }
  return status;
}

ServerFacts FileSystem::GetFacts() {
  absl::MutexLock lock(&facts_mutex_);
  return facts_();
}

void FileSystem::Flush(const std::string& name, Done done) {
  ForImages(name, &CachedImage::Flush, std::move(done));
}

void FileSystem::Drain(const std::string& name, Done done) {
  ForImages(name, &CachedImage::Drain, std::move(done));
}

void FileSystem::ForImages(const std::string& name, ImageOperation operation,
                           Done done) {
  std::vector<MountedImage*> images;
  if (name.empty()) {
    images = directory_.images();
    if (images.empty()) return done(absl::OkStatus());
  } else if (MountedImage* image = directory_.FindImage(name)) {
    images = {image};
  } else {
    return done(absl::NotFoundError(absl::StrCat("no image '", name, "'")));
  }
  auto gathering = std::make_shared<Gathering>(images.size(), std::move(done));
  for (MountedImage* mounted : images) {
    const ImageUse image(mounted);
    // Gone, with nothing left to do; or one of many, where nobody asked for just
    // this one to be drained.
    if (!image || (name.empty() && operation == &CachedImage::Drain &&
                   image->status().read_only_backing)) {
      gathering->End(absl::OkStatus());
      continue;
    }
    ((*image).*operation)([gathering](absl::Status status) {
      gathering->End(std::move(status));
    });
  }
}

void FileSystem::SetMode(const std::string& name, CacheMode mode, Done done) {
  const ImageUse image(directory_.FindImage(name));
  if (!image) {
    return done(absl::NotFoundError(absl::StrCat("no image '", name, "'")));
  }
  image->SetMode(mode, std::move(done));
}

absl::Status FileSystem::Change(const std::string& name,
                                const ImageChanges& changes) {
  const ImageUse image(directory_.FindImage(name));
  if (!image) {
    return absl::NotFoundError(absl::StrCat("no image '", name, "'"));
  }
  return image->Change(changes);
}

void FileSystem::Attach(const AttachRequest& request, Done done) {
  manager_.Attach(request, std::move(done));
}

void FileSystem::Detach(const std::string& name, DetachKind kind, bool drain,
                        Done done) {
  manager_.Detach(name, kind, drain, std::move(done));
}

absl::StatusOr<PlaceInImage> FileSystem::Explain(const std::string& name,
                                                 ImageOffset offset) {
  const ImageUse image(directory_.FindImage(name));
  if (!image) {
    return absl::NotFoundError(absl::StrCat("no image '", name, "'"));
  }
  return ExplainPlace(*image, offset);
}

absl::StatusOr<ImageMap> FileSystem::DrawMap(const std::string& name,
                                             size_t cell_count) {
  const ImageUse image(directory_.FindImage(name));
  if (!image) {
    return absl::NotFoundError(absl::StrCat("no image '", name, "'"));
  }
  return DrawImageMap(*image, cell_count);
}

absl::Status FileSystem::MayStop(bool force) {
  std::vector<std::string> open;
  for (const MountedImage* image : directory_.images()) {
    if (image->open_count() > 0) open.push_back(image->name());
  }
  if (open.empty() || force) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("in use: ", absl::StrJoin(open, ", "),
                   "; unmount and detach what stands on it first, or use "
                   "--force"));
}

void FileSystem::BeginUpgrade(uint64_t number) {
  absl::MutexLock lock(&upgrade_mutex_);
  if (upgrade_.begin != nullptr) upgrade_.begin(number);
}

absl::StatusOr<uint64_t> FileSystem::PrepareUpgrade(
    const std::string& binary) {
  absl::MutexLock lock(&upgrade_mutex_);
  if (upgrade_.prepare != nullptr) return upgrade_.prepare(binary);
  return absl::FailedPreconditionError(
      "upgrade: the daemon serves without --failover (over io_uring: "
      "--planned_failover), so nobody would keep the mount meanwhile; take "
      "down what stands on the images and restart it");
}

absl::StatusOr<bool> FileSystem::IsUpgradeDone(uint64_t number) {
  absl::MutexLock lock(&upgrade_mutex_);
  if (upgrade_.is_done != nullptr) return upgrade_.is_done(number);
  return absl::NotFoundError(absl::StrCat("no upgrade ", number));
}

void FileSystem::BeginStop() {
  absl::MutexLock lock(&stop_mutex_);
  begin_stop_();
}

}  // namespace pcachefs
