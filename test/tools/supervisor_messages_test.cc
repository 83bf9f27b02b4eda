// What supervisor and daemon say arrives as it was said, descriptors included,
// and the end of one is heard by the other.

#include "tools/supervisor_messages.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"
#include "tools/supervisor.h"
#include "tools/supervisor_link.h"

namespace pcachefs {
namespace {

class SupervisorMessagesTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_), 0);
  }
  void TearDown() override {
    for (const int end : ends_) close(end);
  }

  int ends_[2];
};

TEST_F(SupervisorMessagesTest, WordsNumbersAndTextArrive) {
  ASSERT_TRUE(SendSupervisorMessage(ends_[0], SupervisorWord::kUpgrade, 7,
                                    "/usr/bin/pcachefs"));
  ASSERT_TRUE(SendSupervisorMessage(ends_[0], SupervisorWord::kReady));
  auto message = ReceiveSupervisorMessage(ends_[1]);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->word, SupervisorWord::kUpgrade);
  EXPECT_EQ(message->number, 7u);
  EXPECT_EQ(message->text, "/usr/bin/pcachefs");
  message = ReceiveSupervisorMessage(ends_[1]);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->word, SupervisorWord::kReady);
  EXPECT_EQ(message->text, "");
}

TEST_F(SupervisorMessagesTest, LongTextIsCutAndNotLost) {
  ASSERT_TRUE(SendSupervisorMessage(ends_[0], SupervisorWord::kFailed, 0,
                                    std::string(100'000, 'x')));
  const auto message = ReceiveSupervisorMessage(ends_[1]);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->text, std::string(4096, 'x'));
}

TEST_F(SupervisorMessagesTest, DescriptorsArriveAndAreNotInherited) {
  const int sent[] = {ends_[0], ends_[1]};
  ASSERT_TRUE(SendSupervisorMessage(ends_[0], SupervisorWord::kHold, 0, "",
                                    sent));
  const auto message = ReceiveSupervisorMessage(ends_[1]);
  ASSERT_TRUE(message.has_value());
  ASSERT_EQ(message->descriptors.size(), 2u);
  for (const int fd : message->descriptors) {
    EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
  }
}

TEST_F(SupervisorMessagesTest, TheEndOfTheOtherIsHeard) {
  close(ends_[0]);
  EXPECT_FALSE(ReceiveSupervisorMessage(ends_[1]).has_value());
  EXPECT_FALSE(SendSupervisorMessage(ends_[1], SupervisorWord::kReady));
  ends_[0] = dup(ends_[1]);
}

TEST(SupervisorPassageTest, ParsesWhatItSays) {
  SupervisorPassage passage;
  passage.link = 5;
  passage.state = 6;
  passage.is_standby = true;
  passage.has_manager = true;
  passage.watchdog_us = 30'000'000;
  passage.channels = {7, 8};
  const auto parsed = SupervisorPassage::Parse(passage.ToText());
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(parsed->ToText(), passage.ToText());
  EXPECT_EQ(parsed->channels, passage.channels);
  for (const char* text : {"", "5", "5:6:1:0:1:0:7,x", "a:6:1:0:1:0:7"}) {
    EXPECT_THAT(SupervisorPassage::Parse(text),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  }
}

TEST(KernelKeepsRequestsTest, Since69) {
  for (const char* release : {"6.9.0", "6.18.44-fc", "7.0-rc1"}) {
    EXPECT_TRUE(KernelKeepsRequests(release)) << release;
  }
  for (const char* release : {"6.1.0-56-cloud-amd64", "5.15", "6.8.12", "x"}) {
    EXPECT_FALSE(KernelKeepsRequests(release)) << release;
  }
}

}  // namespace
}  // namespace pcachefs
