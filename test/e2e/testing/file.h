// Files as a test sees them: every transfer is one system call, and its result
// is the errno.

#ifndef PCACHEFS_TEST_E2E_TESTING_FILE_H_
#define PCACHEFS_TEST_E2E_TESTING_FILE_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace pcachefs {

// The block size, to compare with what a transfer returns.
inline constexpr ssize_t kBlock = 4096;

// Memory for direct I/O: at a page's boundary, zeroed.
class Buffer {
 public:
  explicit Buffer(size_t size);

  size_t size() const { return size_; }
  char* data() { return data_.get(); }
  const char* data() const { return data_.get(); }
  absl::Span<char> span() { return absl::MakeSpan(data(), size_); }

 private:
  struct Free {
    void operator()(char* data) const;
  };
  size_t size_;
  std::unique_ptr<char, Free> data_;
};

class File {
 public:
  // Aborts the test's process if it cannot be opened, unless `error` is given,
  // which then has the errno.
  File(const std::string& path, int flags, int* error = nullptr);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int fd() const { return fd_; }
  // The number of bytes, or -errno.
  ssize_t Read(uint64_t offset, absl::Span<char> out);
  ssize_t Write(uint64_t offset, absl::Span<const char> bytes);
  // 0 or errno.
  int Sync();
  int Allocate(int mode, uint64_t offset, uint64_t length);

 private:
  int fd_;
};

// Bytes that tell where they belong and of which write they are: reading them
// at another place, or of another `version`, is noticed.
void FillPattern(absl::Span<char> bytes, uint64_t version, uint64_t offset);
bool HasPattern(absl::Span<const char> bytes, uint64_t version,
                uint64_t offset);
bool IsZero(absl::Span<const char> bytes);

// Writes the pattern, of a file that exists already, in pieces of 1 MiB.
absl::Status WritePattern(const std::string& path, uint64_t version,
                          uint64_t offset, uint64_t length);

// Names the first piece of 1 MiB that is not as expected.
absl::Status CheckPattern(const std::string& path, uint64_t version,
                          uint64_t offset, uint64_t length);
absl::Status CheckZero(const std::string& path, uint64_t offset,
                       uint64_t length);
// Of the same size and content; names the first difference.
absl::Status CheckSame(const std::string& path, const std::string& other_path);

// Of content and size; 0 if there is none.
uint64_t HashOfFile(const std::string& path);

void MakeFile(const std::string& path, uint64_t size);
std::string ContentOf(const std::string& path);

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_FILE_H_
