// The tree of the mount: which names are where, and which image is behind an
// inode. Pure: knows nothing of FUSE and does not look into images.
//
//   MOUNT/NAME                         images
//   MOUNT/.pcache/{status.json,metrics,control}
//   MOUNT/.pcache/cache_dev/<attribute>
//   MOUNT/.pcache/backing_dev<ID>/<attribute>
//
// Thread-safe. FindImage takes no lock, since every request asks it.

#ifndef PCACHEFS_FUSE_IMAGE_DIRECTORY_H_
#define PCACHEFS_FUSE_IMAGE_DIRECTORY_H_

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/cached_image.h"
#include "fuse/in_flight_counter.h"
#include "fuse/inode.h"
#include "meta/types.h"

namespace pcachefs {

// What stat shows of an image and chmod, chown and touch change. Forgotten at
// the end of the daemon: an image is its backing device's bytes, nothing else.
struct Ownership {
  mode_t permissions = 0600;
  uid_t uid = 0;
  gid_t gid = 0;
  absl::Time access_time;
  absl::Time modification_time;
};

// An image as the mount shows it. Stays where it is until the directory is
// destroyed, also when it was removed.
class MountedImage {
 public:
  // `open_count`: of files that earlier daemons have opened.
  MountedImage(std::string name, ImageId id, CachedImage* image,
               const Ownership& ownership, int open_count = 0)
      : name_(std::move(name)),
        id_(id),
        image_(image),
        open_count_(open_count),
        ownership_(ownership) {}

  const std::string& name() const { return name_; }
  ImageId id() const { return id_; }

  Ownership ownership() const {
    absl::MutexLock lock(&mutex_);
    return ownership_;
  }
  void set_ownership(const Ownership& ownership) {
    absl::MutexLock lock(&mutex_);
    ownership_ = ownership;
  }

  // Open files and loop devices. False: it is being detached, not opened.
  bool AddOpen();
  void RemoveOpen() { --open_count_; }
  int open_count() const { return open_count_; }

  // Detaching, in steps. From BeginLeaving on it cannot be opened, unless that
  // fails since it is open: FailedPrecondition. After Retire nobody uses the
  // CachedImage, and nobody begins to. Stay takes both back.
  absl::Status BeginLeaving();
  void Retire();
  void Stay();

 private:
  friend class ImageUse;

  const std::string name_;
  const ImageId id_;
  CachedImage* const image_;
  // Sequentially consistent, all four: who adds looks at the flag afterwards,
  // who sets the flag looks at the count afterwards.
  std::atomic<int> open_count_;
  std::atomic<bool> is_leaving_ = false;
  InFlightCounter uses_;
  std::atomic<bool> is_retired_ = false;
  mutable absl::Mutex mutex_;
  Ownership ownership_ ABSL_GUARDED_BY(mutex_);
};

// The image of a MountedImage, in service as long as the use lasts; none if
// `mounted` is null or was retired.
class ImageUse {
 public:
  explicit ImageUse(MountedImage* mounted);
  ~ImageUse();
  ImageUse(const ImageUse&) = delete;
  ImageUse& operator=(const ImageUse&) = delete;

  explicit operator bool() const { return mounted_ != nullptr; }
  CachedImage& operator*() const { return *mounted_->image_; }
  CachedImage* operator->() const { return mounted_->image_; }
  MountedImage& mounted() const { return *mounted_; }

 private:
  MountedImage* mounted_;
};

struct DirectoryEntry {
  std::string name;
  Inode inode = 0;
  bool is_directory = false;

  friend bool operator==(const DirectoryEntry&,
                         const DirectoryEntry&) = default;
};

class ImageDirectory {
 public:
  // As many images as a mount can show; ids are below it.
  static constexpr uint32_t kMaxImages = 4096;

  // Names of the files in cache_dev and in every backing_dev<ID>; their
  // positions are the attribute numbers. At most kMaxAttributes each.
  ImageDirectory(std::vector<std::string> cache_attributes,
                 std::vector<std::string> image_attributes);

  // AlreadyExists if the name or id is taken, ResourceExhausted if the id is
  // too large. `image` outlives its stay here.
  absl::Status Add(const std::string& name, ImageId id, CachedImage* image,
                   const Ownership& ownership, int open_count = 0);
  // NotFound. Requires: the image was retired.
  absl::Status Remove(absl::string_view name);

  // nullptr if there is none.
  MountedImage* FindImage(ImageId id) const {
    return id.value() < kMaxImages
               ? slots_[id.value()].load(std::memory_order_acquire)
               : nullptr;
  }
  MountedImage* FindImage(absl::string_view name) const;
  std::vector<MountedImage*> images() const;  // by name

  // The node of that number if it exists now, else kNone.
  Node Find(Inode inode) const;
  // kNone: no such name. Requires: parent is a directory's number.
  Node Lookup(Inode parent, absl::string_view name) const;
  // Without "." and "..". Empty if there is no such directory.
  std::vector<DirectoryEntry> List(Inode directory) const;
  // Sub-directories of a directory, for its link count.
  int CountDirectories(Inode directory) const;

 private:
  std::vector<DirectoryEntry> ListRoot() const;
  std::vector<DirectoryEntry> ListControlDirectory() const;

  const std::vector<std::string> cache_attributes_;
  const std::vector<std::string> image_attributes_;
  std::array<std::atomic<MountedImage*>, kMaxImages> slots_ = {};

  mutable absl::Mutex mutex_;
  // Removed ones stay: a request may still hold a pointer.
  std::vector<std::unique_ptr<MountedImage>> all_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_IMAGE_DIRECTORY_H_
