#include "fuse/inode.h"

#include <cstdint>
#include <limits>

#include "meta/types.h"

namespace pcachefs {
namespace {

constexpr Inode kFirstAttribute = 16;
constexpr int kImageShift = 16;
constexpr Inode kWithinImage = (Inode{1} << kImageShift) - 1;

bool IsAttribute(Inode part) {
  return part >= kFirstAttribute && part < kFirstAttribute + kMaxAttributes;
}

Node FixedNodeOf(Inode inode) {
  switch (inode) {
    case 1:
      return {.kind = NodeKind::kRoot};
    case 2:
      return {.kind = NodeKind::kControlDirectory};
    case 3:
      return {.kind = NodeKind::kStatusFile};
    case 4:
      return {.kind = NodeKind::kMetricsFile};
    case 5:
      return {.kind = NodeKind::kControlFile};
    case 6:
      return {.kind = NodeKind::kCacheDirectory};
    default:
      break;
  }
  if (!IsAttribute(inode)) return {};
  return {.kind = NodeKind::kCacheAttribute,
          .attribute = static_cast<int>(inode - kFirstAttribute)};
}

}  // namespace

Inode InodeOf(const Node& node) {
  const Inode image = (Inode{node.image.value()} + 1) << kImageShift;
  switch (node.kind) {
    case NodeKind::kNone:
      return 0;
    case NodeKind::kRoot:
      return kRootInode;
    case NodeKind::kControlDirectory:
      return 2;
    case NodeKind::kStatusFile:
      return 3;
    case NodeKind::kMetricsFile:
      return 4;
    case NodeKind::kControlFile:
      return 5;
    case NodeKind::kCacheDirectory:
      return 6;
    case NodeKind::kCacheAttribute:
      return kFirstAttribute + node.attribute;
    case NodeKind::kImage:
      return image;
    case NodeKind::kImageDirectory:
      return image + 1;
    case NodeKind::kImageAttribute:
      return image + kFirstAttribute + node.attribute;
  }
  return 0;
}

Node NodeOf(Inode inode) {
  const Inode slot = inode >> kImageShift;
  if (slot == 0) return FixedNodeOf(inode);
  if (slot - 1 > std::numeric_limits<uint32_t>::max()) return {};

  const ImageId image(static_cast<uint32_t>(slot - 1));
  const Inode part = inode & kWithinImage;
  if (part == 0) return {.kind = NodeKind::kImage, .image = image};
  if (part == 1) return {.kind = NodeKind::kImageDirectory, .image = image};
  if (!IsAttribute(part)) return {};
  return {.kind = NodeKind::kImageAttribute,
          .image = image,
          .attribute = static_cast<int>(part - kFirstAttribute)};
}

}  // namespace pcachefs
