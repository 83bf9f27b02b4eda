// The language of MOUNT/.pcache/control: one JSON object in, one out.
//
//   {"verb":"status"}                        -> {"ok":true,"status":{...}}
//   {"verb":"list"}                          -> {"ok":true,"images":[...]}
//   {"verb":"flush","name":"vm1"}            -> {"ok":true,"operation":7}
//   {"verb":"drain"}                         -> {"ok":true,"operation":8}
//   {"verb":"operation","operation":8}       -> {"ok":true,"operation":8,
//        "verb":"drain","name":"","done":false,"dirty_bytes":...,
//        "start_dirty_bytes":...,"seconds":...}
//   {"verb":"get","name":"vm1","key":"gc_percent"}
//                              -> {"ok":true,"name":..,"values":{..}}
//   {"verb":"set","name":"vm1","key":"gc_percent","value":50}
//        cache_mode: an operation, since a switch may take as long as a drain
//   {"verb":"explain","name":"vm1","offset":4096}
//        -> {"ok":true,"kind":"cached","dirty":true,"segment":..,...}
//   {"verb":"map","name":"vm1","cells":1024}
//        -> {"ok":true,"size":..,"cell_size":..,"cells":[{"cached":..},..]}
//   {"verb":"attach","name":"vm2","spec":"/dev/vg0/vm2","mode":"writeback",
//        "order":"strict","image_cache_size":"10G"}
//                              -> {"ok":true,"operation":9}
//   {"verb":"detach","name":"vm2","how":"drain"}   or "keep_dirty", "discard";
//                              -> {"ok":true,"operation":10}
//   {"verb":"grow"}             -> {"ok":true,"segments":80,"added":16}
//   {"verb":"stop","force":false}            -> {"ok":true,"pid":123}
//   {"verb":"upgrade","binary":"/usr/bin/pcachefs"} -> {"ok":true,"upgrade":3}
//   {"verb":"upgrade_state","upgrade":3} -> {"ok":true,"done":true,"pid":124}
//        or why it failed; the daemon that answers may be the next one
//
// Whatever goes wrong:
// {"ok":false,"error":{"code":"NOT_FOUND","message":".."}}. What may take long
// is begun, and its end is asked for with "operation", so that no answer is
// ever waited for in the kernel. A stop or an upgrade begins when the file it was
// written to is closed: the answer would go with the daemon.
//
// Thread-safe.

#ifndef PCACHEFS_FUSE_CONTROL_PROTOCOL_H_
#define PCACHEFS_FUSE_CONTROL_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "fuse/control_target.h"
#include "fuse/status_json.h"

namespace pcachefs {

struct ControlAnswer {
  std::string text;  // a line of JSON with its end
  bool begins_stop = false;
  uint64_t begins_upgrade = 0;  // its number
};

class ControlProtocol {
 public:
  static constexpr size_t kMaxRequestSize = 64 * 1024;
  // Ended operations are remembered until so many newer ones have begun.
  static constexpr size_t kMaxOperations = 256;

  // `target` outlives the protocol.
  explicit ControlProtocol(ControlTarget& target) : target_(target) {}

  // May wait for the cache device (set, explain), not for backing devices.
  // `is_resent`: an earlier daemon may have carried it out, in part or whole.
  // What can be repeated is; attach, detach and upgrade are Aborted.
  ControlAnswer Handle(absl::string_view request, bool is_resent = false);

  // Operations of earlier daemons have lower numbers: who asks for one is told
  // that it was interrupted (Aborted).
  void StartNumbersAt(uint64_t first);

 private:
  struct Operation;
  using Verb = absl::StatusOr<Json> (ControlProtocol::*)(const Json& request);
  static const std::map<std::string, Verb>& Verbs();

  absl::StatusOr<Json> Dispatch(const Json& request);
  absl::StatusOr<Json> Status(const Json& request);
  absl::StatusOr<Json> List(const Json& request);
  absl::StatusOr<Json> Flush(const Json& request);
  absl::StatusOr<Json> Drain(const Json& request);
  absl::StatusOr<Json> Poll(const Json& request);
  absl::StatusOr<Json> Get(const Json& request);
  absl::StatusOr<Json> Set(const Json& request);
  absl::StatusOr<Json> Explain(const Json& request);
  absl::StatusOr<Json> DrawMap(const Json& request);
  absl::StatusOr<Json> Attach(const Json& request);
  absl::StatusOr<Json> Detach(const Json& request);
  absl::StatusOr<Json> Grow(const Json& request);
  absl::StatusOr<Json> BeginModeSwitch(const Json& request,
                                       const std::string& value);
  absl::StatusOr<Json> Stop(const Json& request);
  absl::StatusOr<Json> Upgrade(const Json& request);
  absl::StatusOr<Json> UpgradeState(const Json& request);

  // NotFound if `name` is neither empty nor that of an image.
  absl::StatusOr<uint64_t> DirtyBytes(const std::string& name);
  absl::StatusOr<ImageStatus> FindImage(const std::string& name);
  // The error that says which there are.
  absl::Status NoImage(const std::string& name);
  // Of an image in service, or all.
  absl::StatusOr<std::shared_ptr<Operation>> BeginOperation(
      const std::string& verb, const Json& request);
  std::shared_ptr<Operation> Register(const std::string& verb,
                                      const std::string& name,
                                      uint64_t dirty_bytes);

  ControlTarget& target_;
  absl::Mutex mutex_;
  uint64_t first_operation_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t last_operation_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::shared_ptr<Operation>> operations_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_CONTROL_PROTOCOL_H_
