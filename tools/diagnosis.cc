#include "tools/diagnosis.h"

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "fuse/status_json.h"

namespace pcachefs {
namespace {

using Verdict = Finding::Verdict;

// Below this a daemon cannot even lock the buffers of its rings.
constexpr uint64_t kLeastMemlock = 64 << 20;
// As fuse/ answers statfs: what loop devices discard in.
constexpr uint64_t kBlock = 4096;

struct KernelVersion {
  int major = 0;
  int minor = 0;
};

bool IsAtLeast(const std::string& release, KernelVersion wanted) {
  KernelVersion got;
  if (sscanf(release.c_str(), "%d.%d", &got.major, &got.minor) != 2) {
    return true;  // not known: do not alarm
  }
  return std::pair(got.major, got.minor) >=
         std::pair(wanted.major, wanted.minor);
}

class Diagnosis {
 public:
  Diagnosis(const MachineFacts& facts, const std::optional<Json>& status)
      : facts_(facts), status_(status) {}

  std::vector<Finding> Run() {
    CheckKernel();
    CheckFuse();
    CheckIoUring();
    CheckTransport();
    CheckMemlock();
    if (status_.has_value()) {
      CheckServer((*status_)["server"]);
      CheckVolatile();
      CheckStates();
    }
    for (const LoopFacts& loop : facts_.loops) CheckLoop(loop);
    for (const std::string& line : facts_.fstab_lines) CheckFstab(line);
    return std::move(findings_);
  }

 private:
  void Add(std::string subject, bool is_ok, Verdict otherwise,
           std::string found, std::string fix) {
    findings_.push_back({std::move(subject),
                         is_ok ? Verdict::kOk : otherwise, std::move(found),
                         is_ok ? "" : std::move(fix)});
  }

  void CheckKernel() {
    Add("kernel", IsAtLeast(facts_.kernel_release, {5, 15}), Verdict::kProblem,
        facts_.kernel_release, "run Linux 5.15 or later");
  }

  void CheckFuse() {
    Add("fuse", facts_.has_fuse_device, Verdict::kProblem,
        facts_.has_fuse_device ? "/dev/fuse is there" : "/dev/fuse is missing",
        "modprobe fuse");
  }

  void CheckIoUring() {
    const std::string& value = facts_.io_uring_disabled;
    const bool is_ok =
        value.empty() || value == "0" || (value == "1" && facts_.is_root);
    Add("io_uring", is_ok, Verdict::kProblem,
        is_ok ? "allowed"
              : absl::StrCat("kernel.io_uring_disabled is ", value,
                             ": backing devices are read one at a time"),
        "sysctl kernel.io_uring_disabled=0");
  }

  void CheckTransport() {
    if (!IsAtLeast(facts_.kernel_release, {6, 14})) {
      return Add("transport", true, Verdict::kNote,
                 "dev_fuse; FUSE over io_uring needs Linux 6.14", "");
    }
    const bool is_on = facts_.fuse_uring == "Y" || facts_.fuse_uring == "1";
    Add("transport", is_on, Verdict::kNote,
        is_on ? "FUSE over io_uring is allowed"
              : "FUSE over io_uring is switched off",
        "for --transport=io_uring: echo Y > "
        "/sys/module/fuse/parameters/enable_uring");
  }

  void CheckMemlock() {
    const bool is_unlimited = facts_.memlock_limit == UINT64_MAX;
    Add("memlock", facts_.is_root || facts_.memlock_limit >= kLeastMemlock,
        Verdict::kNote,
        is_unlimited ? "unlimited"
                     : absl::StrCat(facts_.memlock_limit, " bytes for this "
                                                          "user"),
        "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited");
  }

  void CheckServer(const Json& server) {
    const bool is_flusher = server.value("io_flusher", false);
    Add("io_flusher", is_flusher, Verdict::kProblem,
        is_flusher ? "set"
                   : "not set: when memory is short, the daemon may wait for "
                     "pages that wait for it",
        "give the daemon CAP_SYS_RESOURCE, or start it as root");
    const bool is_locked = server.value("memory_locked", false);
    Add("memory_locked", is_locked, Verdict::kNote,
        is_locked ? "yes" : "the daemon's memory may be swapped out",
        "LimitMEMLOCK=infinity in the unit, or start it as root");
  }

  void CheckVolatile() {
    const Json& cache = (*status_)["cache"];
    if (!cache.value("volatile", false)) {
      return Add("cache", true, Verdict::kOk, "survives the machine", "");
    }
    std::string writeback;
    for (const Json& image : (*status_)["images"]) {
      if (image.value("mode", "") != "writeback") continue;
      absl::StrAppend(&writeback, writeback.empty() ? "" : ", ",
                      image.value("name", ""));
    }
    Add("cache", writeback.empty(), Verdict::kProblem,
        absl::StrCat(cache.value("path", ""),
                     " does not survive a reboot, and dirty data of ",
                     writeback, " is only there"),
        "put the cache on a disk, or do without mode writeback");
  }

  void CheckStates() {
    CheckState("state of the cache", (*status_)["cache"]);
    for (const Json& image : (*status_)["images"]) {
      CheckState(absl::StrCat("state of ", image.value("name", "")), image);
    }
  }

  void CheckState(std::string subject, const Json& json) {
    const std::string state = json.value("state", "");
    Add(std::move(subject), state == "running" || state == "read_only",
        Verdict::kProblem,
        absl::StrCat(state, state == "running" ? "" : ": ",
                     json.value("state_reason", "")),
        "see docs/operations.md and the daemon's log");
  }

  void CheckLoop(const LoopFacts& loop) {
    Add(loop.device, loop.direct_io, Verdict::kProblem,
        absl::StrCat(loop.file, loop.direct_io ? ": " : ": no ",
                     "direct I/O"),
        absl::StrCat("losetup --direct-io=on ", loop.device,
                     ": else every block is in memory twice, and writes wait "
                     "for memory that waits for them"));
    if (loop.discard_granularity == 0) {
      return Add(loop.device, false, Verdict::kNote, "no discard",
                 "attach it again while the daemon serves");
    }
    Add(loop.device, loop.discard_granularity <= kBlock, Verdict::kNote,
        absl::StrCat("discards in units of ", loop.discard_granularity), "");
  }

  void CheckFstab(const std::string& line) {
    const bool is_ordered =
        absl::StrContains(line, "x-systemd.requires=pcachefs@") &&
        (absl::StrContains(line, "_netdev") ||
         absl::StrContains(line, "noauto"));
    Add("fstab", is_ordered, Verdict::kProblem, line,
        "add _netdev,x-systemd.requires=pcachefs@NAME.service, so that it is "
        "mounted after the cache and unmounted before");
  }

  const MachineFacts& facts_;
  const std::optional<Json>& status_;
  std::vector<Finding> findings_;
};

}  // namespace

const char* Name(Finding::Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kNote:
      return "note";
    case Verdict::kProblem:
      return "problem";
  }
  return "";
}

std::vector<Finding> Diagnose(const MachineFacts& facts,
                              const std::optional<Json>& status) {
  return Diagnosis(facts, status).Run();
}

}  // namespace pcachefs
