// Proves what a backing device over NBD tells of its server, what it asks of it
// and which servers it refuses. nbd_servers_test.cc: the same work on all kinds of
// servers; nbd_outage_test.cc: dying ones.

#include "iobackend/nbd_backing_device.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <chrono>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/open_device.h"
#include "meta/units.h"
#include "test/iobackend/nbd_device_fixture.h"
#include "test/iobackend/nbd_server.h"
#include "test/iobackend/test_files.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Operation = BackingRequest::Operation;

class NbdBackingDeviceTest : public NbdDeviceFixture {
 protected:
  void SetUp() override { MakeSparseFile(file_, kSize); }
};

TEST_F(NbdBackingDeviceTest, LimitsAreWhatTheServerSays) {
  server_.StartNbdkit({"--filter=blocksize-policy", "file", file_,
                       "blocksize-minimum=8192", "blocksize-preferred=8192",
                       "blocksize-maximum=65536"});
  ASSERT_THAT(Open(), IsOk());

  EXPECT_EQ(device_->size(), kSize);
  EXPECT_EQ(device_->limits().min_block, 8192);
  EXPECT_EQ(device_->limits().max_transfer, 65536);
  EXPECT_EQ(device_->block_size(), kBlockSize);
  EXPECT_TRUE(device_->limits().can_multi_conn);
  EXPECT_EQ(device_->identity().kind, BackingKind::kNbd);
  EXPECT_EQ(device_->identity().size, kSize);
  EXPECT_EQ(device_->identity().text,
            "unix=" + server_.socket_path() + ",export=");
  EXPECT_EQ(device_->spec(), server_.uri());
  const auto identity = IdentifyBackingDevice(server_.uri());
  EXPECT_THAT(identity, IsOkAndHolds(device_->identity()));
}

TEST_F(NbdBackingDeviceTest, DiscardGivesSpaceBackAndZeroDoesNot) {
  server_.StartNbdkit({"file", file_});
  ASSERT_THAT(Open(), IsOk());
  auto bytes = Pattern(kSize, 1);
  ASSERT_THAT(Write(0, bytes), IsOk());

  ASSERT_THAT(Run(Operation::kDiscard, 0, 2 * kMiB), IsOk());
  ASSERT_THAT(Run(Operation::kZero, 4 * kMiB, kMiB), IsOk());
  ASSERT_THAT(Flush(), IsOk());

  struct stat status;
  ASSERT_EQ(stat(file_.c_str(), &status), 0);
  EXPECT_LE(status.st_blocks * 512, int64_t{kSize - 2 * kMiB + 64 * kKiB});
  EXPECT_GE(status.st_blocks * 512, int64_t{kSize - 2 * kMiB});
}

TEST_F(NbdBackingDeviceTest, AllocationIsEstimated) {
  server_.StartNbdkit({"file", file_});
  ASSERT_THAT(Open(), IsOk());
  EXPECT_EQ(device_->allocated_bytes(), 0);
  auto bytes = Pattern(kMiB, 1);
  ASSERT_THAT(Write(0, bytes), IsOk());
  ASSERT_THAT(Flush(), IsOk());

  device_.reset();
  ASSERT_THAT(Open(), IsOk());

  EXPECT_EQ(device_->allocated_bytes(), kMiB);
}

TEST_F(NbdBackingDeviceTest, MemoryOfTheServerIsADevice) {
  server_.StartNbdkit({"memory", "size=8M"});
  ASSERT_THAT(Open(), IsOk());
  auto bytes = Pattern(kMiB, 1);
  std::vector<std::byte> out(kMiB);

  ASSERT_THAT(Write(512, bytes), IsOk());
  ASSERT_THAT(Read(512, out), IsOk());

  EXPECT_TRUE(SameBytes(out, bytes));
}

TEST_F(NbdBackingDeviceTest, TlsIsSpokenAndItsOptionsAreNoPartOfTheIdentity) {
  const std::string keys = directory_.File("keys");
  std::ofstream(keys) << "alice:" << std::string(64, 'a') << "\n";
  server_.StartNbdkit({"--tls=require", "--tls-psk=" + keys, "file", file_});
  const std::string uri = "nbds+unix://alice@/?socket=" +
                          server_.socket_path() + "&tls-psk-file=";

  auto device = NbdBackingDevice::Open(uri + keys, options_);

  ASSERT_THAT(device, IsOk());
  EXPECT_EQ((*device)->identity().text,
            "unix=" + server_.socket_path() + ",export=");
  auto bytes = Pattern(kMiB, 1);
  std::vector<std::byte> out(kMiB);
  EXPECT_THAT(SubmitAndWait(**device, Request(Operation::kWrite, 0, bytes)),
              IsOk());
  EXPECT_THAT(SubmitAndWait(**device, Request(Operation::kRead, 0, out)),
              IsOk());
  EXPECT_TRUE(SameBytes(out, bytes));
  device->reset();

  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kUnavailable,
                               HasSubstr("TLS")));
  const std::string wrong = directory_.File("wrong");
  std::ofstream(wrong) << "alice:" << std::string(64, 'b') << "\n";
  EXPECT_FALSE(NbdBackingDevice::Open(uri + wrong, options_).ok());
}

