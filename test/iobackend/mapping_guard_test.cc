// Proves that failing memory does not end the process where it is guarded, and
// that everything else is left to the handler before ours. Each test runs in a
// child of its own, since a process installs the handler once.

#include "iobackend/mapping_guard.h"

#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <thread>
#include <vector>

#include "test/iobackend/test_files.h"

namespace pcachefs {
namespace {

constexpr size_t kPageSize = 4096;
constexpr size_t kPages = 16;

// A mapping of 16 pages whose file ends after the first.
std::byte* MapTruncated() {
  TestDirectory directory(kTmpfs);
  FileDescriptor file =
      MakeSparseFile(directory.File("memory"), kPages * kPageSize);
  void* const memory = mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE,
                            MAP_SHARED, file.get(), 0);
  if (ftruncate(file.get(), kPageSize) != 0) return nullptr;
  return static_cast<std::byte*>(memory);
}

int Read(const std::byte* place) {
  return static_cast<int>(*static_cast<const volatile std::byte*>(place));
}

TEST(MappingGuard, FailingPageReadsAsZeroesAndIsMarked) {
  ExpectSuccessInChild([] {
    std::byte* const memory = MapTruncated();
    auto guard = MappingGuard::Create(memory, kPages * kPageSize, kPageSize);
    if (!guard.ok()) return 1;

    if ((*guard)->FindFailure(0, kPages * kPageSize).has_value()) return 2;
    if (Read(memory + 5 * kPageSize + 7) != 0) return 3;

    if ((*guard)->FindFailure(0, 5 * kPageSize).has_value()) return 4;
    if ((*guard)->FindFailure(0, 6 * kPageSize) != 5 * kPageSize) return 5;
    // Within the page, the failure begins where the question does.
    if ((*guard)->FindFailure(5 * kPageSize + 9, 1) != 5 * kPageSize + 9) {
      return 6;
    }
    return (*guard)->FindFailure(6 * kPageSize, kPageSize).has_value() ? 7 : 0;
  });
}

TEST(MappingGuard, StoresToFailingPageAreSurvivedAndMarked) {
  ExpectSuccessInChild([] {
    std::byte* const memory = MapTruncated();
    auto guard = MappingGuard::Create(memory, kPages * kPageSize, kPageSize);
    if (!guard.ok()) return 1;

    for (size_t page = 1; page < kPages; ++page) {
      *static_cast<volatile std::byte*>(memory + page * kPageSize) =
          std::byte{1};
      if (!(*guard)->FindFailure(page * kPageSize, 1).has_value()) return 2;
    }
    return (*guard)->FindFailure(0, kPageSize).has_value() ? 3 : 0;
  });
}

TEST(MappingGuard, ThreadsMayFailOnOnePageAtATime) {
  ExpectSuccessInChild([] {
    std::byte* const memory = MapTruncated();
    auto guard = MappingGuard::Create(memory, kPages * kPageSize, kPageSize);
    std::atomic<int> unmarked = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (size_t page = 1; page < kPages; ++page) {
          Read(memory + page * kPageSize);
          if (!(*guard)->FindFailure(page * kPageSize, 1)) ++unmarked;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return unmarked == 0 ? 0 : 1;
  });
}

TEST(MappingGuard, ForeignFaultGoesToTheHandlerBefore) {
  const int status = RunInChild([] {
    signal(
        SIGBUS, +[](int) { _exit(42); });
    std::byte* const memory = MapTruncated();
    // The first page only.
    auto guard = MappingGuard::Create(memory, kPageSize, kPageSize);
    Read(memory + 3 * kPageSize);
    return 1;
  });

  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

TEST(MappingGuard, GivenUpGuardCatchesNoMore) {
  const int status = RunInChild([] {
    signal(
        SIGBUS, +[](int) { _exit(42); });
    std::byte* const memory = MapTruncated();
    {
      auto guard = MappingGuard::Create(memory, kPages * kPageSize, kPageSize);
    }
    Read(memory + 3 * kPageSize);
    return 1;
  });

  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

TEST(MappingGuard, ForeignFaultWithoutHandlerEndsTheProcess) {
  const int status = RunInChild([] {
    signal(SIGBUS, SIG_DFL);
    std::byte* const memory = MapTruncated();
    auto guard = MappingGuard::Create(memory, kPageSize, kPageSize);
    Read(memory + 3 * kPageSize);
    return 0;
  });

  ASSERT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(WTERMSIG(status), SIGBUS);
}

TEST(MappingGuard, TooManyGuardsAreRefused) {
  ExpectSuccessInChild([] {
    std::vector<std::unique_ptr<MappingGuard>> guards;
    alignas(kPageSize) static std::byte memory[kPageSize];
    while (guards.size() < 10000) {
      auto guard = MappingGuard::Create(memory, kPageSize, kPageSize);
      if (!guard.ok()) {
        return absl::IsResourceExhausted(guard.status()) ? 0 : 1;
      }
      guards.push_back(*std::move(guard));
    }
    return 2;
  });
}

}  // namespace
}  // namespace pcachefs
