#include "tools/metrics_address.h"

#include <unistd.h>

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;
using Kind = MetricsAddress::Kind;

TEST(MetricsAddress, LoopbackWithAPort) {
  for (const char* text : {"127.0.0.1:9723", "localhost:9723"}) {
    const auto address = ParseMetricsAddress(text);
    ASSERT_THAT(address, IsOk()) << text;
    EXPECT_EQ(address->kind, Kind::kIpv4);
    EXPECT_EQ(address->port, 9723);
    EXPECT_EQ(address->ToString(), "127.0.0.1:9723");
  }
  const auto address = ParseMetricsAddress("[::1]:65535");
  ASSERT_THAT(address, IsOk());
  EXPECT_EQ(address->kind, Kind::kIpv6);
  EXPECT_EQ(address->ToString(), "[::1]:65535");
}

TEST(MetricsAddress, UnixSocket) {
  EXPECT_EQ(ParseMetricsAddress("unix:/run/p.sock")->ToString(),
            "unix:/run/p.sock");
  EXPECT_EQ(ParseMetricsAddress("/run/p:1.sock")->path, "/run/p:1.sock");
  // The daemon leaves the directory it was started in.
  ASSERT_EQ(chdir("/tmp"), 0);
  EXPECT_EQ(ParseMetricsAddress("unix:p.sock")->path, "/tmp/p.sock");
}

TEST(MetricsAddress, WhatOthersCouldReachIsRefused) {
  for (const char* text : {"0.0.0.0:1", ":1", "[::]:1", "10.0.0.1:1",
                           "example.org:1", "::1:1", "127.0.0.1.nip.io:1",
                           "127.0.0.2:1", "*:1"}) {
    EXPECT_THAT(ParseMetricsAddress(text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("without a password")))
        << text;
  }
}

TEST(MetricsAddress, WhatIsNoAddressIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("9723"), std::string("127.0.0.1"),
        std::string("127.0.0.1:"), std::string("127.0.0.1:65536"),
        std::string("127.0.0.1:-1"), std::string("127.0.0.1:+1"),
        std::string("127.0.0.1: 1"), std::string("127.0.0.1:1x"),
        std::string("unix:"), std::string("/"), std::string("/run/"),
        std::string("unix:/a\0b", 9), "/" + std::string(200, 'x')}) {
    EXPECT_THAT(ParseMetricsAddress(text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("want 127.0.0.1:PORT")))
        << text;
  }
}

}  // namespace
}  // namespace pcachefs
