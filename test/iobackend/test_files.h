// Files, memory and child processes for the tests of iobackend/.

#ifndef PCACHEFS_TEST_IOBACKEND_TEST_FILES_H_
#define PCACHEFS_TEST_IOBACKEND_TEST_FILES_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "iobackend/file_io.h"

namespace pcachefs {

// A new directory, removed with all that is in it.
class TestDirectory {
 public:
  explicit TestDirectory(const std::string& parent = ::testing::TempDir()) {
    std::string name =
        (std::filesystem::path(parent) / "pcachefs_test_XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr) << name;
    path_ = name;
  }
  ~TestDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestDirectory(const TestDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A directory of tmpfs.
inline constexpr char kTmpfs[] = "/dev/shm";

// A tmpfs of `size` bytes on `directory`, in a mount namespace of this process;
// false where that is not allowed.
inline bool MountSmallTmpfs(const std::string& directory, uint64_t size) {
  const std::string options = "size=" + std::to_string(size);
  return unshare(CLONE_NEWNS) == 0 &&
         mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("tmpfs", directory.c_str(), "tmpfs", 0, options.c_str()) == 0;
}

// A file of `size` bytes, a hole as a whole; open for reading and writing.
inline FileDescriptor MakeSparseFile(const std::string& path, uint64_t size) {
  FileDescriptor file = OpenFile(path, O_RDWR | O_CREAT);
  EXPECT_TRUE(file.is_open()) << path;
  EXPECT_EQ(ftruncate(file.get(), size), 0);
  return file;
}

// Bytes that differ from their neighbours, sectors and seeds.
inline void FillPattern(std::span<std::byte> bytes, uint64_t seed) {
  uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
  while (!bytes.empty()) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const uint64_t word = state ^ (state >> 32);
    const size_t length = std::min(bytes.size(), sizeof(word));
    std::memcpy(bytes.data(), &word, length);
    bytes = bytes.subspan(length);
  }
}

inline std::vector<std::byte> Pattern(size_t size, uint64_t seed) {
  std::vector<std::byte> bytes(size);
  FillPattern(bytes, seed);
  return bytes;
}

// Memory at `skew` bytes after an address that is aligned for O_DIRECT.
class TestBuffer {
 public:
  explicit TestBuffer(size_t size, size_t skew = 0)
      : memory_(static_cast<std::byte*>(
            std::aligned_alloc(4096, (size + skew + 4095) / 4096 * 4096))),
        bytes_(memory_.get() + skew, size) {}

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte[], Free> memory_;
  std::span<std::byte> bytes_;
};

// Bytes as a container that gtest compares and prints.
inline std::vector<std::byte> Copy(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

// Faster than the comparison of containers, for what is large.
inline bool SameBytes(std::span<const std::byte> a,
                      std::span<const std::byte> b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

// Whether all of `bytes` are zero.
inline bool IsZero(std::span<const std::byte> bytes) {
  return bytes.empty() ||
         (bytes[0] == std::byte{0} &&
          std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

// Runs `function`, which returns an exit code, in a child; returns the status
// that waitpid() gives.
template <typename Function>
int RunInChild(Function function) {
  const pid_t child = fork();
  if (child == 0) _exit(function());
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

// Expects that `function` returns 0 in a child.
template <typename Function>
void ExpectSuccessInChild(Function function) {
  const int status = RunInChild(std::move(function));
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
      << "status of the child: " << status;
}

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_IOBACKEND_TEST_FILES_H_
