// Proves that a server which dies, hangs or comes back as another costs nothing
// that was promised: nbd_queue.h says why.

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/nbd_backing_device.h"
#include "meta/units.h"
#include "test/iobackend/nbd_device_fixture.h"
#include "test/iobackend/nbd_server.h"
#include "test/iobackend/test_files.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

class NbdOutageTest : public NbdDeviceFixture,
                      public ::testing::WithParamInterface<int> {
 protected:
  void SetUp() override {
    MakeSparseFile(file_, kSize);
    options_.times.retry_first = absl::Milliseconds(20);
    // However long a server takes to start, it is soon found.
    options_.times.retry_last = absl::Milliseconds(100);
    options_.connections = GetParam();
  }

  // The file plugin of nbdkit.
  void StartAndOpen(const std::vector<std::string>& filters = {},
                    const std::vector<std::string>& settings = {}) {
    std::vector<std::string> arguments = filters;
    arguments.insert(arguments.end(), {"file", file_});
    arguments.insert(arguments.end(), settings.begin(), settings.end());
    server_.StartNbdkit(arguments);
    ASSERT_THAT(Open(), IsOk());
  }

  void StartAndOpenPausable() {
    unlink(control_.c_str());
    StartAndOpen({"--filter=pause"}, {"pause-control=" + control_});
  }
  // 'p': requests hang from now on; 'r': they go on.
  void Control(char command) {
    const FileDescriptor pause = ConnectTo(control_);
    ASSERT_TRUE(pause.is_open());
    char answer = 0;
    ASSERT_EQ(write(pause.get(), &command, 1), 1);
    ASSERT_EQ(read(pause.get(), &answer, 1), 1);
    ASSERT_EQ(answer, command - 'a' + 'A');
  }

  static void Sleep(int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  }

  const std::string control_ = directory_.File("pause");
};

// As writeback does it: what comes after a failure is everything again.
TEST_P(NbdOutageTest, NothingIsLostWhenTheServerDiesInMidWrite) {
  ASSERT_NO_FATAL_FAILURE(
      StartAndOpen({"--filter=delay"}, {"delay-write=5ms"}));
  for (int round = 0; round < 6; ++round) {
    auto bytes = Pattern(kSize, round);
    bool is_durable = false;
    for (int attempt = 0; attempt < 5 && !is_durable; ++attempt) {
      constexpr uint64_t kLength = 16 * kKiB;
      Countdown written(kSize / kLength);
      const auto submit = [&](uint64_t begin, uint64_t end) {
        std::vector<BackingRequest> requests;
        for (uint64_t offset = begin; offset < end; offset += kLength) {
          requests.push_back(
              Request(Operation::kWrite, offset,
                      std::span(bytes).subspan(offset, kLength)));
          requests.back().done = written.Done();
        }
        device_->Submit(std::move(requests), Submission::kQueued);
      };
      submit(0, kSize / 2);
      if (attempt == 0) {
        written.WaitUntilLeft(kSize / kLength - 20);
        // So that it does not end before it dies.
        server_.Freeze();
      }
      submit(kSize / 2, kSize);
      if (attempt == 0) {
        EXPECT_FALSE(written.is_over());
        server_.Kill();
        Sleep(30);
        server_.Restart();
      }
      // What was in flight is sent again by the device.
      ASSERT_THAT(written.Wait(), IsOk());
      is_durable = Flush().ok();
      if (attempt == 0) {
        EXPECT_FALSE(is_durable) << "writes of the dead server were trusted";
      }
    }
    ASSERT_TRUE(is_durable);
    ASSERT_TRUE(SameBytes(FileContents(), bytes)) << round;
  }
}

TEST_P(NbdOutageTest, FlushAfterALossFailsOnce) {
  ASSERT_NO_FATAL_FAILURE(StartAndOpen());
  auto bytes = Pattern(4096, 1);
  ASSERT_THAT(Write(0, bytes), IsOk());
  server_.Kill();
  server_.Restart();

  EXPECT_THAT(Flush(),
              StatusIs(kUnavailable, AllOf(HasSubstr(server_.uri()),
                                           HasSubstr("write them again"))));

  EXPECT_THAT(Write(0, bytes), IsOk());
  EXPECT_THAT(Flush(), IsOk());
}

