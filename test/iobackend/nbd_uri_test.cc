// Proves which NBD URIs are taken, and which devices they name.

#include "iobackend/nbd_uri.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Identity(const std::string& text) {
  const auto uri = ParseNbdUri(text);
  EXPECT_THAT(uri, IsOk()) << text;
  if (!uri.ok()) return "";
  EXPECT_EQ(uri->text, text);
  return uri->identity;
}

TEST(ParseNbdUri, TellsTcp) {
  EXPECT_EQ(Identity("nbd://host"), "tcp=host:10809,export=");
  EXPECT_EQ(Identity("nbd://host/"), "tcp=host:10809,export=");
  EXPECT_EQ(Identity("nbd://host:5/disk"), "tcp=host:5,export=disk");
  EXPECT_EQ(Identity("nbd://[::1]/a/b"), "tcp=[::1]:10809,export=a/b");
  EXPECT_EQ(Identity("nbd://[::1]:5//a"), "tcp=[::1]:5,export=/a");
}

TEST(ParseNbdUri, TellsUnix) {
  EXPECT_EQ(Identity("nbd+unix:///?socket=/run/s"), "unix=/run/s,export=");
  EXPECT_EQ(Identity("nbd+unix:///disk?socket=/run/s"),
            "unix=/run/s,export=disk");
  EXPECT_EQ(Identity("nbd+unix://?socket=/run/s"), "unix=/run/s,export=");
}

TEST(ParseNbdUri, IdentityIsOfTheDeviceNotOfTheWay) {
  const std::string identity = Identity("nbd://host/disk");
  for (const char* other :
       {"nbd://HOST:10809/disk", "nbds://host/disk", "nbds://alice@host/disk",
        "nbds://host/disk?tls-certificates=/etc/pki",
        "nbds://alice@host/disk?tls-psk-file=/etc/keys", "nbd://host/%64isk"}) {
    EXPECT_EQ(Identity(other), identity) << other;
  }
  for (const char* other : {"nbd://host2/disk", "nbd://host:10810/disk",
                            "nbd://host/Disk", "nbd://host/disk/"}) {
    EXPECT_NE(Identity(other), identity) << other;
  }
}

TEST(ParseNbdUri, RefusesWhatIsNone) {
  for (const char* text :
       {"", "disk", "/disk", "nbd:disk", "nbd+vsock://1", "nbd://", "nbd:///x",
        "nbd://:5/x", "nbd://host:0/x", "nbd://host:65536/x", "nbd://host:x/",
        "nbd://[::1/x", "nbd://[]/x", "nbd://host/%", "nbd://host/%0g",
        "nbd://host/%00", "nbd://host/a b", "nbd+unix:///x",
        "nbd+unix:///x?socket=", "nbd+unix:///x?socket=run/s",
        "nbd+unix://host/x?socket=/run/s"}) {
    EXPECT_THAT(ParseNbdUri(text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("got"), HasSubstr("want"))))
        << text;
  }
}

TEST(ParseNbdUri, RefusesWhatRecordsCannotHold) {
  EXPECT_THAT(ParseNbdUri("nbd://host/" + std::string(231, 'x')), IsOk());
  EXPECT_THAT(ParseNbdUri("nbd://host/" + std::string(300, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("255")));
  EXPECT_THAT(
      ParseNbdUri("nbds://host/?tls-psk-file=/" + std::string(1000, 'x')),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1023")));
}

TEST(ParseNbdUri, RefusesPasswordsWithoutShowingThem) {
  EXPECT_THAT(ParseNbdUri("nbds://alice:secret@host/disk"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("password"), Not(HasSubstr("secret")))));
}

}  // namespace
}  // namespace pcachefs
