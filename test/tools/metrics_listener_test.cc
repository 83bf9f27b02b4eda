#include "tools/metrics_listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"
#include "tools/metrics_address.h"

namespace pcachefs {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr char kRequest[] = "GET /metrics HTTP/1.1\r\n\r\n";

class MetricsListenerTest : public testing::Test {
 protected:
  MetricsListenerTest() {
    std::string name = "/tmp/pcachefs-metrics.XXXXXX";
    directory_ = mkdtemp(name.data());
    address_.kind = MetricsAddress::Kind::kUnix;
    address_.path = directory_ + "/socket";
  }
  ~MetricsListenerTest() override {
    for (const int fd : fds_) close(fd);
    for (const char* name : {"/socket", "/target"}) {
      unlink((directory_ + name).c_str());
    }
    rmdir(directory_.c_str());
  }

  absl::StatusOr<std::unique_ptr<MetricsListener>> Start(
      const MetricsListener::Options& options = {}) {
    return MetricsListener::Start(address_, [this] { return body_; }, options);
  }

  int Connect(const MetricsAddress& address) {
    sockaddr_un unix_name = {};
    unix_name.sun_family = AF_UNIX;
    address.path.copy(unix_name.sun_path, sizeof(unix_name.sun_path) - 1);
    sockaddr_in ip_name = {};
    ip_name.sin_family = AF_INET;
    ip_name.sin_port = htons(address.port);
    ip_name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool is_unix = address.kind == MetricsAddress::Kind::kUnix;
    const int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    fds_.push_back(fd);
    const sockaddr* name = is_unix ? reinterpret_cast<sockaddr*>(&unix_name)
                                   : reinterpret_cast<sockaddr*>(&ip_name);
    const socklen_t size = is_unix ? sizeof(unix_name) : sizeof(ip_name);
    EXPECT_EQ(connect(fd, name, size), 0);
    return fd;
  }
  int Connect() { return Connect(address_); }

  static void Send(int fd, const std::string& text) {
    send(fd, text.data(), text.size(), MSG_NOSIGNAL);
  }
  static std::string ReadToEnd(int fd) {
    std::string text;
    char buffer[65536];
    for (;;) {
      const ssize_t length = read(fd, buffer, sizeof(buffer));
      if (length <= 0) return text;
      text.append(buffer, length);
    }
  }

  std::string directory_;
  MetricsAddress address_;
  std::string body_ = "m 1\n";
  std::vector<int> fds_;
};

TEST_F(MetricsListenerTest, ServesOnAUnixSocket) {
  const auto listener = Start();
  ASSERT_THAT(listener, IsOk());
  struct stat file;
  ASSERT_EQ(lstat(address_.path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0600u);
  const int fd = Connect();
  Send(fd, kRequest);
  EXPECT_THAT(ReadToEnd(fd), EndsWith("\r\n\r\nm 1\n"));
}

TEST_F(MetricsListenerTest, ServesOnAPort) {
  address_ = {};
  const auto listener = Start();
  ASSERT_THAT(listener, IsOk());
  EXPECT_NE((*listener)->address().port, 0);
  const int fd = Connect((*listener)->address());
  Send(fd, kRequest);
  EXPECT_THAT(ReadToEnd(fd), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsListenerTest, APortInUseIsRefused) {
  address_ = {};
  const auto first = Start();
  ASSERT_THAT(first, IsOk());
  address_ = (*first)->address();
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kAlreadyExists,
                                HasSubstr("in use")));
}

TEST_F(MetricsListenerTest, AnAnswerThatFillsTheSocketArrivesWhole) {
  body_ = std::string(8 << 20, 'x');
  const auto listener = Start();
  ASSERT_THAT(listener, IsOk());
  const int fd = Connect();
  // More than the head: closing with it unread must not cost the answer.
  Send(fd, kRequest + std::string(4096, 'b'));
  EXPECT_THAT(ReadToEnd(fd).size(), testing::Gt(body_.size()));
}

TEST_F(MetricsListenerTest, TheFileGoesWithTheListener) {
  { ASSERT_THAT(Start(), IsOk()); }
  EXPECT_NE(access(address_.path.c_str(), F_OK), 0);
}

TEST_F(MetricsListenerTest, AnothersFileStays) {
  auto listener = Start();
  ASSERT_THAT(listener, IsOk());
  unlink(address_.path.c_str());
  std::ofstream(address_.path) << "mine";
  listener->reset();
  EXPECT_EQ(access(address_.path.c_str(), F_OK), 0);
}

TEST_F(MetricsListenerTest, ADeadSocketIsReplaced) {
  const int dead = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  address_.path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  ASSERT_EQ(bind(dead, reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
  close(dead);
  const auto listener = Start();
  ASSERT_THAT(listener, IsOk());
  const int fd = Connect();
  Send(fd, kRequest);
  EXPECT_THAT(ReadToEnd(fd), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsListenerTest, ALivingSocketIsRefused) {
  const auto first = Start();
  ASSERT_THAT(first, IsOk());
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kAlreadyExists,
                                HasSubstr("another process")));
  const int fd = Connect();
  Send(fd, kRequest);
  EXPECT_THAT(ReadToEnd(fd), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsListenerTest, ForeignFilesAndLinksAreRefused) {
  std::ofstream(address_.path) << "mine";
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kAlreadyExists,
                                HasSubstr("no socket")));
  unlink(address_.path.c_str());

  const std::string target = directory_ + "/target";
  ASSERT_EQ(symlink(target.c_str(), address_.path.c_str()), 0);
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kAlreadyExists,
                                HasSubstr("no socket")));
  EXPECT_NE(access(target.c_str(), F_OK), 0);
}

TEST_F(MetricsListenerTest, SilentClientsDoNotKeepOthersOut) {
  const auto listener =
      Start({.max_connections = 2, .timeout = absl::Milliseconds(200)});
  ASSERT_THAT(listener, IsOk());
  Connect();
  Send(Connect(), "GET /met");
  const int fd = Connect();
  Send(fd, kRequest);
  EXPECT_THAT(ReadToEnd(fd), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsListenerTest, EndsWithClientsInEveryState) {
  body_ = std::string(8 << 20, 'x');
  auto listener = Start();
  ASSERT_THAT(listener, IsOk());
  Connect();
  Send(Connect(), "GET");
  const int reading = Connect();
  Send(reading, kRequest);
  char byte;
  ASSERT_EQ(read(reading, &byte, 1), 1);
  close(Connect());
  fds_.pop_back();
  listener->reset();
}

}  // namespace
}  // namespace pcachefs
