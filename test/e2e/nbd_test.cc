// Images whose backing device is an NBD export: nothing is lost when the server
// dies in mid-write and comes back, and what cannot be served is refused with
// one line. What docs/recipes.md says is typed here, too: recipes_test.cc.

#include <signal.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class NbdTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(RequirePrograms({"fio", "nbdkit", "qemu-img", "qemu-nbd"}),
                IsOk());
    served_.options().backing_spec = Uri();
  }

  std::string Uri(const std::string& export_name = "") const {
    return "nbd+unix:///" + export_name + "?socket=" + socket_;
  }

  void StartServer(std::vector<std::string> command) {
    command_ = std::move(command);
    unlink(socket_.c_str());  // of one that was killed
    auto server = Process::Start(command_);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    ASSERT_TRUE(WaitUntil(absl::Minutes(1), [&] {
      return server_->WaitFor(absl::ZeroDuration()) ||
             access(socket_.c_str(), F_OK) == 0;
    }));
    ASSERT_FALSE(server_->WaitFor(absl::Milliseconds(50)))
        << server_->outcome();
  }
  void StartNbdkit(const std::vector<std::string>& arguments) {
    std::vector<std::string> command = {"nbdkit", "--foreground", "--unix",
                                        socket_};
    command.insert(command.end(), arguments.begin(), arguments.end());
    StartServer(command);
  }
  void KillServer() {
    server_->Signal(SIGKILL);
    ASSERT_TRUE(server_->WaitFor(absl::Seconds(20)));
  }

  std::vector<std::string> Fio(const std::vector<std::string>& options) {
    std::vector<std::string> command = {
        "fio", "--name=verify", "--filename=" + served_.image(),
        "--randseed=7", "--rw=randwrite", "--bsrange=4k-64k", "--size=64M",
        "--ioengine=libaio", "--direct=1", "--iodepth=8", "--fsync=64",
        "--verify=crc32c", "--verify_fatal=1",
        "--aux-path=" + served_.directory().path()};
    command.insert(command.end(), options.begin(), options.end());
    return command;
  }

  ServedCache served_{{.backing_size = 64 * kMiB, .cache_size = "128M"}};
  const std::string socket_ = served_.directory().File("nbd");
  std::vector<std::string> command_;
  std::unique_ptr<Process> server_;
};

TEST_F(NbdTest, NothingIsLostWhenTheServerDiesInMidWrite) {
  StartNbdkit({"--filter=delay", "file", served_.backing(), "delay-write=2ms"});
  ASSERT_THAT(served_.Start(), IsOk());

  auto fio = Process::Start(Fio({"--do_verify=0", "--time_based",
                                 "--runtime=8"}));
  ASSERT_THAT(fio, IsOk());
  for (int i = 0; i < 5; ++i) {
    absl::SleepFor(absl::Seconds(1));
    KillServer();
    absl::SleepFor(absl::Milliseconds(200));
    StartServer(command_);
  }
  ASSERT_TRUE((*fio)->WaitFor(absl::Minutes(1)));
  EXPECT_THAT((*fio)->outcome(), Succeeds());
  // Checked through the cache, then on the backing device itself.
  EXPECT_THAT(RunCommand(Fio({"--verify_backlog=0"})), Succeeds());
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckSame(served_.image(), served_.backing()), IsOk());
  const auto status = served_.ImageStatus();
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(status->at("dirty_bytes"), 0);
  EXPECT_EQ(status->at("backing"), Uri());
  EXPECT_THAT(served_.Stop(), IsOk());
}

