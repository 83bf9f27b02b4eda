#include "fuse/image_manager.h"

#include <glog/logging.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "fuse/image_directory.h"
#include "fuse/kept_images.h"
#include "meta/records.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

absl::Status OfImage(const std::string& name, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat("image ", name, ": ", status.message()));
}

// Known images are changed by `set`, not in passing.
template <typename T>
absl::Status CheckSame(const std::string& name, const char* what,
                       const std::optional<T>& wanted, T recorded) {
  if (!wanted || *wanted == recorded) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "image ", name, ": ", what, ": got ", Name(*wanted),
      ", but the cache knows the image with ", Name(recorded),
      "; attach it without, then use: pcachectl set"));
}

}  // namespace

absl::Status ImageManager::Show(CachedImage& image) {
  const absl::Time now = absl::Now();
  KeptImages::Kept kept;
  if (kept_ != nullptr) {
    kept = kept_->Adopt(image.id(), image.status().uuid.tag().value());
  }
  return directory_.Add(image.name(), image.id(), &image,
                        kept.ownership.value_or(
                            Ownership{.uid = getuid(),
                                      .gid = getgid(),
                                      .access_time = now,
                                      .modification_time = now}),
                        kept.open_count);
}

void ImageManager::Attach(const ControlTarget::AttachRequest& request,
                          Done done) {
  worker_.Post([this, request, done = std::move(done)]() mutable {
    const absl::Status attached = AttachNow(request);
    LOG_IF(INFO, attached.ok()) << "image " << request.name << ": attached";
    done(attached);
  });
}

absl::Status ImageManager::AttachNow(
    const ControlTarget::AttachRequest& wanted) {
  ControlTarget::AttachRequest request = wanted;
  RETURN_IF_ERROR(ValidateImageName(request.name));
  if (cache_.Find(request.name) != nullptr) {
    return absl::AlreadyExistsError(
        absl::StrCat("image ", request.name, ": is attached already"));
  }
  ASSIGN_OR_RETURN(const ImageOptions options, OptionsFor(request));
  RETURN_IF_ERROR(CheckUnused(request.name, request.spec,
                              options.read_only_backing));
  absl::StatusOr<std::unique_ptr<BackingDevice>> backing =
      source_.open(request.spec, options.read_only_backing);
  if (!backing.ok()) return OfImage(request.name, backing.status());
  ASSIGN_OR_RETURN(CachedImage* const image,
                   cache_.Attach(request.name, *std::move(backing), options));
  return Show(*image);
}

absl::StatusOr<ImageOptions> ImageManager::OptionsFor(
    ControlTarget::AttachRequest& request) {
  ImageOptions options = source_.defaults;
  for (const ImageRecord& record : cache_.KnownImages()) {
    if (record.name != request.name) continue;
    RETURN_IF_ERROR(
        CheckSame(request.name, "mode", request.mode, record.mode));
    RETURN_IF_ERROR(
        CheckSame(request.name, "order", request.order, record.order));
    if (request.image_cache_size != 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "image ", request.name, ": the cache knows it, with a share; attach "
          "it without --image_cache_size, then use: pcachectl set"));
    }
    if (request.spec.empty()) request.spec = record.backing_spec;
    if (request.read_only_backing && !record.read_only_backing) {
      return absl::FailedPreconditionError(absl::StrCat(
          "image ", request.name, ": read_only_backing: the cache knows it as "
          "one whose backing device is written to; detach it first"));
    }
    options.mode = record.mode;
    options.order = record.order;
    options.read_only_backing = record.read_only_backing;
    return options;
  }
  if (request.spec.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "image ", request.name, ": the cache does not know it; say where its "
        "backing device is"));
  }
  options.mode = request.mode.value_or(options.mode);
  options.order = request.order.value_or(options.order);
  if (request.image_cache_size != 0) {
    options.cache_size = request.image_cache_size;
  }
  options.read_only_backing |= request.read_only_backing;
  return options;
}

// The device's lock would tell as much, but not of which image it is.
absl::Status ImageManager::CheckUnused(const std::string& name,
                                       const std::string& spec,
                                       bool is_only_read) {
  const absl::StatusOr<BackingIdentity> identity = source_.identify(spec);
  if (!identity.ok()) return OfImage(name, identity.status());
  for (const ImageRecord& record : cache_.KnownImages()) {
    if (is_only_read && record.read_only_backing) continue;
    if (record.name == name || record.backing.kind != identity->kind ||
        record.backing.text != identity->text) {
      continue;
    }
    return absl::AlreadyExistsError(absl::StrCat(
        "image ", name, ": ", spec, " (", identity->text,
        ") is the backing device of image ", record.name, ", ",
        record.backing_spec, " (", record.backing.text, ")"));
  }
  return absl::OkStatus();
}

void ImageManager::Detach(const std::string& name, DetachKind kind, bool drain,
                          Done done) {
  MountedImage* const mounted = directory_.FindImage(name);
  if (mounted == nullptr) {
    worker_.Post([this, name, kind, done = std::move(done)]() mutable {
      done(cache_.Detach(name, kind));
    });
    return;
  }
  const absl::Status leaving = mounted->BeginLeaving();
  if (!leaving.ok()) return done(leaving);
  auto finish = [this, mounted, kind, done = std::move(done)](
                    const absl::Status& drained) mutable {
    worker_.Post([this, mounted, kind, drained,
                  done = std::move(done)]() mutable {
      if (!drained.ok()) mounted->Stay();
      done(drained.ok() ? DetachNow(*mounted, kind) : drained);
    });
  };
  if (kind != DetachKind::kRemove) return finish(absl::OkStatus());
  const ImageUse image(mounted);
  const uint64_t dirty_bytes = image ? image->status().dirty_bytes : 0;
  if (!drain && dirty_bytes > 0) {
    mounted->Stay();
    return finish(absl::FailedPreconditionError(absl::StrCat(
        "image ", name, ": has ", dirty_bytes,
        " bytes of dirty data; --drain writes them back first, --keep_dirty "
        "keeps them in the cache for the next attach")));
  }
  if (!image || image->read_only()) return finish(absl::OkStatus());
  if (image->status().read_only_backing && dirty_bytes == 0) {
    return finish(absl::OkStatus());
  }
  // Without dirty data that ends at once: it moves dirty_tail over what is
  // clean anyway.
  image->Drain(std::move(finish));
}

absl::Status ImageManager::DetachNow(MountedImage& mounted, DetachKind kind) {
  const std::string name = mounted.name();
  mounted.Retire();
  const absl::Status detached = cache_.Detach(name, kind);
  if (cache_.Find(name) != nullptr) {
    mounted.Stay();
    return detached;
  }
  RETURN_IF_ERROR(directory_.Remove(name));
  LOG(INFO) << "image " << name << ": detached";
  return detached;
}

}  // namespace pcachefs
