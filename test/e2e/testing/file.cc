#include "test/e2e/testing/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr uint64_t kPiece = kMiB;

// splitmix64
uint64_t Mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

uint64_t Word(uint64_t version, uint64_t offset) {
  return Mix(Mix(version) + offset / 8);
}

char PatternByte(uint64_t version, uint64_t offset) {
  return static_cast<char>(Word(version, offset) >> (offset % 8 * 8));
}

// Calls `check(offset, bytes)` for each piece of the range.
template <typename Check>
absl::Status ForEachPiece(const std::string& path, uint64_t offset,
                          uint64_t length, Check check) {
  File file(path, O_RDONLY);
  Buffer buffer(kPiece);
  const uint64_t end = offset + length;
  while (offset < end) {
    const uint64_t wanted = std::min(kPiece, end - offset);
    const ssize_t got = file.Read(offset, buffer.span().first(wanted));
    if (got != static_cast<ssize_t>(wanted)) {
      return absl::DataLossError(absl::StrCat(
          path, ": read at ", offset, ": got ", got, ", want ", wanted));
    }
    if (!check(offset, absl::MakeConstSpan(buffer.data(), wanted))) {
      return absl::DataLossError(
          absl::StrCat(path, ": other bytes than expected in [", offset, ", +",
                       wanted, ")"));
    }
    offset += wanted;
  }
  return absl::OkStatus();
}

uint64_t SizeOf(const std::string& path) {
  struct stat attributes;
  return stat(path.c_str(), &attributes) == 0 ? attributes.st_size : 0;
}

}  // namespace

Buffer::Buffer(size_t size)
    : size_(size),
      data_(static_cast<char*>(
          aligned_alloc(kBlockSize, RoundUp(size, kBlockSize)))) {
  memset(data(), 0, size);
}

void Buffer::Free::operator()(char* data) const { free(data); }

File::File(const std::string& path, int flags, int* error)
    : fd_(open(path.c_str(), flags | O_CLOEXEC, 0600)) {
  if (error != nullptr) {
    *error = fd_ < 0 ? errno : 0;
  } else if (fd_ < 0) {
    perror(path.c_str());
    abort();
  }
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

ssize_t File::Read(uint64_t offset, absl::Span<char> out) {
  const ssize_t length = pread(fd_, out.data(), out.size(), offset);
  return length < 0 ? -errno : length;
}

ssize_t File::Write(uint64_t offset, absl::Span<const char> bytes) {
  const ssize_t length = pwrite(fd_, bytes.data(), bytes.size(), offset);
  return length < 0 ? -errno : length;
}

int File::Sync() { return fdatasync(fd_) == 0 ? 0 : errno; }

int File::Allocate(int mode, uint64_t offset, uint64_t length) {
  return fallocate(fd_, mode, offset, length) == 0 ? 0 : errno;
}

void FillPattern(absl::Span<char> bytes, uint64_t version, uint64_t offset) {
  size_t i = 0;
  // By words where it can be.
  while (i < bytes.size()) {
    if ((offset + i) % 8 == 0 && bytes.size() - i >= 8) {
      const uint64_t word = Word(version, offset + i);
      memcpy(&bytes[i], &word, 8);
      i += 8;
    } else {
      bytes[i] = PatternByte(version, offset + i);
      ++i;
    }
  }
}

bool HasPattern(absl::Span<const char> bytes, uint64_t version,
                uint64_t offset) {
  size_t i = 0;
  while (i < bytes.size()) {
    if ((offset + i) % 8 == 0 && bytes.size() - i >= 8) {
      const uint64_t word = Word(version, offset + i);
      if (memcmp(&bytes[i], &word, 8) != 0) return false;
      i += 8;
    } else {
      if (bytes[i] != PatternByte(version, offset + i)) return false;
      ++i;
    }
  }
  return true;
}

bool IsZero(absl::Span<const char> bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](char byte) { return byte == 0; });
}

absl::Status WritePattern(const std::string& path, uint64_t version,
                          uint64_t offset, uint64_t length) {
  File file(path, O_WRONLY);
  Buffer buffer(kPiece);
  const uint64_t end = offset + length;
  while (offset < end) {
    const absl::Span<char> bytes =
        buffer.span().first(std::min(kPiece, end - offset));
    FillPattern(bytes, version, offset);
    const ssize_t written = file.Write(offset, bytes);
    if (written != static_cast<ssize_t>(bytes.size())) {
      return absl::UnknownError(absl::StrCat(path, ": write at ", offset,
                                             ": got ", written, ", want ",
                                             bytes.size()));
    }
    offset += bytes.size();
  }
  if (const int error = file.Sync(); error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat(path, ": fdatasync"));
  }
  return absl::OkStatus();
}

absl::Status CheckPattern(const std::string& path, uint64_t version,
                          uint64_t offset, uint64_t length) {
  return ForEachPiece(path, offset, length,
                      [&](uint64_t at, absl::Span<const char> bytes) {
                        return HasPattern(bytes, version, at);
                      });
}

absl::Status CheckZero(const std::string& path, uint64_t offset,
                       uint64_t length) {
  return ForEachPiece(
      path, offset, length,
      [](uint64_t, absl::Span<const char> bytes) { return IsZero(bytes); });
}

absl::Status CheckSame(const std::string& path, const std::string& other_path) {
  const uint64_t size = SizeOf(path);
  if (SizeOf(other_path) != size) {
    return absl::DataLossError(absl::StrCat(
        path, " has ", size, " bytes, ", other_path, " ", SizeOf(other_path)));
  }
  File other(other_path, O_RDONLY);
  Buffer buffer(kPiece);
  return ForEachPiece(
      path, 0, size, [&](uint64_t at, absl::Span<const char> bytes) {
        const absl::Span<char> others = buffer.span().first(bytes.size());
        return other.Read(at, others) == static_cast<ssize_t>(bytes.size()) &&
               memcmp(others.data(), bytes.data(), bytes.size()) == 0;
      });
}

uint64_t HashOfFile(const std::string& path) {
  if (access(path.c_str(), F_OK) != 0) return 0;
  const uint64_t size = SizeOf(path);
  uint64_t hash = Mix(size);
  const absl::Status status =
      ForEachPiece(path, 0, size, [&](uint64_t, absl::Span<const char> bytes) {
        hash = Mix(hash ^ std::hash<std::string_view>()(
                              std::string_view(bytes.data(), bytes.size())));
        return true;
      });
  // No two failures are the same file.
  static uint64_t failures = 0;
  if (!status.ok()) hash = ++failures;
  return hash;
}

void MakeFile(const std::string& path, uint64_t size) {
  const int fd =
      open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, size) != 0) {
    perror(path.c_str());
    abort();
  }
  close(fd);
}

std::string ContentOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace pcachefs
