// Inode numbers of the mount. They follow from what a node is, so that a
// restarted daemon gives every node the number it had, and a number tells what
// it is without a table:
//
//   1                the mountpoint
//   2                .pcache
//   3..5             .pcache/{status.json,metrics,control}
//   6                .pcache/cache_dev
//   16 + a           .pcache/cache_dev/<attribute a>
//   2^16 (id+1)      NAME, the image in slot `id`
//      ... + 1       .pcache/backing_dev<id>
//      ... + 16 + a  .pcache/backing_dev<id>/<attribute a>

#ifndef PCACHEFS_FUSE_INODE_H_
#define PCACHEFS_FUSE_INODE_H_

#include <cstdint>

#include "meta/types.h"

namespace pcachefs {

using Inode = uint64_t;

enum class NodeKind {
  kNone,
  kRoot,
  kControlDirectory,  // .pcache
  kStatusFile,
  kMetricsFile,
  kControlFile,
  kCacheDirectory,  // .pcache/cache_dev
  kCacheAttribute,  // a file in it
  kImage,           // NAME
  kImageDirectory,  // .pcache/backing_dev<id>
  kImageAttribute,  // a file in it
};

// What an inode number stands for; of no image in particular it is not said
// whether it exists.
struct Node {
  NodeKind kind = NodeKind::kNone;
  ImageId image;      // of the last three kinds
  int attribute = 0;  // of the attribute kinds

  friend bool operator==(const Node&, const Node&) = default;
};

inline constexpr Inode kRootInode = 1;
inline constexpr int kMaxAttributes = 64;

Inode InodeOf(const Node& node);
Node NodeOf(Inode inode);

constexpr bool IsDirectory(NodeKind kind) {
  return kind == NodeKind::kRoot || kind == NodeKind::kControlDirectory ||
         kind == NodeKind::kCacheDirectory || kind == NodeKind::kImageDirectory;
}

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_INODE_H_
