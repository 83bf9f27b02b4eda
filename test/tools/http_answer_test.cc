#include "tools/http_answer.h"

#include <optional>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/random_seed.h"

namespace pcachefs {
namespace {

using testing::AnyOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Optional;
using testing::StartsWith;

constexpr char kEnd[] = "\r\nHost: x\r\n\r\n";

std::optional<std::string> Ask(const std::string& received) {
  return AnswerHttp(received, [] { return std::string("m 1\n"); });
}

TEST(HttpAnswer, MetricsAsPrometheusWantsThem) {
  const auto answer = Ask(std::string("GET /metrics HTTP/1.1") + kEnd);
  ASSERT_TRUE(answer.has_value());
  EXPECT_THAT(*answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(*answer, HasSubstr("Content-Type: text/plain; version=0.0.4"));
  EXPECT_THAT(*answer, HasSubstr("Content-Length: 4\r\n"));
  EXPECT_THAT(*answer, EndsWith("\r\n\r\nm 1\n"));
}

TEST(HttpAnswer, AQueryAndAnOldVersionAreFine) {
  EXPECT_THAT(Ask("GET /metrics?x=1 HTTP/1.0\n\n"),
              Optional(EndsWith("m 1\n")));
}

TEST(HttpAnswer, TheRootNamesThePath) {
  EXPECT_THAT(Ask(std::string("GET / HTTP/1.1") + kEnd),
              Optional(HasSubstr("/metrics")));
}

TEST(HttpAnswer, WaitsForTheWholeHead) {
  const std::string request = std::string("GET /metrics HTTP/1.1") + kEnd;
  for (size_t length = 0; length < request.size(); ++length) {
    EXPECT_EQ(Ask(request.substr(0, length)), std::nullopt) << length;
  }
  EXPECT_TRUE(Ask(request).has_value());
}

TEST(HttpAnswer, Refusals) {
  const std::pair<const char*, const char*> kCases[] = {
      {"GET /x HTTP/1.1", "404"},         {"GET /metrics/ HTTP/1.1", "404"},
      {"GET /../metrics HTTP/1.1", "404"}, {"POST /metrics HTTP/1.1", "405"},
      {"HEAD / HTTP/1.1", "405"},         {"get / HTTP/1.1", "405"},
      {"GET / HTTP/2.0", "505"},          {"GET /", "400"},
      {"GET / SPDY/1", "400"},            {"", "400"},
      {"GET  / HTTP/1.1", "400"},         {"GET /\x01 HTTP/1.1", "400"},
      {"GET / HTTP/1.1 x", "400"}};
  for (const auto& [line, code] : kCases) {
    EXPECT_THAT(Ask(std::string(line) + kEnd),
                Optional(StartsWith(std::string("HTTP/1.1 ") + code)))
        << line;
  }
  EXPECT_THAT(Ask(std::string("POST / HTTP/1.1") + kEnd),
              Optional(HasSubstr("Allow: GET\r\n")));
}

TEST(HttpAnswer, AHeadWithoutEndIsRefused) {
  EXPECT_EQ(Ask(std::string(kMaxHttpHead - 1, 'a')), std::nullopt);
  EXPECT_THAT(Ask(std::string(kMaxHttpHead, 'a')),
              Optional(StartsWith("HTTP/1.1 431")));
  EXPECT_THAT(Ask("GET / HTTP/1.1\r\n" + std::string(kMaxHttpHead, 'a') + kEnd),
              Optional(StartsWith("HTTP/1.1 431")));
}

TEST(HttpAnswer, AnyBytesGetAnAnswerOrAreWaitedFor) {
  std::mt19937_64 random(RandomSeed());
  const std::string alphabet("GET /metrics HTTP/1.1\r\n\r\n\0\xff", 28);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes;
    const size_t length = random() % 64;
    while (bytes.size() < length) bytes += alphabet[random() % alphabet.size()];
    const auto answer = Ask(bytes);
    if (!answer.has_value()) continue;
    EXPECT_THAT(*answer, AnyOf(StartsWith("HTTP/1.1 4"),
                               StartsWith("HTTP/1.1 5"),
                               StartsWith("HTTP/1.1 200")));
  }
}

}  // namespace
}  // namespace pcachefs
