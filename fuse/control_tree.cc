#include "fuse/control_tree.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "core/status.h"
#include "fuse/control_attributes.h"
#include "fuse/control_protocol.h"
#include "fuse/fuse_reply.h"
#include "fuse/inode.h"
#include "fuse/metrics_text.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"

namespace pcachefs {

bool ControlTree::IsWritable(const Node& node) {
  return node.kind == NodeKind::kControlFile ||
         (node.kind == NodeKind::kImageAttribute &&
          IsWritableImageAttribute(node.attribute));
}

void ControlTree::SucceedDaemons(uint64_t count) {
  constexpr uint64_t kPerDaemon = 1'000'000;
  protocol_.StartNumbersAt(count * kPerDaemon + 1);
  absl::MutexLock lock(&mutex_);
  last_handle_ = count << 32;
}

absl::StatusOr<uint64_t> ControlTree::Open(const Node& node) {
  ASSIGN_OR_RETURN(std::shared_ptr<OpenFile> file, MakeFile(node));
  absl::MutexLock lock(&mutex_);
  files_[++last_handle_] = std::move(file);
  return last_handle_;
}

absl::StatusOr<std::shared_ptr<ControlTree::OpenFile>> ControlTree::MakeFile(
    const Node& node) {
  auto file = std::make_shared<OpenFile>();
  file->node = node;
  ASSIGN_OR_RETURN(std::string contents, Contents(node));
  absl::MutexLock lock(&file->mutex);
  file->text = std::move(contents);
  return file;
}

absl::StatusOr<std::shared_ptr<ControlTree::OpenFile>>
ControlTree::FindOrReopen(const Node& node, uint64_t handle) {
  std::shared_ptr<OpenFile> file = Find(handle);
  if (file != nullptr) return file;
  ASSIGN_OR_RETURN(file, MakeFile(node));
  absl::MutexLock lock(&mutex_);
  // Another request may have been faster.
  return files_.emplace(handle, std::move(file)).first->second;
}

void ControlTree::Release(uint64_t handle) {
  std::shared_ptr<OpenFile> file;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = files_.find(handle);
    if (found == files_.end()) return;
    file = std::move(found->second);
    files_.erase(found);
  }
  bool begins_stop = false;
  uint64_t begins_upgrade = 0;
  {
    absl::MutexLock lock(&file->mutex);
    begins_stop = file->begins_stop;
    begins_upgrade = file->begins_upgrade;
  }
  if (begins_upgrade != 0) target_.BeginUpgrade(begins_upgrade);
  if (begins_stop) target_.BeginStop();
}

void ControlTree::Read(const Node& node, uint64_t handle, uint64_t offset,
                       size_t length, FuseReply reply) {
  if (node.kind == NodeKind::kControlFile && Find(handle) == nullptr) {
    return reply.Error(ESTALE);
  }
  const absl::StatusOr<std::shared_ptr<OpenFile>> found =
      FindOrReopen(node, handle);
  if (!found.ok()) return reply.Send(found.status());
  const std::shared_ptr<OpenFile>& file = *found;
  std::string piece;
  {
    absl::MutexLock lock(&file->mutex);
    const bool is_stream = file->node.kind == NodeKind::kControlFile;
    const size_t begin = std::min<uint64_t>(is_stream ? file->position : offset,
                                            file->text.size());
    piece = file->text.substr(begin, length);
    if (is_stream) file->position += piece.size();
  }
  reply.Data(std::as_bytes(std::span<const char>(piece)));
}

void ControlTree::Write(const Node& node, uint64_t handle,
                        absl::string_view bytes, bool is_resent,
                        FuseReply reply) {
  absl::StatusOr<std::shared_ptr<OpenFile>> file = FindOrReopen(node, handle);
  if (!file.ok()) return reply.Send(file.status());
  if (bytes.size() > ControlProtocol::kMaxRequestSize) {
    return reply.Error(EFBIG);
  }
  worker_.Post([this, file = *std::move(file), request = std::string(bytes),
                is_resent, reply = std::move(reply)]() mutable {
    const absl::Status status = Store(*file, request, is_resent);
    // A setting of the wrong kind is not a read-only file system.
    if (absl::IsFailedPrecondition(status)) return reply.Error(EBUSY);
    if (!status.ok()) return reply.Send(status);
    reply.Written(request.size());
  });
}

absl::StatusOr<std::string> ControlTree::Contents(const Node& node) {
  switch (node.kind) {
    case NodeKind::kStatusFile:
      return ToText(ToJson(target_.GetStatus(), target_.GetFacts())) + "\n";
    case NodeKind::kMetricsFile:
      return MetricsText(target_.GetStatus(), target_.GetFacts());
    case NodeKind::kCacheAttribute:
      return CacheAttributeText(node.attribute, target_.GetStatus());
    case NodeKind::kImageAttribute: {
      ASSIGN_OR_RETURN(const ImageStatus image, FindImage(node.image));
      return ImageAttributeText(node.attribute, image);
    }
    default:
      return std::string();
  }
}

std::shared_ptr<ControlTree::OpenFile> ControlTree::Find(uint64_t handle) {
  absl::MutexLock lock(&mutex_);
  const auto found = files_.find(handle);
  return found == files_.end() ? nullptr : found->second;
}

absl::Status ControlTree::Store(OpenFile& file, absl::string_view bytes,
                                bool is_resent) {
  if (file.node.kind == NodeKind::kImageAttribute) {
    ASSIGN_OR_RETURN(const ImageStatus image, FindImage(file.node.image));
    return StoreImageAttribute(file.node.attribute, target_, image, bytes);
  }
  if (file.node.kind != NodeKind::kControlFile) {
    return absl::PermissionDeniedError("the file is read-only");
  }
  ControlAnswer answer = protocol_.Handle(bytes, is_resent);
  absl::MutexLock lock(&file.mutex);
  file.text = std::move(answer.text);
  file.position = 0;
  file.begins_stop |= answer.begins_stop;
  file.begins_upgrade = std::max(file.begins_upgrade, answer.begins_upgrade);
  return absl::OkStatus();
}

absl::StatusOr<ImageStatus> ControlTree::FindImage(ImageId id) {
  for (ImageStatus& image : target_.GetStatus().images) {
    if (image.id == id) return std::move(image);
  }
  return absl::NotFoundError(absl::StrCat("no image with id ", id.value()));
}

}  // namespace pcachefs
