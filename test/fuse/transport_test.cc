// The choice of the transport: what is asked for is had or refused with a way
// out; `auto` never fails.

#include "fuse/transport.h"

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;

constexpr TransportFacts kAll = {.library_has_uring = true,
                                 .kernel_has_uring = true,
                                 .kernel_allows_uring = true};

TEST(Transport, NamesParseBack) {
  for (const Transport transport :
       {Transport::kAuto, Transport::kDevFuse, Transport::kIoUring}) {
    EXPECT_THAT(ParseTransport(Name(transport)), IsOkAndHolds(transport));
  }
  EXPECT_THAT(ParseTransport("uring"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("got 'uring', want")));
}

TEST(Transport, WhatIsAskedForIsTaken) {
  EXPECT_EQ(ChooseTransport(Transport::kIoUring, kAll)->transport,
            Transport::kIoUring);
  EXPECT_EQ(ChooseTransport(Transport::kDevFuse, kAll)->transport,
            Transport::kDevFuse);
}

TEST(Transport, IoUringIsRefusedWithTheReason) {
  TransportFacts facts = kAll;
  facts.kernel_allows_uring = false;
  EXPECT_THAT(
      ChooseTransport(Transport::kIoUring, facts),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("echo 1 >")));
  facts.kernel_has_uring = false;
  EXPECT_THAT(
      ChooseTransport(Transport::kIoUring, facts),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("kernel")));
  facts.library_has_uring = false;
  EXPECT_THAT(
      ChooseTransport(Transport::kIoUring, facts),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("libfuse")));
}

TEST(Transport, UnderFailoverOnlyTheClassicChannelIsTaken) {
  EXPECT_EQ(
      ChooseTransport(Transport::kAuto, kAll, FailoverKind::kFull)->transport,
      Transport::kDevFuse);
  EXPECT_EQ(ChooseTransport(Transport::kDevFuse, kAll, FailoverKind::kFull)
                ->transport,
            Transport::kDevFuse);
  EXPECT_THAT(ChooseTransport(Transport::kIoUring, kAll, FailoverKind::kFull),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("--transport=dev_fuse")));
}

TEST(Transport, PlannedFailoverIsForTheRing) {
  for (const Transport wish : {Transport::kAuto, Transport::kIoUring}) {
    EXPECT_EQ(ChooseTransport(wish, kAll, FailoverKind::kPlanned)->transport,
              Transport::kIoUring);
    EXPECT_THAT(
        ChooseTransport(wish, TransportFacts(), FailoverKind::kPlanned),
        StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("libfuse")));
  }
  EXPECT_THAT(
      ChooseTransport(Transport::kDevFuse, kAll, FailoverKind::kPlanned),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("--failover")));
}

TEST(Transport, AutoIsTheClassicChannelAndSaysWhy) {
  EXPECT_EQ(ChooseTransport(Transport::kAuto, kAll)->transport,
            Transport::kDevFuse);
  const auto choice = ChooseTransport(Transport::kAuto, TransportFacts());
  ASSERT_THAT(choice, IsOk());
  EXPECT_EQ(choice->transport, Transport::kDevFuse);
  EXPECT_THAT(choice->reason, HasSubstr("io_uring is not used"));
}

}  // namespace
}  // namespace pcachefs
