// A database on a filesystem over loop whose daemon dies while it commits: each
// transaction that was acknowledged is there, none is there in part, and the
// database finds itself sound.
//
//   bazel run --config=ci //test/e2e:sqlite_test -- --rounds=50
//
// is the long form.

#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/loop_device.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/random_seed.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr int kAccounts = 100;
constexpr int kTransactions = 20000;  // more than there is time for

// journal_mode of the database.
class SqliteTest : public testing::TestWithParam<const char*> {
 protected:
  void StartAndMount() {
    ASSERT_THAT(served_.Start(), IsOk());
    auto loop = LoopDevice::Attach(served_.image());
    ASSERT_THAT(loop, IsOk());
    loop_ = *std::move(loop);
    if (!made_) {
      ASSERT_THAT(MakeFilesystem("ext4", loop_->path()), IsOk());
      made_ = true;
    }
    ASSERT_THAT(Mount(loop_->path(), filesystem_), IsOk());
  }

  // What it finds is what it says on stdout.
  Outcome Sql(const std::string& statements) {
    return RunCommand({"sqlite3", "-bail", database_, statements});
  }

  int64_t Number(const std::string& query) {
    const Outcome outcome = Sql(query);
    int64_t number = -1;
    EXPECT_TRUE(outcome.ok() && absl::SimpleAtoi(outcome.out, &number))
        << outcome;
    return number;
  }

  void MakeDatabase() {
    ASSERT_THAT(
        Sql(absl::StrCat(
            "PRAGMA journal_mode=", GetParam(), ";",
            "CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER);"
            "CREATE TABLE history(n INTEGER PRIMARY KEY, note BLOB);"
            "CREATE INDEX notes ON history(note);"
            "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM i "
            "WHERE x<",
            kAccounts, ") INSERT INTO account SELECT x, 1000 FROM i;")),
        Succeeds());
  }

  // Transactions from `first` on; says of each that it is committed.
  void WriteScript(int64_t first, std::mt19937_64& random) {
    std::ofstream script(script_);
    // With FULL the end of a rollback journal, an unlink, is not durable when
    // COMMIT returns: the last transaction may be rolled back.
    script << "PRAGMA synchronous=EXTRA;\n";
    for (int64_t n = first; n < first + kTransactions; ++n) {
      script << "BEGIN; UPDATE account SET balance=balance-7 WHERE id="
             << 1 + random() % kAccounts << "; INSERT INTO history VALUES(" << n
             << ", randomblob(" << random() % 3000
             << ")); UPDATE account SET balance=balance+7 WHERE id="
             << 1 + random() % kAccounts << "; COMMIT; SELECT " << n << ";\n";
    }
  }

  // The last transaction that was acknowledged.
  int64_t CommitUntilKilled(int64_t first, absl::Duration time) {
    auto shell = Process::Start({"stdbuf", "--output=L", "sqlite3", "-bail",
                                 database_, ".read " + script_});
    EXPECT_THAT(shell, IsOk());
    // However slow the disk is: there is one.
    EXPECT_TRUE(WaitUntil(absl::Minutes(1), [&] {
      return (*shell)->outcome().out.find('\n') != std::string::npos;
    }));
    EXPECT_FALSE((*shell)->WaitFor(time)) << (*shell)->outcome();
    served_.Kill();
    // It meets an error.
    EXPECT_TRUE((*shell)->WaitFor(absl::Minutes(1)));
    const std::string out = (*shell)->outcome().out;
    int64_t last = first - 1;
    const size_t end = out.rfind('\n');
    const size_t begin = end == 0 || end == std::string::npos
                             ? std::string::npos
                             : out.rfind('\n', end - 1);
    if (end != std::string::npos) {
      const size_t from = begin == std::string::npos ? 0 : begin + 1;
      EXPECT_TRUE(absl::SimpleAtoi(out.substr(from, end - from), &last)) << out;
    }
    RunCommand({"umount", filesystem_});
    loop_.reset();
    EXPECT_FALSE(IsMounted(filesystem_));
    return last;
  }

  void ExpectSound(int64_t acknowledged) {
    EXPECT_EQ(Sql("PRAGMA integrity_check;").out, "ok\n");
    EXPECT_EQ(Number("SELECT sum(balance) FROM account;"), kAccounts * 1000);
    const int64_t last = Number("SELECT ifnull(max(n), 0) FROM history;");
    EXPECT_GE(last, acknowledged);
    EXPECT_EQ(Number("SELECT count(*) FROM history;"), last);
  }

  ServedCache served_{{.backing_size = 256 * kMiB, .cache_size = "32M"}};
  const std::string filesystem_ = served_.directory().File("filesystem");
  const std::string database_ = filesystem_ + "/bank.db";
  const std::string script_ = served_.directory().File("script.sql");
  std::unique_ptr<LoopDevice> loop_;
  bool made_ = false;
};

TEST_P(SqliteTest, WhatWasCommittedIsThereAfterEachKill) {
  ASSERT_THAT(RequirePrograms({"sqlite3", "stdbuf", "mkfs.ext4", "e2fsck"}),
              IsOk());
  std::mt19937_64 random(RandomSeed());
  ASSERT_NO_FATAL_FAILURE(StartAndMount());
  ASSERT_NO_FATAL_FAILURE(MakeDatabase());
  int64_t committed = 0;

  const uint64_t rounds = NumberFlag("rounds", 3);
  for (uint64_t round = 1; round <= rounds; ++round) {
    SCOPED_TRACE(absl::StrCat("round ", round));
    WriteScript(committed + 1, random);
    const int64_t acknowledged = CommitUntilKilled(
        committed + 1, absl::Milliseconds(400 + random() % 600));
    ASSERT_GT(acknowledged, committed);
    ASSERT_NO_FATAL_FAILURE(StartAndMount());
    ASSERT_NO_FATAL_FAILURE(ExpectSound(acknowledged));
    committed = Number("SELECT ifnull(max(n), 0) FROM history;");
    ASSERT_THAT(Unmount(filesystem_), IsOk());
    ASSERT_THAT(CheckFilesystem("ext4", loop_->path()), IsOk());
    ASSERT_THAT(Mount(loop_->path(), filesystem_), IsOk());
  }
  std::cout << committed << " transactions" << std::endl;

  ASSERT_THAT(Unmount(filesystem_), IsOk());
  loop_.reset();
  ASSERT_THAT(served_.Control("stop", {"--drain"}), Succeeds());
  ASSERT_EQ(served_.WaitForExit(), 0);
  auto backing = LoopDevice::Attach(served_.backing());
  ASSERT_THAT(backing, IsOk());
  ASSERT_THAT(Mount((*backing)->path(), filesystem_), IsOk());
  ExpectSound(committed);
  EXPECT_THAT(Unmount(filesystem_), IsOk());
}

INSTANTIATE_TEST_SUITE_P(JournalModes, SqliteTest,
                         testing::Values("delete", "wal"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pcachefs
