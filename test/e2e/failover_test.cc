// --failover: the daemon dies, and nobody above the mount notices more than a
// pause.
//
//   bazel run --config=ci //test/e2e:failover_test -- --kills=200
//
// is the long form (--gtest_filter=*Kills* for the kills alone).

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "nlohmann/json.hpp"
#include "test/e2e/testing/failover_cache.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/loop_device.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/notify_socket.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;

std::vector<std::string> Fio(const std::string& file,
                             const std::string& scratch) {
  return {"fio",
          "--name=verify",
          "--filename=" + file,
          "--rw=randwrite",
          "--bsrange=4k-64k",
          "--size=48M",
          "--direct=1",
          "--ioengine=libaio",
          "--iodepth=16",
          "--fsync=200",
          "--verify=crc32c",
          "--verify_fatal=1",
          "--verify_backlog=400",
          "--rate_iops=3000",
          "--output-format=json",
          "--aux-path=" + scratch};
}

class FailoverTest : public testing::Test {
 protected:
  FailoverTest() : cache_({.backing_size = 64 * kMiB, .cache_size = "48M"}) {}

  ServedCache& served() { return cache_.served(); }
  std::string Scratch() { return served().directory().path(); }

  FailoverCache cache_;
};

TEST_F(FailoverTest, KillsUnderFioOnTheImage) {
  ASSERT_THAT(RequirePrograms({"fio"}), IsOk());
  ASSERT_THAT(cache_.Start(), IsOk());

  EXPECT_THAT(
      cache_.KillUnder(NumberFlag("kills", 4), Fio(served().image(), Scratch())),
      IsOk());

  EXPECT_EQ(cache_.Failover().value("poisoned_count", 1u), 0u);
  EXPECT_THAT(served().Stop(), IsOk());
}

TEST_F(FailoverTest, KillsUnderAFilesystemOnALoopDevice) {
  ASSERT_THAT(RequirePrograms({"fio", "mkfs.ext4", "e2fsck"}), IsOk());
  ASSERT_THAT(cache_.Start(), IsOk());
  const std::string directory = served().directory().File("filesystem");
  auto loop = LoopDevice::Attach(served().image());
  ASSERT_THAT(loop, IsOk());
  ASSERT_THAT(MakeFilesystem("ext4", (*loop)->path()), IsOk());
  ASSERT_THAT(Mount((*loop)->path(), directory, "errors=remount-ro"), IsOk());

  EXPECT_THAT(cache_.KillUnder(
                  NumberFlag("kills", 3),
                  Fio(directory + "/file", Scratch())),
              IsOk());

  // Nor did the filesystem meet an error of which fio does not know.
  std::ofstream(directory + "/still") << "writable";
  EXPECT_EQ(ContentOf(directory + "/still"), "writable");
  ASSERT_THAT(Unmount(directory), IsOk());
  EXPECT_THAT(RunCommand({"e2fsck", "-f", "-n", (*loop)->path()}), Succeeds());
  loop->reset();
  EXPECT_THAT(served().Stop(), IsOk());
}

// QEMU's own I/O, as a guest's disk has it; a guest is in
// test/e2e/failover_guest.
TEST_F(FailoverTest, KillsUnderQemu) {
  ASSERT_THAT(RequirePrograms({"qemu-io"}), IsOk());
  ASSERT_THAT(cache_.Start(), IsOk());
  // It goes on after an error, and says it.
  std::vector<std::string> script = {
      "sh", "-c",
      "out=$(\"$@\" 2>&1); ! echo \"$out\" | grep -i -m1 -E 'fail|error'",
      "sh", "qemu-io", "-t", "none", "-d", "unmap", "-f", "raw",
      served().image()};
  const auto add = [&](const std::string& command) {
    script.insert(script.end(), {"-c", command});
  };
  for (int round = 1; round <= 12; ++round) {
    for (int i = 0; i < 16; ++i) {
      add(absl::StrCat("aio_write -P ", round, " ", 3 * i, "M 1M"));
    }
    add("aio_flush");
    add("flush");
    add("write -z 1M 64k");
    add("discard 4M 64k");
    for (int i = 0; i < 16; ++i) {
      add(absl::StrCat("read -P ", round, " ", 3 * i, "M 1M"));
    }
    add("read -P 0 1M 64k");
  }
  EXPECT_THAT(cache_.KillUnder(NumberFlag("kills", 3), script), IsOk());
  EXPECT_THAT(served().Stop(), IsOk());
}

