#include "tools/diagnosis.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "fuse/status_json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;
using Verdict = Finding::Verdict;

MachineFacts Healthy() {
  return {.kernel_release = "6.18.2-amd64",
          .has_fuse_device = true,
          .fuse_uring = "Y",
          .io_uring_disabled = "0",
          .memlock_limit = UINT64_MAX,
          .is_root = true,
          .loops = {{"/dev/loop0", "/mnt/vm1", true, 4096}},
          .fstab_lines = {"/mnt/vm1 /d ext4 _netdev,x-systemd.requires="
                          "pcachefs@vm.service 0 0"}};
}

Json HealthyStatus() {
  return Json::parse(R"({
    "server": {"io_flusher": true, "memory_locked": true},
    "cache": {"path": "/c", "volatile": false, "state": "running"},
    "images": [{"name": "vm1", "mode": "writeback", "state": "running"}]})");
}

// Of the findings that are not ok.
std::vector<Finding> Complaints(const MachineFacts& facts,
                                const std::optional<Json>& status) {
  std::vector<Finding> complaints;
  for (const Finding& finding : Diagnose(facts, status)) {
    if (finding.verdict != Verdict::kOk) complaints.push_back(finding);
  }
  return complaints;
}

TEST(Diagnosis, AHealthyMachineHasNoComplaints) {
  for (const Finding& finding : Complaints(Healthy(), HealthyStatus())) {
    ADD_FAILURE() << finding.subject << ": " << finding.found;
  }
}

void ExpectOne(const MachineFacts& facts, const std::optional<Json>& status,
               const std::string& subject, Verdict verdict,
               const std::string& fix) {
  const std::vector<Finding> complaints = Complaints(facts, status);
  ASSERT_EQ(complaints.size(), 1u) << subject;
  EXPECT_EQ(complaints[0].subject, subject);
  EXPECT_EQ(complaints[0].verdict, verdict);
  EXPECT_THAT(complaints[0].fix, HasSubstr(fix));
}

TEST(Diagnosis, EachFaultOfTheMachineHasItsFix) {
  MachineFacts facts = Healthy();
  facts.kernel_release = "5.10.0";
  ExpectOne(facts, std::nullopt, "kernel", Verdict::kProblem, "5.15");

  facts = Healthy();
  facts.has_fuse_device = false;
  ExpectOne(facts, std::nullopt, "fuse", Verdict::kProblem, "modprobe");

  facts = Healthy();
  facts.io_uring_disabled = "2";
  ExpectOne(facts, std::nullopt, "io_uring", Verdict::kProblem, "sysctl");

  facts = Healthy();
  facts.fuse_uring = "N";
  ExpectOne(facts, std::nullopt, "transport", Verdict::kNote, "enable_uring");

  facts = Healthy();
  facts.is_root = false;
  facts.memlock_limit = 8 << 20;
  ExpectOne(facts, std::nullopt, "memlock", Verdict::kNote, "LimitMEMLOCK");

  facts = Healthy();
  facts.loops[0].direct_io = false;
  ExpectOne(facts, std::nullopt, "/dev/loop0", Verdict::kProblem,
            "losetup --direct-io=on /dev/loop0");

  facts = Healthy();
  facts.loops[0].discard_granularity = 0;
  ExpectOne(facts, std::nullopt, "/dev/loop0", Verdict::kNote, "attach");

  facts = Healthy();
  facts.fstab_lines = {"/mnt/vm1 /d ext4 loop 0 0"};
  ExpectOne(facts, std::nullopt, "fstab", Verdict::kProblem, "_netdev");
}

TEST(Diagnosis, EachFaultOfTheDaemonHasItsFix) {
  Json status = HealthyStatus();
  status["server"]["io_flusher"] = false;
  ExpectOne(Healthy(), status, "io_flusher", Verdict::kProblem,
            "CAP_SYS_RESOURCE");

  status = HealthyStatus();
  status["server"]["memory_locked"] = false;
  ExpectOne(Healthy(), status, "memory_locked", Verdict::kNote,
            "LimitMEMLOCK");

  status = HealthyStatus();
  status["cache"]["volatile"] = true;
  ExpectOne(Healthy(), status, "cache", Verdict::kProblem, "on a disk");
  status["images"][0]["mode"] = "writethrough";
  EXPECT_TRUE(Complaints(Healthy(), status).empty());

  status = HealthyStatus();
  status["images"][0]["state"] = "degraded";
  ExpectOne(Healthy(), status, "state of vm1", Verdict::kProblem,
            "operations.md");
}

TEST(MachineFacts, AreReadFromTheFilesOfTheKernel) {
  std::string root = "/tmp/pcachefs-facts.XXXXXX";
  ASSERT_NE(mkdtemp(root.data()), nullptr);
  const auto write = [&](const std::string& path, const std::string& text) {
    std::filesystem::create_directories(
        std::filesystem::path(root + path).parent_path());
    std::ofstream(root + path) << text;
  };
  write("/proc/sys/kernel/osrelease", "6.1.0\n");
  write("/proc/sys/kernel/io_uring_disabled", "1\n");
  write("/sys/module/fuse/parameters/enable_uring", "N\n");
  write("/dev/fuse", "");
  write("/sys/block/loop3/loop/backing_file", "/mnt/vm1\n");
  write("/sys/block/loop3/loop/dio", "1\n");
  write("/sys/block/loop3/queue/discard_granularity", "4096\n");
  write("/sys/block/loop4/loop/backing_file", "/mnt2/vm1\n");
  write("/sys/block/sda/queue/discard_granularity", "0\n");
  write("/etc/fstab", "#/mnt/x\n/dev/sda / ext4\n /mnt/vm1\t/d ext4\n");
  const MachineFacts facts = GatherMachineFacts(root, "/mnt");
  std::filesystem::remove_all(root);

  EXPECT_EQ(facts.kernel_release, "6.1.0");
  EXPECT_EQ(facts.io_uring_disabled, "1");
  EXPECT_EQ(facts.fuse_uring, "N");
  EXPECT_TRUE(facts.has_fuse_device);
  ASSERT_EQ(facts.loops.size(), 1u);
  EXPECT_EQ(facts.loops[0].device, "/dev/loop3");
  EXPECT_TRUE(facts.loops[0].direct_io);
  EXPECT_EQ(facts.loops[0].discard_granularity, 4096u);
  EXPECT_EQ(facts.fstab_lines,
            std::vector<std::string>{"/mnt/vm1\t/d ext4"});
}

}  // namespace
}  // namespace pcachefs
