// The request that kills one daemon after the other is found and refused; all
// others are not.

#include "fuse/crash_guard.h"

#include <memory>

#include "fuse/failover_state.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr RequestRecord kKiller = {.unique = 66, .offset = 8192, .length = 512};
constexpr RequestRecord kOther = {.unique = 68};

class CrashGuardTest : public testing::Test {
 protected:
  void SetUp() override {
    auto state = FailoverState::Create();
    ASSERT_THAT(state, IsOk());
    state_ = *std::move(state);
    CrashGuard(crashes(), /*is_successor=*/false);
  }
  SharedCrashes& crashes() { return state_->shared().crashes; }

  // A daemon that is sent both again and handles the killer last.
  void DieOfTheKiller() {
    CrashGuard guard(crashes(), /*is_successor=*/true);
    EXPECT_FALSE(guard.Refuses(kOther));
    if (!guard.is_careful()) return;
    guard.BeginTrial(kOther);
    guard.EndTrial();
    EXPECT_FALSE(guard.Refuses(kKiller));
    guard.BeginTrial(kKiller);
  }

  std::unique_ptr<FailoverState> state_;
};

TEST_F(CrashGuardTest, ADeathNowAndThenIsNoReasonToBeCareful) {
  for (int i = 0; i < 10; ++i) {
    CrashGuard guard(crashes(), /*is_successor=*/true);
    EXPECT_FALSE(guard.is_careful()) << i;
    guard.BecomeCalm();
  }
}

TEST_F(CrashGuardTest, WhoDiesOfWhatIsSentAgainHasACarefulSuccessor) {
  { CrashGuard guard(crashes(), /*is_successor=*/true); }
  CrashGuard guard(crashes(), /*is_successor=*/true);
  EXPECT_TRUE(guard.is_careful());
  guard.EndCare();
  EXPECT_FALSE(guard.is_careful());
}

TEST_F(CrashGuardTest, AfterFiveDeathsTheKillerIsRefused) {
  // One that took it for ordinary has died, and one that was sent it again.
  for (int deaths = 1; deaths < 5; ++deaths) DieOfTheKiller();

  CrashGuard guard(crashes(), /*is_successor=*/true);
  EXPECT_TRUE(guard.is_careful());
  EXPECT_FALSE(guard.Refuses(kOther));
  EXPECT_TRUE(guard.Refuses(kKiller));
  EXPECT_EQ(crashes().poisoned_count, 1u);
  EXPECT_EQ(crashes().poisoned[0].offset, kKiller.offset);
  guard.BecomeCalm();
  // The same place by another request has not killed anybody yet.
  EXPECT_FALSE(guard.Refuses({.unique = 70, .offset = 8192, .length = 512}));
}

TEST_F(CrashGuardTest, DeathsBetweenTheTrialsAreNobodysFault) {
  for (int i = 0; i < 20; ++i) {
    CrashGuard guard(crashes(), /*is_successor=*/true);
    guard.BeginTrial(kOther);
    guard.EndTrial();
  }
  CrashGuard guard(crashes(), /*is_successor=*/true);
  EXPECT_FALSE(guard.Refuses(kOther));
}

TEST_F(CrashGuardTest, CalmForgetsSuspects) {
  for (int deaths = 1; deaths < 4; ++deaths) DieOfTheKiller();
  {
    CrashGuard guard(crashes(), /*is_successor=*/true);
    guard.BecomeCalm();
  }
  EXPECT_FALSE(CrashGuard(crashes(), /*is_successor=*/true).Refuses(kKiller));
}

}  // namespace
}  // namespace pcachefs