TEST_F(FailoverTest, SuccessorsThatDieTooAreSucceeded) {
  ASSERT_THAT(cache_.Start(), IsOk());
  ASSERT_THAT(WritePattern(served().image(), 1, 0, 32 * kMiB), IsOk());
  const pid_t first = cache_.DaemonPid();
  kill(first, SIGKILL);
  std::thread writer([&] {
    EXPECT_THAT(WritePattern(served().image(), 2, 0, 16 * kMiB), IsOk());
  });
  // Most of them while they replay. The spare supervisor is no daemon.
  std::vector<pid_t> killed = {first};
  for (int i = 0; i < 4; ++i) {
    pid_t next = 0;
    ASSERT_TRUE(WaitUntil(absl::Minutes(1), [&] {
      for (const pid_t pid : ChildrenOf(cache_.supervisor_pid())) {
        const std::string environment =
            ContentOf(absl::StrCat("/proc/", pid, "/environ"));
        if (environment.find("PCACHEFS_SUPERVISED=") != std::string::npos &&
            std::count(killed.begin(), killed.end(), pid) == 0) {
          next = pid;
        }
      }
      return next != 0;
    }));
    absl::SleepFor(absl::Milliseconds(3 * i));
    kill(next, SIGKILL);
    killed.push_back(next);
  }
  writer.join();
  EXPECT_THAT(CheckPattern(served().image(), 2, 0, 16 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served().image(), 1, 16 * kMiB, 16 * kMiB), IsOk());
  EXPECT_THAT(served().Stop(), IsOk());
}

TEST_F(FailoverTest, ASpareTakesTheSupervisorsPlace) {
  ASSERT_THAT(cache_.Start(), IsOk());
  const pid_t daemon = cache_.DaemonPid();
  for (int round = 0; round < 2; ++round) {
    const pid_t supervisor = cache_.Failover().value("supervisor_pid", 0);
    kill(supervisor, SIGKILL);
    // With a spare of its own, or nobody is there for the next round.
    ASSERT_TRUE(WaitUntil(absl::Minutes(1), [&] {
      const pid_t next = cache_.Failover().value("supervisor_pid", 0);
      return next != 0 && next != supervisor && ChildrenOf(next).size() == 1u;
    }));
  }
  EXPECT_EQ(cache_.DaemonPid(), daemon) << "it did not notice";
  ASSERT_THAT(WritePattern(served().image(), 1, 0, kMiB), IsOk());

  ASSERT_THAT(cache_.KillDaemon(), IsOk());

  EXPECT_THAT(CheckPattern(served().image(), 1, 0, kMiB), IsOk());
  EXPECT_THAT(cache_.AwaitRestarts(1), IsOk());
  EXPECT_THAT(served().Control("stop"), Succeeds());
  EXPECT_TRUE(WaitUntil(absl::Minutes(1),
                        [&] { return !IsMounted(served().mount()); }));
}

TEST_F(FailoverTest, ARequestThatKillsIsRefusedAndTheRestLivesOn) {
  setenv("PCACHEFS_TEST_LETHAL_OFFSET", "8388608", 1);
  const absl::Status started = cache_.Start();
  unsetenv("PCACHEFS_TEST_LETHAL_OFFSET");
  ASSERT_THAT(started, IsOk());
  File image(served().image(), O_RDWR | O_DIRECT);
  const Buffer buffer(kBlock);
  // Something that waits with it is not taken for it.
  std::thread other([&] {
    for (int i = 0; i < 300; ++i) {
      EXPECT_EQ(image.Write(i * kBlock, {buffer.data(), buffer.size()}),
                kBlock);
    }
  });

  EXPECT_EQ(image.Write(8 * kMiB, {buffer.data(), buffer.size()}), -EIO);

  other.join();
  EXPECT_EQ(image.Write(9 * kMiB, {buffer.data(), buffer.size()}), kBlock);
  const auto failover = cache_.Failover();
  EXPECT_EQ(failover.value("poisoned_count", 0u), 1u);
  EXPECT_EQ(failover.value("restarts", 0u), 5u);
  ASSERT_EQ(failover["poisoned"].size(), 1u);
  EXPECT_EQ(failover["poisoned"][0].value("offset", 0u), 8 * kMiB);
  EXPECT_EQ(failover["poisoned"][0].value("length", 0), kBlock);
  EXPECT_THAT(ContentOf(served().mount() + "/.pcache/metrics"),
              HasSubstr("pcachefs_poisoned_requests_total 1"));
}

