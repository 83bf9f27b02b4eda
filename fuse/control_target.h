// What the control tree acts on: the daemon, behind an interface so that the
// control protocol is tested without one.

#ifndef PCACHEFS_FUSE_CONTROL_TARGET_H_
#define PCACHEFS_FUSE_CONTROL_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/image_settings.h"
#include "core/image_map.h"
#include "core/options.h"
#include "core/status.h"
#include "fuse/server_facts.h"
#include "meta/records.h"
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

  // Begins a change of the mode, which may take as long as a drain.
  virtual void SetMode(const std::string& name, CacheMode mode, Done done) = 0;

  // May wait for the cache device.
  virtual absl::Status Change(const std::string& name,
                              const ImageChanges& changes) = 0;

  // For people who ask: core/image_map.h. May wait for the cache device.
  virtual absl::StatusOr<PlaceInImage> Explain(const std::string& name,
                                               ImageOffset offset) = 0;
  virtual absl::StatusOr<ImageMap> DrawMap(const std::string& name,
                                           size_t cell_count) = 0;

  // A spec that is empty is the one recorded. What is not given is as the
  // daemon's flags say for new images; known ones keep what they have, and
  // refuse to be given another.
  struct AttachRequest {
    std::string name;
    std::string spec;
    std::optional<CacheMode> mode;
    std::optional<WritebackOrder> order;
    uint64_t image_cache_size = 0;  // bytes; 0: what is free
    bool read_only_backing = false;  // of a new image
  };
  virtual void Attach(const AttachRequest& request, Done done) = 0;
  // Refused while the image is open. `drain`: writes dirty data back first.
  virtual void Detach(const std::string& name, DetachKind kind, bool drain,
                      Done done) = 0;

  // How much of the cache an image may use. May wait for the cache device.
  virtual absl::Status SetShare(const std::string& name, uint64_t bytes) = 0;
  // Takes what the cache device has become larger into use; how many segments.
  virtual absl::StatusOr<uint32_t> Grow() = 0;

  // OK if a stop can begin: with `force` always, else only if no image is open;
  // FailedPrecondition names those that are. BeginStop begins it.
  virtual absl::Status MayStop(bool force) = 0;
  virtual void BeginStop() = 0;

  // Hands the mount over to another program file, once BeginUpgrade is called;
  // the number that the state of it is asked with, of this daemon or the next
  // one. FailedPrecondition without failover.
  virtual absl::StatusOr<uint64_t> PrepareUpgrade(
      const std::string& binary) = 0;
  virtual void BeginUpgrade(uint64_t number) = 0;
  // False: under way. Otherwise why it failed.
  virtual absl::StatusOr<bool> IsUpgradeDone(uint64_t number) = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_CONTROL_TARGET_H_
