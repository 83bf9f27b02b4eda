// A cache that is served by the real daemon, in a directory of its own.
//
//   ServedCache served;
//   ASSERT_THAT(served.Start(), IsOk());
//   ... read and write served.image() ...
//   EXPECT_THAT(served.Control("drain"), Succeeds());
//   EXPECT_THAT(served.Stop(), IsOk());
//
// What a test leaves running, mounted or attached is cleaned up with the
// object, or by the janitor (scratch_directory.h). Not thread-safe.

#ifndef PCACHEFS_TEST_E2E_TESTING_SERVED_CACHE_H_
#define PCACHEFS_TEST_E2E_TESTING_SERVED_CACHE_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "meta/units.h"
#include "nlohmann/json.hpp"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/scratch_directory.h"

namespace pcachefs {

struct ServedCacheOptions {
  uint64_t backing_size = 256 * kMiB;
  std::string cache_size = "128M";
  Medium cache_medium = Medium::kDisk;
  std::string cache_path;           // instead of a new file's
  std::string backing_spec;         // instead of the backing file's path
  std::vector<std::string> prefix;  // of the command: env, a shell
  std::string more_backing;         // of --backing, as ",other=PATH"
  std::vector<std::string> flags;   // more of the daemon's
};

class ServedCache {
 public:
  // Makes an empty backing file; the cache does not exist yet.
  explicit ServedCache(const ServedCacheOptions& options = {});
  // Kills a daemon that still runs; shows what it said if the test failed.
  ~ServedCache();
  ServedCache(const ServedCache&) = delete;
  ServedCache& operator=(const ServedCache&) = delete;

  // Starts the daemon and waits until it serves and knows it; always by the same
  // command, also after Stop() and, once the dead mount is removed, Kill().
  absl::Status Start();
  // kill -9.
  void Kill();
  // `pcachectl stop`; an error unless the daemon then ends with exit code 0.
  absl::Status Stop();
  // Waits for the daemon to end by itself; its exit code, -1 if it does not.
  int WaitForExit();
  // Of the daemon, while it runs.
  pid_t pid() const { return daemon_->pid(); }
  // What it has logged so far; under failover all of its daemons.
  std::string Log() const { return daemon_->outcome().err; }

  // What a user types: serves in the background. Start() adds --foreground.
  std::vector<std::string> Command() const;

  // `pcachectl VERB MOUNT ARGUMENTS`.
  Outcome Control(const std::string& verb,
                  const std::vector<std::string>& arguments = {},
                  absl::Duration timeout = absl::Minutes(2)) const;
  // `status --json`; of the one image.
  absl::StatusOr<nlohmann::json> Status() const;
  absl::StatusOr<nlohmann::json> ImageStatus() const;
  // `state` of the image; the error's text if there is none.
  std::string State() const;

  const ScratchDirectory& directory() const { return directory_; }
  const std::string& backing() const { return backing_; }
  const std::string& cache() const {
    return options_.cache_path.empty() ? cache_ : options_.cache_path;
  }
  const std::string& mount() const { return mount_; }
  std::string image() const { return mount_ + "/disk"; }
  uint64_t size() const { return options_.backing_size; }
  ServedCacheOptions& options() { return options_; }

 private:
  ServedCacheOptions options_;
  const ScratchDirectory directory_;
  const ScratchDirectory cache_directory_;
  const std::string backing_;
  const std::string cache_;
  const std::string mount_;
  std::unique_ptr<Process> daemon_;
};

// True once something answers below `mount`.
bool IsServed(const std::string& mount);
// True if something is mounted there, alive or dead.
bool IsMounted(const std::string& directory);

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_SERVED_CACHE_H_
