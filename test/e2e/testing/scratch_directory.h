// A private directory, outside TEST_TMPDIR as a mount that is left there makes
// later runs of Bazel fail. Its end is the end of everything done in it:
// processes that name it are killed, filesystems mounted below it unmounted,
// loop devices on its files detached.
//
// So that this holds for tests that crash or are killed too, a process of its
// own, the janitor, does the same when the test is gone. Bazel kills even that;
// then the next test does it, and tools/test: the name of the directory is
// pcachefs-e2e.PID.XXXXXX, with the test's process id.

#ifndef PCACHEFS_TEST_E2E_TESTING_SCRATCH_DIRECTORY_H_
#define PCACHEFS_TEST_E2E_TESTING_SCRATCH_DIRECTORY_H_

#include <string>

namespace pcachefs {

enum class Medium {
  kDisk,    // /var/tmp
  kMemory,  // /dev/shm
};

class ScratchDirectory {
 public:
  explicit ScratchDirectory(Medium medium = Medium::kDisk);
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A file, as of sysfs, that has another content for a while.
class ScopedSetting {
 public:
  ScopedSetting(const std::string& path, const std::string& value);
  ~ScopedSetting();
  ScopedSetting(const ScopedSetting&) = delete;
  ScopedSetting& operator=(const ScopedSetting&) = delete;

  // False where it cannot be had.
  bool is_set() const { return is_set_; }

 private:
  const std::string path_;
  std::string before_;
  bool is_set_ = false;
};

// Of directories and control groups: PID.MORE follows, with the test's process
// id.
inline constexpr char kScratchPrefix[] = "pcachefs-e2e.";

// Below which memory is controlled.
std::string CgroupRoot();
// At the latest when the test is gone: kills what is in it, and removes it.
void LetJanitorRemoveCgroup(const std::string& path);
void RemoveCgroup(const std::string& path);

// Clears what tests that are gone left behind, and starts the janitor; before
// any thread, once.
void StartJanitor();

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_SCRATCH_DIRECTORY_H_