TEST_P(NbdOutageTest, FlushOnTheWayWhenTheServerDiesFails) {
  ASSERT_NO_FATAL_FAILURE(StartAndOpen());
  auto bytes = Pattern(4096, 1);
  ASSERT_THAT(Write(0, bytes), IsOk());
  server_.Freeze();
  BackingRequest flush = Request(Operation::kFlush, 0, {});
  BackingRequest waiting = Request(Operation::kFlush, 0, {});
  Countdown first(1), second(1);
  flush.done = first.Done();
  waiting.done = second.Done();
  SubmitOne(std::move(flush), Submission::kQueued);
  SubmitOne(std::move(waiting), Submission::kQueued);
  Sleep(50);
  EXPECT_FALSE(first.is_over());

  server_.Kill();
  server_.Restart();

  EXPECT_THAT(first.Wait(), StatusIs(kUnavailable));
  EXPECT_THAT(second.Wait(), StatusIs(kUnavailable));
  EXPECT_THAT(Write(0, bytes), IsOk());
  EXPECT_THAT(Flush(), IsOk());
}

TEST_P(NbdOutageTest, LossOfAnIdleConnectionWithNothingToLoseIsNothing) {
  ASSERT_NO_FATAL_FAILURE(StartAndOpen());
  auto bytes = Pattern(4096, 1);
  ASSERT_THAT(Write(0, bytes), IsOk());
  ASSERT_THAT(Flush(), IsOk());

  server_.Kill();
  server_.Restart();

  EXPECT_THAT(Flush(), IsOk());
  EXPECT_THAT(Read(0, bytes), IsOk());
  EXPECT_THAT(Write(0, bytes), IsOk());
  EXPECT_THAT(Flush(), IsOk());
}

TEST_P(NbdOutageTest, RequestsWaitForTheServerToComeBack) {
  ASSERT_NO_FATAL_FAILURE(StartAndOpen());
  server_.Kill();
  auto bytes = Pattern(4096, 1);
  std::vector<std::byte> out(4096);
  Countdown done(300);
  for (uint64_t i = 0; i < 300; ++i) {
    // Direct ones too do not wait for room: nobody makes any.
    BackingRequest request =
        Request(Operation::kWrite, i * 4096, std::span(bytes));
    request.done = done.Done();
    SubmitOne(std::move(request), Submission::kDirect);
  }
  Sleep(100);
  EXPECT_FALSE(done.is_over());

  server_.Restart();

  EXPECT_THAT(done.Wait(), IsOk());
  ASSERT_THAT(Read(299 * 4096, out), IsOk());
  EXPECT_TRUE(SameBytes(out, bytes));
}

TEST_P(NbdOutageTest, RequestsFailWhenTheServerStaysAway) {
  options_.times.deadline = absl::Milliseconds(200);
  ASSERT_NO_FATAL_FAILURE(StartAndOpen());
  auto bytes = Pattern(4096, 1);
  server_.Kill();

  EXPECT_THAT(Write(8192, bytes),
              StatusIs(kUnavailable,
                       AllOf(HasSubstr("write of 4096 bytes at offset 8192"),
                             HasSubstr("200ms"))));
  EXPECT_THAT(Read(0, bytes), StatusIs(kUnavailable));
  EXPECT_FALSE(device_->FindExtent(0).ok());

  server_.Restart();
  absl::Status status;
  for (int i = 0; i < 50; ++i) {
    status = Read(0, bytes);
    if (status.ok()) break;
  }
  EXPECT_THAT(status, IsOk());
}

TEST_P(NbdOutageTest, DestructionDoesNotWaitForAServerThatIsGone) {
  ASSERT_NO_FATAL_FAILURE(StartAndOpen());
  server_.Kill();
  auto bytes = Pattern(4096, 1);
  Countdown done(1);
  BackingRequest write = Request(Operation::kWrite, 0, bytes);
  write.done = done.Done();
  SubmitOne(std::move(write), Submission::kQueued);
  Sleep(50);

  device_.reset();

  EXPECT_TRUE(done.is_over());
  EXPECT_THAT(done.Wait(), StatusIs(kUnavailable));
}

