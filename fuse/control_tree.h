// The files of MOUNT/.pcache while they are open. What a file shows is fixed
// when it is opened.
//
// Handles are numbers, not addresses: a daemon that takes an old one's mount
// over must be able to tell that it does not know one. Thread-safe.

#ifndef PCACHEFS_FUSE_CONTROL_TREE_H_
#define PCACHEFS_FUSE_CONTROL_TREE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "fuse/control_protocol.h"
#include "fuse/control_target.h"
#include "fuse/fuse_reply.h"
#include "fuse/inode.h"
#include "fuse/work_thread.h"

namespace pcachefs {

class ControlTree {
 public:
  // `target` outlives the tree.
  explicit ControlTree(ControlTarget& target)
      : target_(target), protocol_(target) {}

  static bool IsWritable(const Node& node);

  // Requires: `node` is a file of the tree. NotFound if its image is gone.
  absl::StatusOr<uint64_t> Open(const Node& node);
  // Begins the stop or upgrade, if one was asked for through this file.
  void Release(uint64_t handle);

  // Of a file that an earlier daemon opened only the number is known: `node`
  // says what it is, and it is opened again. The answer in an open `control`
  // went with the daemon: ESTALE.
  void Read(const Node& node, uint64_t handle, uint64_t offset, size_t length,
            FuseReply reply);
  // Carried out on a thread of the tree's, since it may block; the answer tells
  // how it ended. Of `control` the answer is there to read when the write is
  // answered.
  // `is_resent`: see ControlProtocol::Handle.
  void Write(const Node& node, uint64_t handle, absl::string_view bytes,
             bool is_resent, FuseReply reply);

  // Numbers of earlier daemons' handles and operations are lower.
  void SucceedDaemons(uint64_t count);

 private:
  struct OpenFile {
    Node node;
    absl::Mutex mutex;
    std::string text ABSL_GUARDED_BY(mutex);
    // `control` is a stream of answers, read without regard to offsets, since
    // the file position has moved with the request that was written.
    size_t position ABSL_GUARDED_BY(mutex) = 0;
    bool begins_stop ABSL_GUARDED_BY(mutex) = false;
    uint64_t begins_upgrade ABSL_GUARDED_BY(mutex) = 0;
  };

  absl::StatusOr<std::string> Contents(const Node& node);
  std::shared_ptr<OpenFile> Find(uint64_t handle);
  absl::StatusOr<std::shared_ptr<OpenFile>> FindOrReopen(const Node& node,
                                                         uint64_t handle);
  absl::StatusOr<std::shared_ptr<OpenFile>> MakeFile(const Node& node);
  absl::Status Store(OpenFile& file, absl::string_view bytes, bool is_resent);
  absl::StatusOr<ImageStatus> FindImage(ImageId id);

  ControlTarget& target_;
  ControlProtocol protocol_;
  absl::Mutex mutex_;
  uint64_t last_handle_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<uint64_t, std::shared_ptr<OpenFile>> files_
      ABSL_GUARDED_BY(mutex_);
  WorkThread worker_;  // last: its work uses all of the above
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_CONTROL_TREE_H_