// A port that nobody has for now.
int FreePort() {
  const FileDescriptor file(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(bind(file.get(), generic, length), 0);
  EXPECT_EQ(getsockname(file.get(), generic, &length), 0);
  return ntohs(address.sin_port);
}

TEST_F(NbdBackingDeviceTest, TcpServersAreDevices) {
  const int port = FreePort();
  server_.StartTcp(port, {"file", file_});
  const std::string uri = "nbd://127.0.0.1:" + std::to_string(port) + "/";

  auto device = NbdBackingDevice::Open(uri, options_);
  for (int i = 0; i < 6000 && !device.ok(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    device = NbdBackingDevice::Open(uri, options_);
  }

  ASSERT_THAT(device, IsOk());
  EXPECT_EQ((*device)->identity().text,
            "tcp=127.0.0.1:" + std::to_string(port) + ",export=");
  auto bytes = Pattern(kMiB, 1);
  EXPECT_THAT(SubmitAndWait(**device, Request(Operation::kWrite, 0, bytes)),
              IsOk());
  const std::vector<std::byte> contents = FileContents();
  EXPECT_TRUE(SameBytes(std::span(contents).first(kMiB), bytes));
}

TEST_F(NbdBackingDeviceTest, QcowIsADevice) {
  const std::string qcow = directory_.File("qcow");
  ASSERT_EQ(std::system(("qemu-img create -q -f qcow2 " + qcow + " 64M").c_str()),
            0);
  server_.StartQemu({"--format=qcow2", "--discard=unmap", qcow});
  ASSERT_THAT(Open(), IsOk());
  auto bytes = Pattern(kMiB, 1);
  std::vector<std::byte> out(kMiB);

  ASSERT_THAT(Write(32 * kMiB + 512, bytes), IsOk());
  ASSERT_THAT(Flush(), IsOk());
  ASSERT_THAT(Read(32 * kMiB + 512, out), IsOk());

  EXPECT_TRUE(SameBytes(out, bytes));
  EXPECT_THAT(device_->FindExtent(0)->is_hole, true);
  EXPECT_THAT(device_->FindExtent(32 * kMiB + 4096)->is_hole, false);
}

TEST_F(NbdBackingDeviceTest, ServerWithoutFlushIsTakenAtItsWord) {
  server_.StartNbdkit({"eval", "get_size=echo 1M",
                       "pread=dd if=/dev/zero bs=$3 count=1", "pwrite=cat >/dev/null",
                       "can_write=exit 0", "can_flush=exit 3"});
  ASSERT_THAT(Open(), IsOk());
  EXPECT_FALSE(device_->limits().can_flush);
  auto bytes = Pattern(4096, 1);

  // Again and again, for whether somebody was awake to answer was a race.
  for (int i = 0; i < 30; ++i) {
    EXPECT_THAT(Write(0, bytes), IsOk());
    EXPECT_THAT(Flush(), IsOk());
    EXPECT_THAT(Flush(), IsOk());
  }
}

TEST_F(NbdBackingDeviceTest, ErrorsNameOperationPlaceAndCause) {
  server_.StartNbdkit({"--filter=error", "file", file_, "error-pwrite=EIO",
                       "error-pwrite-rate=100%",
                       "error-pwrite-file=" + directory_.File("fail")});
  ASSERT_THAT(Open(), IsOk());
  auto bytes = Pattern(4096, 1);
  ASSERT_THAT(Write(8192, bytes), IsOk());
  std::ofstream(directory_.File("fail")) << "x";

  EXPECT_THAT(Write(8192, bytes),
              StatusIs(absl::StatusCode::kUnavailable,
                       server_.uri() + ": write of 4096 bytes at offset 8192: "
                                       "Input/output error"));

  // It is not a lost connection.
  EXPECT_THAT(Read(8192, bytes), IsOk());
  EXPECT_THAT(Flush(), IsOk());
}

TEST_F(NbdBackingDeviceTest, FullServerIsExhausted) {
  server_.StartNbdkit({"full", "size=1M"});
  ASSERT_THAT(Open(), IsOk());
  auto bytes = Pattern(4096, 1);

  EXPECT_THAT(Write(0, bytes), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(Read(0, bytes), IsOk());
}

TEST_F(NbdBackingDeviceTest, SlowServerIsWaitedForWhileItAnswers) {
  // 4 MiB of writes at 1 MiB per second: longer than the deadline. Into memory,
  // for what a medium takes is nobody's to say.
  server_.StartNbdkit({"--filter=rate", "--threads=4", "memory", "size=8M",
                       "rate=8388608", "burstiness=0.1"});
  options_.connections = 1;
  options_.queue_depth = 4;
  options_.times.deadline = absl::Seconds(2);
  ASSERT_THAT(Open(), IsOk());
  auto bytes = Pattern(4 * kMiB, 1);
  std::vector<BackingRequest> requests;
  Countdown done(64);
  for (uint64_t i = 0; i < 64; ++i) {
    requests.push_back(
        Request(Operation::kWrite, i * 64 * kKiB,
                std::span(bytes).subspan(i * 64 * kKiB, 64 * kKiB)));
    requests.back().done = done.Done();
  }

  device_->Submit(std::move(requests), Submission::kDirect);

  EXPECT_THAT(done.Wait(), IsOk());
}

TEST_F(NbdBackingDeviceTest, MoreRequestsThanTheQueueHoldsAllComplete) {
  server_.StartNbdkit({"file", file_});
  options_.connections = 1;
  options_.queue_depth = 2;
  ASSERT_THAT(Open(), IsOk());
  for (const Submission submission :
       {Submission::kDirect, Submission::kQueued}) {
    constexpr int kRequests = 1000;
    auto bytes = Pattern(kRequests * 512, 1);
    Countdown done(kRequests);
    for (uint64_t i = 0; i < kRequests; ++i) {
      BackingRequest write = Request(Operation::kWrite, i * 512,
                                     std::span(bytes).subspan(i * 512, 512));
      write.done = done.Done();
      SubmitOne(std::move(write), submission);
    }
    EXPECT_THAT(done.Wait(), IsOk());
  }
}

TEST_F(NbdBackingDeviceTest, GrowthIsSeenByRefresh) {
  server_.StartNbdkit({"file", file_});
  ASSERT_THAT(Open(), IsOk());
  auto bytes = Pattern(512, 1);
  ASSERT_EQ(truncate(file_.c_str(), kSize + kMiB), 0);
  EXPECT_THAT(Write(kSize, bytes), StatusIs(absl::StatusCode::kOutOfRange));

  ASSERT_THAT(device_->Refresh(), IsOk());

  EXPECT_EQ(device_->size(), kSize + kMiB);
  EXPECT_THAT(Write(kSize, bytes), IsOk());
  ASSERT_EQ(truncate(file_.c_str(), kSize), 0);
  EXPECT_THAT(device_->Refresh(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(std::to_string(kSize)),
                             HasSubstr(std::to_string(kSize + kMiB)))));
}

TEST_F(NbdBackingDeviceTest, ReadOnlyExportsAreForReaders) {
  auto bytes = Pattern(512, 1);
  server_.StartNbdkit({"--readonly", "file", file_});

  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kPermissionDenied,
                               AllOf(HasSubstr(server_.uri()),
                                     HasSubstr("attach it read-only"))));
  options_.read_only = true;
  ASSERT_THAT(Open(), IsOk());
  EXPECT_TRUE(device_->is_read_only());
  EXPECT_THAT(Read(0, bytes), IsOk());
  EXPECT_THAT(Write(0, bytes), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(NbdBackingDeviceTest, OneWriterManyReaders) {
  server_.StartNbdkit({"file", file_});
  ASSERT_THAT(Open(), IsOk());

  EXPECT_THAT(
      OpenBackingDevice(server_.uri(), {}),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               AllOf(HasSubstr(server_.uri()), HasSubstr("in use"))));
  auto first = OpenBackingDevice(server_.uri(), {.read_only = true});
  EXPECT_THAT(first, IsOk());
  EXPECT_THAT(OpenBackingDevice(server_.uri(), {.read_only = true}), IsOk());
  device_.reset();
  EXPECT_THAT(Open(), IsOk());
}

TEST_F(NbdBackingDeviceTest, ExportThatIsNotThereIsNamed) {
  server_.StartQemu({"--format=raw", "--export-name=disk", file_});

  EXPECT_THAT(OpenBackingDevice(server_.uri("dusk"), {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("dusk")));
  EXPECT_THAT(OpenBackingDevice(server_.uri("disk"), {}), IsOk());
}

TEST_F(NbdBackingDeviceTest, NobodyThereIsSaid) {
  EXPECT_THAT(OpenBackingDevice(server_.uri(), {}),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr(server_.socket_path()),
                             HasSubstr("No such file"))));
  EXPECT_THAT(OpenBackingDevice("nbd://127.0.0.1:1/disk", {}),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("127.0.0.1:1"),
                             HasSubstr("Connection refused"))));
  EXPECT_THAT(OpenBackingDevice("nbd+unix:///disk", {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(NbdBackingDeviceTest, ServerThatDoesNotAnswerIsGivenUp) {
  server_.StartNbdkit({"file", file_});
  server_.Freeze();
  const auto patience = options_.times;
  options_.times.connect = absl::Milliseconds(200);

  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kUnavailable,
                               HasSubstr("does not answer")));
  server_.Thaw();
  options_.times = patience;
  EXPECT_THAT(Open(), IsOk());
}

TEST_F(NbdBackingDeviceTest, WrongSizesAreRefused) {
  for (const uint64_t size : {0, 513}) {
    ASSERT_EQ(truncate(file_.c_str(), size), 0);
    server_.StartNbdkit({"file", file_});
    EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                                 HasSubstr(std::to_string(size) + " bytes")));
    server_.Kill();
  }
}

}  // namespace
}  // namespace pcachefs
