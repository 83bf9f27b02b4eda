// The mounted file system: images and the control tree over a Cache.
//
// Owned by whoever mounts it; outlives its FuseServer. `cache` outlives it.
// Thread-safe.

#ifndef PCACHEFS_FUSE_FILE_SYSTEM_H_
#define PCACHEFS_FUSE_FILE_SYSTEM_H_

#include <sys/stat.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/image_map.h"
#include "core/status.h"
#include "fuse/control_target.h"
#include "fuse/control_tree.h"
#include "fuse/image_directory.h"
#include "fuse/image_manager.h"
#include "fuse/image_requests.h"
#include "fuse/inode.h"
#include "fuse/kept_images.h"
#include "fuse/server_facts.h"
#include "meta/types.h"

namespace pcachefs {

// As ControlTarget has them; none of them without failover.
struct UpgradeCalls {
  absl::AnyInvocable<absl::StatusOr<uint64_t>(const std::string& binary)>
      prepare;
  absl::AnyInvocable<void(uint64_t number)> begin;
  absl::AnyInvocable<absl::StatusOr<bool>(uint64_t number)> is_done;
};

class FileSystem : public ControlTarget {
 public:
  // `facts` is asked for every status; `begin_stop` is called when somebody
  // wants the daemon to stop, possibly more than once, on a thread that serves
  // the mount: it must not wait for the stop.
  FileSystem(Cache& cache, BackingSource source,
             absl::AnyInvocable<ServerFacts()> facts,
             absl::AnyInvocable<void()> begin_stop,
             UpgradeCalls upgrade = {});

  // Of earlier daemons of the mount; before the first image. Outlives it.
  void Succeed(KeptImages& kept, uint64_t daemon_count) {
    kept_ = &kept;
    manager_.set_kept_images(&kept);
    control_tree_.SucceedDaemons(daemon_count);
  }
  KeptImages* kept_images() const { return kept_; }  // null: no failover

  // Shows an attached image.
  absl::Status AddImage(CachedImage& image) { return manager_.Show(image); }
  // Why an image that the cache knows is not served.
  void NoteAbsent(const std::string& name, const absl::Status& why);

  ImageDirectory& directory() { return directory_; }
  ControlTree& control_tree() { return control_tree_; }
  ImageRequests& image_requests() { return image_requests_; }

  // What stat shows; NotFound if there is no such node.
  absl::StatusOr<struct stat> Attributes(Inode inode);
  // Bytes of all images.
  uint64_t TotalSize();

  CacheStatus GetStatus() override;
  ServerFacts GetFacts() override;
  void Flush(const std::string& name, Done done) override;
  void Drain(const std::string& name, Done done) override;
  void SetMode(const std::string& name, CacheMode mode, Done done) override;
  absl::Status Change(const std::string& name,
                      const ImageChanges& changes) override;
  absl::StatusOr<PlaceInImage> Explain(const std::string& name,
                                       ImageOffset offset) override;
  absl::StatusOr<ImageMap> DrawMap(const std::string& name,
                                   size_t cell_count) override;
  void Attach(const AttachRequest& request, Done done) override;
  void Detach(const std::string& name, DetachKind kind, bool drain,
              Done done) override;
  absl::Status SetShare(const std::string& name, uint64_t bytes) override {
    return cache_.SetShare(name, bytes);
  }
  absl::StatusOr<uint32_t> Grow() override { return cache_.Grow(); }
  absl::Status MayStop(bool force) override;
  void BeginStop() override;
  absl::StatusOr<uint64_t> PrepareUpgrade(const std::string& binary) override;
  void BeginUpgrade(uint64_t number) override;
  absl::StatusOr<bool> IsUpgradeDone(uint64_t number) override;

 private:
  using ImageOperation = void (CachedImage::*)(CachedImage::Done);

  // Calls it on one image, or on all.
  void ForImages(const std::string& name, ImageOperation operation, Done done);

  Cache& cache_;
  KeptImages* kept_ = nullptr;
  absl::Mutex facts_mutex_;
  absl::AnyInvocable<ServerFacts()> facts_ ABSL_GUARDED_BY(facts_mutex_);
  absl::Mutex stop_mutex_;
  absl::AnyInvocable<void()> begin_stop_ ABSL_GUARDED_BY(stop_mutex_);
  absl::Mutex upgrade_mutex_;
  UpgradeCalls upgrade_ ABSL_GUARDED_BY(upgrade_mutex_);
  const absl::Time start_ = absl::Now();
  ImageDirectory directory_;
  ImageRequests image_requests_;
  absl::Mutex absent_mutex_;
  std::map<std::string, std::string> absent_reasons_
      ABSL_GUARDED_BY(absent_mutex_);
  ImageManager manager_;
  ControlTree control_tree_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_FILE_SYSTEM_H_
