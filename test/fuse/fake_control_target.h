// A daemon for tests of the control tree: two images, one of them dirty.

#ifndef PCACHEFS_TEST_FUSE_FAKE_CONTROL_TARGET_H_
#define PCACHEFS_TEST_FUSE_FAKE_CONTROL_TARGET_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/image_map.h"
#include "core/options.h"
#include "core/status.h"
#include "fuse/control_target.h"
#include "fuse/server_facts.h"
#include "meta/records.h"
#include "meta/types.h"

namespace pcachefs {

class FakeControlTarget : public ControlTarget {
 public:
  FakeControlTarget() {
    status.path = "/var/cache/fast";
    status.segment_size = 16 << 20;
    status.segments = 640;
    status.segments_used = 12;
    status.images.resize(2);
    status.images[0].name = "vm1";
    status.images[0].backing = "/dev/vg0/vm1";
    status.images[0].size = 1 << 30;
    status.images[0].gc_percent = 70;
    status.images[0].dirty_bytes = 8192;
    status.images[0].oldest_dirty = absl::Milliseconds(1500);
    status.images[0].counters.reads = 11;
    status.images[1].name = "vm2";
    status.images[1].id = ImageId(1);
    status.images[1].state = HealthState::kDegraded;
    facts.version = "1.2.3";
    facts.transport = "dev_fuse";
    facts.pid = 4711;
  }

  absl::StatusOr<uint64_t> PrepareUpgrade(const std::string& binary) override {
    calls.push_back("upgrade " + binary);
    return 3;
  }
  void BeginUpgrade(uint64_t /*number*/) override { calls.push_back("begin"); }
  absl::StatusOr<bool> IsUpgradeDone(uint64_t number) override {
    if (number != 3) return absl::NotFoundError("no such upgrade");
    return true;
  }
  CacheStatus GetStatus() override { return status; }
  ServerFacts GetFacts() override { return facts; }
  void Flush(const std::string& name, Done done) override {
    calls.push_back("flush " + name);
    done(absl::OkStatus());
  }
  void Drain(const std::string& name, Done done) override {
    calls.push_back("drain " + name);
    draining.push_back(std::move(done));
  }
  void SetMode(const std::string& name, CacheMode mode, Done done) override {
    calls.push_back(std::string("mode ") + name + " " + Name(mode));
    if (mode == CacheMode::kPassthrough) {
      return done(absl::FailedPreconditionError("opened read-only"));
    }
    draining.push_back(std::move(done));
  }
  absl::Status Change(const std::string& name,
                      const ImageChanges& changes) override {
    calls.push_back("change " + name);
    ImageStatus& image = status.images[name == "vm2"];
    image.gc_percent = changes.gc_percent.value_or(image.gc_percent);
    return absl::OkStatus();
  }
  absl::StatusOr<PlaceInImage> Explain(const std::string& name,
                                       ImageOffset offset) override {
    calls.push_back("explain " + name);
    PlaceInImage place;
    place.range = {offset, 4096};
    return place;
  }
  absl::StatusOr<ImageMap> DrawMap(const std::string& name,
                                   size_t cell_count) override {
    calls.push_back("map " + name);
    return ImageMap{4096, std::vector<MapCell>(cell_count)};
  }
  void Attach(const AttachRequest& request, Done done) override {
    calls.push_back("attach " + request.name + " " + request.spec);
    attached = request;
    done(absl::OkStatus());
  }
  void Detach(const std::string& name, DetachKind kind, bool drain,
              Done done) override {
    calls.push_back(
        "detach " + name +
        (kind == DetachKind::kRemove    ? ""
         : kind == DetachKind::kDiscard ? " discarding"
                                        : " keeping") +
        (drain ? " draining" : ""));
    done(name == "vm2" ? absl::FailedPreconditionError("is open 1 time")
                       : absl::OkStatus());
  }
  absl::Status SetShare(const std::string& name, uint64_t bytes) override {
    calls.push_back("share " + name);
    status.images[name == "vm2"].cache_segs = bytes / status.segment_size;
    return absl::OkStatus();
  }
  absl::StatusOr<uint32_t> Grow() override {
    status.segments += 16;
    return 16;
  }
  absl::Status MayStop(bool force) override {
    return force ? absl::OkStatus()
                 : absl::FailedPreconditionError("in use: vm1");
  }
  void BeginStop() override { calls.push_back("stop"); }

  CacheStatus status;
  ServerFacts facts;
  std::vector<std::string> calls;
  std::vector<Done> draining;  // not yet ended
  AttachRequest attached;      // the last one
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FUSE_FAKE_CONTROL_TARGET_H_
