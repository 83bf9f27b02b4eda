// What the control tree acts on: the daemon, behind an interface so that the
// control protocol is tested without one.

#ifndef PCACHEFS_FUSE_CONTROL_TARGET_H_
#define PCACHEFS_FUSE_CONTROL_TARGET_H_

#include <cstddef>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/image_settings.h"
#include "core/image_map.h"
#include "core/status.h"
#include "fuse/server_facts.h"
#include "meta/types.h"

namespace pcachefs {

// Thread-safe. Callbacks run exactly once, on any thread. An image name that is
// not served is NotFound; an empty one means all images.
class ControlTarget {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  virtual ~ControlTarget() = default;

  virtual CacheStatus GetStatus() = 0;
  virtual ServerFacts GetFacts() = 0;

  virtual void Flush(const std::string& name, Done done) = 0;
  virtual void Drain(const std::string& name, Done done) = 0;

  // May wait for the cache device.
  virtual absl::Status Change(const std::string& name,
                              const ImageChanges& changes) = 0;

  // For people who ask: core/image_map.h. May wait for the cache device.
  virtual absl::StatusOr<PlaceInImage> Explain(const std::string& name,
                                               ImageOffset offset) = 0;
  virtual absl::StatusOr<ImageMap> DrawMap(const std::string& name,
                                           size_t cell_count) = 0;

  // OK if a stop can begin: with `force` always, else only if no image is open;
  // FailedPrecondition names those that are. BeginStop begins it.
  virtual absl::Status MayStop(bool force) = 0;
  virtual void BeginStop() = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_CONTROL_TARGET_H_
