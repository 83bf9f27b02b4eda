#include "fuse/image_directory.h"

#include <glog/logging.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "core/cached_image.h"
#include "fuse/inode.h"
#include "meta/types.h"

namespace pcachefs {
namespace {

constexpr char kControlName[] = ".pcache";
constexpr char kCacheName[] = "cache_dev";

DirectoryEntry MakeEntry(std::string name, const Node& node) {
  return {std::move(name), InodeOf(node), IsDirectory(node.kind)};
}

std::string ImageDirectoryName(ImageId id) {
  return absl::StrCat("backing_dev", id.value());
}

std::vector<DirectoryEntry> ListAttributes(
    const std::vector<std::string>& names, Node node) {
  std::vector<DirectoryEntry> entries;
  for (size_t i = 0; i < names.size(); ++i) {
    node.attribute = static_cast<int>(i);
    entries.push_back(MakeEntry(names[i], node));
  }
  return entries;
}

}  // namespace

bool MountedImage::AddOpen() {
  ++open_count_;
  if (!is_leaving_) return true;
  --open_count_;
  return false;
}

absl::Status MountedImage::BeginLeaving() {
  if (is_leaving_.exchange(true)) {
    return absl::FailedPreconditionError(
        absl::StrCat("image ", name_, ": is being detached already"));
  }
  const int open_count = open_count_;
  if (open_count == 0) return absl::OkStatus();
  is_leaving_ = false;
  return absl::FailedPreconditionError(absl::StrCat(
      "image ", name_, ": is open ", open_count,
      open_count == 1 ? " time" : " times",
      " (a loop device counts as one); unmount or close what uses it first"));
}

void MountedImage::Retire() {
  is_retired_ = true;
  uses_.WaitUntilNone(absl::InfiniteDuration());
}

void MountedImage::Stay() {
  is_retired_ = false;
  is_leaving_ = false;
}

ImageUse::ImageUse(MountedImage* mounted) : mounted_(mounted) {
  if (mounted_ == nullptr) return;
  mounted_->uses_.Begin();
  if (!mounted_->is_retired_) return;
  mounted_->uses_.End();
  mounted_ = nullptr;
}

ImageUse::~ImageUse() {
  if (mounted_ != nullptr) mounted_->uses_.End();
}

ImageDirectory::ImageDirectory(std::vector<std::string> cache_attributes,
                               std::vector<std::string> image_attributes)
    : cache_attributes_(std::move(cache_attributes)),
      image_attributes_(std::move(image_attributes)) {
  CHECK_LE(cache_attributes_.size(), size_t{kMaxAttributes});
  CHECK_LE(image_attributes_.size(), size_t{kMaxAttributes});
}

absl::Status ImageDirectory::Add(const std::string& name, ImageId id,
                                 CachedImage* image,
                                 const Ownership& ownership, int open_count) {
  if (id.value() >= kMaxImages) {
    return absl::ResourceExhaustedError(
        absl::StrCat("image ", name, ": got id ", id.value(),
                     ", a mount shows ids below ", kMaxImages));
  }
  absl::MutexLock lock(&mutex_);
  for (const auto& slot : slots_) {
    const MountedImage* other = slot.load(std::memory_order_relaxed);
    if (other != nullptr && (other->name() == name || other->id() == id)) {
      return absl::AlreadyExistsError(
          absl::StrCat("image ", name, ": is already mounted"));
    }
  }
  all_.push_back(std::make_unique<MountedImage>(name, id, image, ownership,
                                                open_count));
  slots_[id.value()].store(all_.back().get(), std::memory_order_release);
  return absl::OkStatus();
}

absl::Status ImageDirectory::Remove(absl::string_view name) {
  MountedImage* image = FindImage(name);
  if (image == nullptr) {
    return absl::NotFoundError(absl::StrCat("no image ", name));
  }
  CHECK_EQ(image->open_count(), 0) << "open, and yet it is removed";
  slots_[image->id().value()].store(nullptr, std::memory_order_release);
  return absl::OkStatus();
}

MountedImage* ImageDirectory::FindImage(absl::string_view name) const {
  for (const auto& slot : slots_) {
    MountedImage* image = slot.load(std::memory_order_acquire);
    if (image != nullptr && image->name() == name) return image;
  }
  return nullptr;
}

std::vector<MountedImage*> ImageDirectory::images() const {
  std::vector<MountedImage*> images;
  for (const auto& slot : slots_) {
    MountedImage* image = slot.load(std::memory_order_acquire);
    if (image != nullptr) images.push_back(image);
  }
  std::sort(images.begin(), images.end(),
            [](const MountedImage* a, const MountedImage* b) {
              return a->name() < b->name();
            });
  return images;
}

Node ImageDirectory::Find(Inode inode) const {
  const Node node = NodeOf(inode);
  const auto in = [&node](const std::vector<std::string>& names) {
    return static_cast<size_t>(node.attribute) < names.size();
  };
  switch (node.kind) {
    case NodeKind::kImage:
    case NodeKind::kImageDirectory:
      return FindImage(node.image) != nullptr ? node : Node{};
    case NodeKind::kImageAttribute:
      return FindImage(node.image) != nullptr && in(image_attributes_) ? node
                                                                       : Node{};
    case NodeKind::kCacheAttribute:
      return in(cache_attributes_) ? node : Node{};
    default:
      return node;
  }
}

Node ImageDirectory::Lookup(Inode parent, absl::string_view name) const {
  for (const DirectoryEntry& entry : List(parent)) {
    if (entry.name == name) return NodeOf(entry.inode);
  }
  return {};
}

std::vector<DirectoryEntry> ImageDirectory::List(Inode directory) const {
  const Node node = Find(directory);
  switch (node.kind) {
    case NodeKind::kRoot:
      return ListRoot();
    case NodeKind::kControlDirectory:
      return ListControlDirectory();
    case NodeKind::kCacheDirectory:
      return ListAttributes(cache_attributes_,
                            {.kind = NodeKind::kCacheAttribute});
    case NodeKind::kImageDirectory:
      return ListAttributes(
          image_attributes_,
          {.kind = NodeKind::kImageAttribute, .image = node.image});
    default:
      return {};
  }
}

int ImageDirectory::CountDirectories(Inode directory) const {
  const std::vector<DirectoryEntry> entries = List(directory);
  return static_cast<int>(std::count_if(
      entries.begin(), entries.end(),
      [](const DirectoryEntry& entry) { return entry.is_directory; }));
}

std::vector<DirectoryEntry> ImageDirectory::ListRoot() const {
  std::vector<DirectoryEntry> entries = {
      MakeEntry(kControlName, {.kind = NodeKind::kControlDirectory})};
  for (const MountedImage* image : images()) {
    entries.push_back(MakeEntry(
        image->name(), {.kind = NodeKind::kImage, .image = image->id()}));
  }
  return entries;
}

std::vector<DirectoryEntry> ImageDirectory::ListControlDirectory() const {
  std::vector<DirectoryEntry> entries = {
      MakeEntry("status.json", {.kind = NodeKind::kStatusFile}),
      MakeEntry("metrics", {.kind = NodeKind::kMetricsFile}),
      MakeEntry("control", {.kind = NodeKind::kControlFile}),
      MakeEntry(kCacheName, {.kind = NodeKind::kCacheDirectory}),
  };
  for (const MountedImage* image : images()) {
    entries.push_back(
        MakeEntry(ImageDirectoryName(image->id()),
                  {.kind = NodeKind::kImageDirectory, .image = image->id()}));
  }
  return entries;
}

}  // namespace pcachefs