TEST_F(NbdTest, HitsAndWritesGoOnWithoutTheServer) {
  StartNbdkit({"file", served_.backing()});
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(WritePattern(served_.image(), 1, 0, 8 * kMiB), IsOk());
  KillServer();

  EXPECT_THAT(WritePattern(served_.image(), 2, 0, 4 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 2, 0, 4 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 1, 4 * kMiB, 4 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());

  // Without the server it does not start; with it nothing is lost.
  EXPECT_THAT(RunCommand(served_.Command(), absl::Seconds(30)),
              RefusesWith(1, HasSubstr(socket_)));
  StartServer(command_);
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 2, 0, 4 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served_.backing(), 1, 4 * kMiB, 4 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

TEST_F(NbdTest, ServerThatHangsForAWhileIsWaitedFor) {
  ASSERT_THAT(WritePattern(served_.backing(), 1, 0, served_.size()), IsOk());
  StartNbdkit({"file", served_.backing()});
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(CheckPattern(served_.image(), 1, 0, 4 * kMiB), IsOk());
  server_->Signal(SIGSTOP);

  std::thread reader([&] {
    EXPECT_THAT(CheckPattern(served_.image(), 1, 48 * kMiB, 4 * kMiB), IsOk());
  });
  EXPECT_THAT(WritePattern(served_.image(), 2, 8 * kMiB, 16 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 1, 0, 4 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 2, 8 * kMiB, 16 * kMiB), IsOk());
  absl::SleepFor(absl::Seconds(2));
  server_->Signal(SIGCONT);
  reader.join();

  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 2, 8 * kMiB, 16 * kMiB), IsOk());
  EXPECT_THAT(CheckSame(served_.image(), served_.backing()), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

TEST_F(NbdTest, KnownImageComesBackWithoutBeingNamed) {
  StartNbdkit({"file", served_.backing()});
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(WritePattern(served_.image(), 1, 0, kMiB), IsOk());
  ASSERT_THAT(served_.Stop(), IsOk());

  ASSERT_THAT(RunCommand({PcachefsPath(), "--cache=" + served_.cache(),
                          served_.mount()}),
              Succeeds());

  EXPECT_THAT(CheckPattern(served_.image(), 1, 0, kMiB), IsOk());
  EXPECT_THAT(served_.Control("stop", {"--drain"}), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 1, 0, kMiB), IsOk());
}

TEST_F(NbdTest, QcowIsServed) {
  const std::string qcow = served_.directory().File("disk.qcow2");
  ASSERT_THAT(RunCommand({"qemu-img", "create", "-f", "qcow2", qcow, "64M"}),
              Succeeds());
  StartServer({"qemu-nbd", "--persistent", "--shared=8", "--format=qcow2",
               "--discard=unmap", "--socket=" + socket_, qcow});
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(WritePattern(served_.image(), 1, 3 * kMiB, 16 * kMiB), IsOk());
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  const std::string copy = served_.directory().File("copy");
  ASSERT_THAT(RunCommand({"cp", served_.image(), copy}), Succeeds());
  ASSERT_THAT(served_.Stop(), IsOk());
  KillServer();

  EXPECT_THAT(RunCommand({"qemu-img", "compare", "-f", "raw", "-F", "qcow2",
                          copy, qcow}),
              Succeeds());
  EXPECT_THAT(RunCommand({"qemu-img", "check", qcow}), Succeeds());
}

class BadNbdTest : public NbdTest {
 protected:
  void ExpectRefusal(testing::Matcher<std::string> line) {
    EXPECT_THAT(RunCommand(served_.Command(), absl::Seconds(30)),
                RefusesWith(1, line));
    EXPECT_FALSE(IsMounted(served_.mount()));
  }
};

TEST_F(BadNbdTest, BadUri) {
  for (const std::string uri :
       {"nbd://", "nbd:///disk", "nbd+unix:///disk", "nbd://host:99999/"}) {
    served_.options().backing_spec = uri;
    ExpectRefusal(AllOf(HasSubstr(uri), HasSubstr("want")));
  }
}

TEST_F(BadNbdTest, NobodyThere) {
  ExpectRefusal(AllOf(HasSubstr(Uri()), HasSubstr("No such file")));
  served_.options().backing_spec = "nbd://127.0.0.1:1/disk";
  ExpectRefusal(HasSubstr("Connection refused"));
}

TEST_F(BadNbdTest, ExportMissing) {
  StartServer({"qemu-nbd", "--persistent", "--format=raw",
               "--export-name=disk", "--socket=" + socket_,
               served_.backing()});
  served_.options().backing_spec = Uri("dusk");
  ExpectRefusal(HasSubstr("dusk"));
}

TEST_F(BadNbdTest, ReadOnlyExport) {
  StartNbdkit({"--readonly", "file", served_.backing()});
  ExpectRefusal(AllOf(HasSubstr(Uri()), HasSubstr("read-only")));
}

TEST_F(BadNbdTest, SizeChanged) {
  StartNbdkit({"file", served_.backing()});
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(WritePattern(served_.image(), 1, 0, kMiB), IsOk());
  ASSERT_THAT(served_.Stop(), IsOk());
  ASSERT_EQ(truncate(served_.backing().c_str(), 32 * kMiB), 0);

  ExpectRefusal(AllOf(HasSubstr("33554432"), HasSubstr("67108864")));

  ASSERT_EQ(truncate(served_.backing().c_str(), 64 * kMiB), 0);
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 1, 0, kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

TEST_F(BadNbdTest, AnotherExport) {
  StartNbdkit({"file", served_.backing()});
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(served_.Stop(), IsOk());
  served_.options().backing_spec = Uri("other");
  ExpectRefusal(AllOf(HasSubstr("export=other"), HasSubstr("name the right")));
}

TEST_F(BadNbdTest, ServedByAnotherCacheAlready) {
  StartNbdkit({"file", served_.backing()});
  ASSERT_THAT(served_.Start(), IsOk());
  ServedCache other({.backing_size = kMiB});
  EXPECT_THAT(
      RunCommand({PcachefsPath(), "--cache=" + other.cache(),
                  "--cache_size=64M", "--backing=disk=" + Uri(), other.mount()},
                 absl::Seconds(30)),
      RefusesWith(1, AllOf(HasSubstr(Uri()), HasSubstr("in use"))));
}

}  // namespace
}  // namespace pcachefs