TEST_P(NbdOutageTest, ServerThatHangsIsLeft) {
  options_.times.deadline = absl::Milliseconds(300);
  options_.times.connect = absl::Seconds(1);
  ASSERT_NO_FATAL_FAILURE(StartAndOpen());
  auto bytes = Pattern(4096, 1);
  server_.Freeze();

  EXPECT_THAT(Write(0, bytes),
              StatusIs(kUnavailable, HasSubstr("does not answer")));
  // The buffer is the caller's again, whatever the server does with its copy.
  std::fill(bytes.begin(), bytes.end(), std::byte{0});

  server_.Thaw();
  absl::Status status;
  for (int i = 0; i < 50; ++i) {
    status = Write(4096, bytes);
    if (status.ok()) break;
  }
  EXPECT_THAT(status, IsOk());
}

TEST_P(NbdOutageTest, PausedServerGoesOnWithNothingLost) {
  ASSERT_NO_FATAL_FAILURE(StartAndOpenPausable());
  ASSERT_NO_FATAL_FAILURE(Control('p'));
  auto bytes = Pattern(kSize, 1);
  Countdown done(1);
  BackingRequest write_request = Request(Operation::kWrite, 0, bytes);
  write_request.done = done.Done();
  SubmitOne(std::move(write_request), Submission::kQueued);
  Sleep(100);
  EXPECT_FALSE(done.is_over());

  ASSERT_NO_FATAL_FAILURE(Control('r'));

  EXPECT_THAT(done.Wait(), IsOk());
  EXPECT_THAT(Flush(), IsOk());
  EXPECT_TRUE(SameBytes(FileContents(), bytes));
}

TEST_P(NbdOutageTest, ServerThatComesBackSmallerIsNotTrusted) {
  options_.times.deadline = absl::Seconds(3);
  ASSERT_NO_FATAL_FAILURE(StartAndOpen());
  server_.Kill();
  ASSERT_EQ(truncate(file_.c_str(), kMiB), 0);
  server_.Restart();
  auto bytes = Pattern(4096, 1);

  EXPECT_THAT(Write(0, bytes),
              StatusIs(kUnavailable,
                       AllOf(HasSubstr("came back as another"),
                             HasSubstr(std::to_string(kMiB)),
                             HasSubstr(std::to_string(kSize)))));

  // The right one again.
  server_.Kill();
  ASSERT_EQ(truncate(file_.c_str(), kSize), 0);
  server_.Restart();
  absl::Status status;
  for (int i = 0; i < 50; ++i) {
    status = Write(0, bytes);
    if (status.ok()) break;
  }
  EXPECT_THAT(status, IsOk());
}

// The server of the edges' blocks dies between their read and their write.
TEST_P(NbdOutageTest, PartsOfBlocksSurviveTheServersDeath) {
  ASSERT_NO_FATAL_FAILURE(StartAndOpen(
      {"--filter=blocksize-policy", "--filter=delay"},
      {"blocksize-minimum=4096", "blocksize-preferred=4096",
       "blocksize-maximum=65536", "blocksize-error-policy=error",
       "delay-write=10ms", "delay-read=10ms"}));
  auto expected = Pattern(kMiB, 1);
  Countdown done(kMiB / 512);
  std::vector<BackingRequest> requests;
  for (uint64_t offset = 0; offset < kMiB; offset += 512) {
    requests.push_back(Request(Operation::kWrite, offset,
                               std::span(expected).subspan(offset, 512)));
    requests.back().done = done.Done();
  }
  device_->Submit(std::move(requests), Submission::kQueued);
  for (int i = 0; i < 3; ++i) {
    Sleep(50);
    server_.Kill();
    server_.Restart();
  }

  ASSERT_THAT(done.Wait(), IsOk());

  std::vector<std::byte> out(kMiB);
  ASSERT_THAT(Read(0, out), IsOk());
  EXPECT_TRUE(SameBytes(out, expected));
}

TEST_P(NbdOutageTest, QemuIsFoundAgain) {
  server_.StartQemu({"--format=raw", file_});
  ASSERT_THAT(Open(), IsOk());
  auto bytes = Pattern(kMiB, 1);
  ASSERT_THAT(Write(0, bytes), IsOk());
  server_.Kill();
  server_.Restart();
  ASSERT_THAT(Flush(), StatusIs(kUnavailable));

  ASSERT_THAT(Write(0, bytes), IsOk());
  ASSERT_THAT(Flush(), IsOk());

  const std::vector<std::byte> contents = FileContents();
  EXPECT_TRUE(SameBytes(std::span(contents).first(kMiB), bytes));
}

INSTANTIATE_TEST_SUITE_P(Connections, NbdOutageTest, ::testing::Values(1, 4));

}  // namespace
}  // namespace pcachefs