TEST_F(FailoverTest, OpenFilesAndOwnersAreKnownToTheSuccessor) {
  ASSERT_THAT(cache_.Start(), IsOk());
  ASSERT_EQ(chown(served().image().c_str(), 1234, 4321), 0);
  ASSERT_EQ(chmod(served().image().c_str(), 0640), 0);
  struct stat before;
  ASSERT_EQ(stat(served().image().c_str(), &before), 0);
  {
    const File image(served().image(), O_RDWR);
    ASSERT_THAT(cache_.KillDaemon(), IsOk());
    ASSERT_THAT(cache_.AwaitRestarts(1), IsOk());

    struct stat after;
    ASSERT_EQ(stat(served().image().c_str(), &after), 0);
    EXPECT_EQ(after.st_ino, before.st_ino);
    EXPECT_EQ(after.st_uid, 1234u);
    EXPECT_EQ(after.st_gid, 4321u);
    EXPECT_EQ(after.st_mode & 0777, 0640u);
    EXPECT_THAT(served().Control("detach", {"disk"}),
                RefusesWith(1, HasSubstr("open 1 time")));
  }
  EXPECT_THAT(served().Control("detach", {"disk"}), Succeeds());
}

TEST_F(FailoverTest, ImagesAttachedAndDetachedInUseAreAsTheyWere) {
  const std::string other = served().directory().File("other.img");
  MakeFile(other, 8 * kMiB);
  ASSERT_THAT(cache_.Start(), IsOk());
  ASSERT_THAT(served().Control("attach", {"other", other}), Succeeds());
  ASSERT_THAT(served().Control("detach", {"disk", "--keep_dirty"}), Succeeds());
  const File open_file(served().mount() + "/other", O_RDWR);
  struct stat before, after;
  ASSERT_EQ(fstat(open_file.fd(), &before), 0);

  ASSERT_THAT(cache_.KillDaemon(), IsOk());
  ASSERT_THAT(cache_.AwaitRestarts(1), IsOk());

  ASSERT_EQ(stat((served().mount() + "/other").c_str(), &after), 0);
  EXPECT_EQ(after.st_ino, before.st_ino);
  EXPECT_THAT(WritePattern(served().mount() + "/other", 1, 0, kMiB), IsOk());
  // The command line names it; what was done since counts.
  EXPECT_NE(stat(served().image().c_str(), &after), 0);
}

TEST_F(FailoverTest, DrainsAreTakenUpByTheSuccessor) {
  ASSERT_THAT(cache_.Start(), IsOk());
  for (int round = 1; round <= 4; ++round) {
    ASSERT_THAT(WritePattern(served().image(), round, 0, 16 * kMiB), IsOk());
    const pid_t daemon = cache_.DaemonPid();
    auto drain = Process::Start({PcachectlPath(), "drain", served().mount()});
    ASSERT_THAT(drain, IsOk());
    // Before it is begun, while it is under way, or after it.
    absl::SleepFor(absl::Milliseconds(5 * round));
    kill(daemon, SIGKILL);

    ASSERT_TRUE((*drain)->WaitFor(absl::Minutes(1)));

    EXPECT_THAT((*drain)->outcome(), Succeeds());
    EXPECT_THAT(CheckPattern(served().backing(), round, 0, 16 * kMiB), IsOk());
    ASSERT_THAT(cache_.AwaitRestarts(round), IsOk());
  }
}

TEST_F(FailoverTest, NobodyElseGetsTheDescriptors) {
  ASSERT_THAT(cache_.Start(), IsOk());
  std::vector<pid_t> pids = ChildrenOf(cache_.supervisor_pid());
  ASSERT_EQ(pids.size(), 2u) << "the daemon and the spare";
  pids.push_back(cache_.supervisor_pid());
  for (const pid_t pid : pids) {
    int held = 0;
    for (const auto& entry : std::filesystem::directory_iterator(
             absl::StrCat("/proc/", pid, "/fd"))) {
      std::error_code error;
      const std::string target =
          std::filesystem::read_symlink(entry.path(), error).string();
      const bool is_ours = target == "/dev/fuse" ||
                           target.find("pcachefs-failover") !=
                               std::string::npos;
      if (!is_ours) continue;
      ++held;
      // No program that it starts has them.
      const std::string info = ContentOf(absl::StrCat(
          "/proc/", pid, "/fdinfo/", entry.path().filename().string()));
      int flags = 0;
      ASSERT_EQ(sscanf(info.c_str(), "pos: %*d flags: %o", &flags), 1);
      EXPECT_TRUE(flags & O_CLOEXEC) << pid << " " << target;
    }
    EXPECT_GE(held, 2) << pid;
    // Nor has another user.
    const pid_t thief = fork();
    if (thief == 0) {
      if (setgid(65534) != 0 || setuid(65534) != 0) _exit(1);
      if (access(absl::StrCat("/proc/", pid, "/fd/0").c_str(), F_OK) == 0) {
        _exit(2);
      }
      const int pid_fd = syscall(SYS_pidfd_open, pid, 0);
      for (int fd = 0; fd < 64; ++fd) {
        if (syscall(SYS_pidfd_getfd, pid_fd, fd, 0) >= 0) _exit(3);
      }
      _exit(0);
    }
    int result = 0;
    ASSERT_EQ(waitpid(thief, &result, 0), thief);
    EXPECT_EQ(result, 0) << pid;
  }
}

