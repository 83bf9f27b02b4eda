// Attaches and detaches images while the mount is served.
//
// One after the other, on a thread of its own, since devices may make it wait.
// Thread-safe. An image is detached only while nobody has it open; its
// CachedImage ends when nobody uses it any more.

#ifndef PCACHEFS_FUSE_IMAGE_MANAGER_H_
#define PCACHEFS_FUSE_IMAGE_MANAGER_H_

#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/cache.h"
#include "core/options.h"
#include "fuse/control_target.h"
#include "fuse/image_directory.h"
#include "fuse/kept_images.h"
#include "fuse/work_thread.h"
#include "iobackend/backing_device.h"
#include "meta/records.h"

namespace pcachefs {

// Where images that are attached in use get their backing devices from.
struct BackingSource {
  // Who the device at `spec` is, without locking it.
  absl::AnyInvocable<absl::StatusOr<BackingIdentity>(const std::string& spec)>
      identify;
  absl::AnyInvocable<absl::StatusOr<std::unique_ptr<BackingDevice>>(
      const std::string& spec, bool read_only)>
      open;
  ImageOptions defaults;  // of new images
};

class ImageManager {
 public:
  using Done = ControlTarget::Done;

  // Both outlive it. Callbacks of drains that it waits for must have come
  // before it is destroyed: close the cache first.
  ImageManager(Cache& cache, ImageDirectory& directory, BackingSource source)
      : cache_(cache), directory_(directory), source_(std::move(source)) {}

  // As ControlTarget has them.
  void Attach(const ControlTarget::AttachRequest& request, Done done);
  void Detach(const std::string& name, DetachKind kind, bool drain, Done done);

  // Shows an image that is in service.
  absl::Status Show(CachedImage& image);

  // What earlier daemons knew of images. Before the first call of others.
  void set_kept_images(KeptImages* kept) { kept_ = kept; }

 private:
  absl::Status AttachNow(const ControlTarget::AttachRequest& request);
  // The request as it is carried out: with the recorded spec, if none is given.
  absl::StatusOr<ImageOptions> OptionsFor(
      ControlTarget::AttachRequest& request);
  absl::Status CheckUnused(const std::string& name, const std::string& spec,
                           bool is_only_read);
  absl::Status DetachNow(MountedImage& mounted, DetachKind kind);

  Cache& cache_;
  ImageDirectory& directory_;
  KeptImages* kept_ = nullptr;
  BackingSource source_;  // used on worker_ only
  WorkThread worker_;     // last: it uses the others
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_IMAGE_MANAGER_H_
