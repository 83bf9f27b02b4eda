#include "tools/undo_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/repair.h"
#include "meta/crc32c.h"
#include "meta/endian.h"
#include "meta/types.h"

namespace pcachefs {
namespace {

constexpr size_t kNumber = sizeof(uint64_t);
constexpr size_t kCrc = sizeof(uint32_t);

std::string Title(const Uuid& cache) {
  return absl::StrCat("pcachefs undo log 1, cache ", cache.ToString(), "\n");
}

std::span<const std::byte> Bytes(absl::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

template <typename T>
void Append(std::string& text, T number) {
  std::byte bytes[sizeof(T)];
  StoreLittle<T>(bytes, 0, number);
  text.append(reinterpret_cast<const char*>(bytes), sizeof(T));
}

absl::Status FileError(const std::string& path, absl::string_view what) {
  const int error = errno;
  return absl::ErrnoToStatus(
      error, absl::StrCat(path, ": cannot ", what, ": ", strerror(error)));
}

absl::Status Damaged(absl::string_view path, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(path, ": undo log: ", what));
}

}  // namespace

std::string UndoLogText(const Uuid& cache,
                        const std::vector<RepairStep::Store>& stores) {
  std::string text = Title(cache);
  for (const RepairStep::Store& store : stores) {
    Append<uint64_t>(text, store.offset.value());
    Append<uint64_t>(text, store.bytes.size());
    text.append(reinterpret_cast<const char*>(store.bytes.data()),
                store.bytes.size());
  }
  Append<uint32_t>(text, Crc32c(Bytes(text)));
  return text;
}

absl::Status WriteUndoLog(const std::string& path, const Uuid& cache,
                          const std::vector<RepairStep::Store>& stores) {
  const std::string text = UndoLogText(cache, stores);
  const int file = open(path.c_str(),
                        O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                        0600);
  if (file < 0) return FileError(path, "make the undo log");
  const absl::Cleanup close_file = [file] { close(file); };
  for (size_t at = 0; at < text.size();) {
    const ssize_t count = write(file, text.data() + at, text.size() - at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(path, "write the undo log");
    at += count;
  }
  if (fsync(file) != 0) return FileError(path, "make the undo log durable");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RepairStep::Store>> ReadUndoLog(
    const std::string& path, const Uuid& cache) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return FileError(path, "read the undo log");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  return ParseUndoLog(path, text, cache);
}

absl::StatusOr<std::vector<RepairStep::Store>> ParseUndoLog(
    absl::string_view path, absl::string_view text, const Uuid& cache) {
  const std::string title = Title(cache);
  if (text.size() < title.size() + kCrc) return Damaged(path, "too short");
  const std::span<const std::byte> all = Bytes(text);
  const size_t end = text.size() - kCrc;
  if (Crc32c(all.first(end)) != LoadLittle<uint32_t>(all, end)) {
    return Damaged(path, "wrong checksum");
  }
  if (!absl::StartsWith(text, title)) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": not the undo log of this cache: got '",
        text.substr(0, text.find('\n')), "', want cache ", cache.ToString()));
  }
  std::vector<RepairStep::Store> stores;
  size_t at = title.size();
  while (at < end) {
    if (end - at < 2 * kNumber) return Damaged(path, "cut within a store");
    const auto offset = LoadLittle<uint64_t>(all, at);
    const auto length = LoadLittle<uint64_t>(all, at + kNumber);
    at += 2 * kNumber;
    if (length > end - at) return Damaged(path, "cut within a store");
    const std::span<const std::byte> bytes = all.subspan(at, length);
    stores.push_back({MediaOffset(offset), {bytes.begin(), bytes.end()}});
    at += length;
  }
  return stores;
}

}  // namespace pcachefs