// Supervisor and daemon die together, and systemd starts the service again.
TEST_F(FailoverTest, TheServiceManagersStoreOutlivesThemAll) {
  NotifySocket manager;
  setenv("NOTIFY_SOCKET", manager.name().c_str(), 1);
  const absl::Status started = cache_.Start();
  ASSERT_THAT(started, IsOk());
  ASSERT_TRUE(manager.WaitFor("READY=1\n"));
  ASSERT_THAT(WritePattern(served().image(), 1, 0, kMiB), IsOk());
  ASSERT_EQ(ChildrenOf(cache_.supervisor_pid()).size(), 1u) << "no spare";
  const pid_t daemon = cache_.DaemonPid();
  kill(cache_.supervisor_pid(), SIGKILL);
  kill(daemon, SIGKILL);
  std::thread writer([&] {
    EXPECT_THAT(WritePattern(served().image(), 2, kMiB, kMiB), IsOk());
  });
  // ExecStopPost: what is kept is not dead.
  EXPECT_THAT(RunCommand({PcachectlPath(), "clear-mount", served().mount()}),
              Succeeds());
  ASSERT_TRUE(IsMounted(served().mount()));

  std::string script = "exec";
  std::string names;
  int next = 3;
  for (const auto& [name, descriptors] : manager.stored()) {
    for (const int fd : descriptors) {
      absl::StrAppend(&script, " ", next++, "<&", fd);
      absl::StrAppend(&names, names.empty() ? "" : ":", name);
      fcntl(fd, F_SETFD, 0);
    }
  }
  absl::StrAppend(&script, "; export LISTEN_PID=$$ LISTEN_FDS=", next - 3,
                  " LISTEN_FDNAMES=", names, "; exec \"$@\" --foreground");
  std::vector<std::string> command = {"bash", "-c", script, "service"};
  for (const std::string& word : served().Command()) command.push_back(word);
  auto service = Process::Start(command);
  unsetenv("NOTIFY_SOCKET");
  ASSERT_THAT(service, IsOk());
  manager.DropStored();

  writer.join();
  EXPECT_THAT(CheckPattern(served().image(), 1, 0, kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served().image(), 2, kMiB, kMiB), IsOk());
  EXPECT_TRUE(manager.WaitFor("READY=1\n"));
  EXPECT_THAT(served().Control("stop"), Succeeds());
  EXPECT_TRUE((*service)->WaitFor(absl::Minutes(1)));
  EXPECT_THAT((*service)->outcome(), Succeeds());
  EXPECT_TRUE(manager.WaitFor("FDSTOREREMOVE=1\nFDNAME=pcachefs-fuse"));
}

TEST_F(FailoverTest, EndsInGoodOrder) {
  ASSERT_THAT(cache_.Start(), IsOk());
  kill(cache_.supervisor_pid(), SIGTERM);
  EXPECT_EQ(served().WaitForExit(), 0);
  EXPECT_FALSE(IsMounted(served().mount()));

  ASSERT_THAT(cache_.Start(), IsOk());
  ASSERT_THAT(Unmount(served().mount()), IsOk());
  EXPECT_EQ(served().WaitForExit(), 0);

  // In the background, and of a daemon that was killed before.
  ASSERT_THAT(RunCommand(served().Command()), Succeeds());
  ASSERT_THAT(cache_.KillDaemon(), IsOk());
  ASSERT_THAT(cache_.AwaitRestarts(1), IsOk());
  EXPECT_THAT(served().Control("stop"), Succeeds());
  EXPECT_FALSE(IsMounted(served().mount()));
}

TEST_F(FailoverTest, AStartThatFailsSaysWhyOnce) {
  ASSERT_THAT(cache_.Start(), IsOk());
  EXPECT_THAT(served().Stop(), IsOk());
  served().options().flags.push_back("--transport=io_uring");
  EXPECT_THAT(RunCommand(served().Command()),
              RefusesWith(1, HasSubstr("--transport=dev_fuse")));
  served().options().flags.pop_back();
  ASSERT_EQ(truncate(served().backing().c_str(), kMiB), 0);
  EXPECT_THAT(RunCommand(served().Command()),
              RefusesWith(1, HasSubstr("is not its backing device")));
  EXPECT_FALSE(IsMounted(served().mount()));
}

}  // namespace
}  // namespace pcachefs
