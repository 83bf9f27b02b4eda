// Types what README.md and the documents say. Every block of commands in them is
// marked, behind "```sh ", with how that is done:
//
//   recipe=NAME  word for word, in the directory $DIR
//   served       while a cache is served, with other paths for those in Places()
//   byhand       as served, but the block itself serves the cache
//   like=NAME    the same as the recipe NAME with other places
//   test=NAME    by test/e2e/NAME.cc or tools/NAME

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/scratch_directory.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

struct Block {
  std::string place;  // FILE:LINE
  std::string mark;
  std::string commands;
};

const std::vector<Block>& Blocks() {
  static const std::vector<Block>* const blocks = [] {
    auto* const blocks = new std::vector<Block>;
    for (const char* path : {"README.md", "docs/recipes.md",
                             "docs/operations.md", "docs/failover.md"}) {
      std::ifstream document(path);
      std::string line;
      bool inside = false;
      for (int number = 1; std::getline(document, line); ++number) {
        if (absl::StartsWith(line, "```sh")) {
          inside = true;
          blocks->push_back({absl::StrCat(path, ":", number),
                             line.substr(std::min<size_t>(6, line.size())),
                             ""});
        } else if (line == "```") {
          inside = false;
        } else if (inside) {
          absl::StrAppend(&blocks->back().commands, line, "\n");
        }
      }
    }
    return blocks;
  }();
  return *blocks;
}

std::vector<Block> BlocksMarked(const std::string& mark) {
  std::vector<Block> marked;
  for (const Block& block : Blocks()) {
    if (block.mark == mark) marked.push_back(block);
  }
  return marked;
}

std::string DirectoryOf(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}

// What runs before the commands.
std::string Beginning(const ScratchDirectory& directory) {
  return absl::StrCat("set -ex\nDIR=", directory.path(),
                      "\nPATH=", DirectoryOf(PcachefsPath()), ":",
                      DirectoryOf(PcachectlPath()), ":$PATH:/sbin\n");
}

// For those that go on until they are interrupted, ask for what is not there
// (an upgrade without --failover), or find fault with this machine.
constexpr char kServedBeginning[] = R"sh(
cd $DIR
truncate -s 64M $DIR/vm1.img $DIR/vm2.img
bazel() { :; }
losetup() { :; }
qemu-system-x86_64() { :; }
pcachectl() {
  local result=0
  case "$*" in
    *--watch*|top*)
      timeout --signal=INT 3 "$PCACHECTL" "$@" || result=$?
      [ $result = 0 ] || [ $result = 124 ] || [ $result = 130 ] ;;
    doctor*)
      "$PCACHECTL" "$@" || [ $? = 1 ] ;;
    upgrade*)
      ! "$PCACHECTL" "$@" ;;
    *) "$PCACHECTL" "$@" ;;
  esac
}
)sh";

constexpr char kServe[] = R"sh(
pcachefs --cache=$DIR/cache --cache_size=64M --backing=vm1=$DIR/vm1.img $DIR/mount
dd if=/dev/urandom of=$DIR/mount/vm1 bs=1M count=8 conv=notrunc,fsync
)sh";

std::string Places(const std::string& commands) {
  return absl::StrReplaceAll(commands, {{"/mnt/pcache", "$DIR/mount"},
                                        {"/fast/cache", "$DIR/cache"},
                                        {"/slow/vm1.img", "$DIR/vm1.img"},
                                        {"/dev/vg0/vm2", "$DIR/vm2.img"},
                                        // Not to be formatted, any of them.
                                        {"/dev/nvme0n1p4", "$DIR/other"},
                                        // There may not be so much room.
                                        {"=64G", "=640M"},
                                        {"=32G", "=320M"},
                                        {"=16G", "=160M"},
                                        {" 1G", " 1M"}});
}

// A server for recipe `name`, and how it is told of it; what it runs in the
// background is killed with the directory.
std::string ServerFor(const std::string& name) {
  if (name == "ssh") {
    return "test/e2e/testing/start_sshd \"$SSHD\" $DIR\n"
           "SSH_PORT=$(cat $DIR/port)\n"
           "trap 'kill $(cat $DIR/sshd.pid)' EXIT\n";
  }
  if (name == "http") {
    return "python3 test/e2e/testing/range_server.py $DIR $DIR/port &\n"
           "trap \"kill $!\" EXIT\n"
           "until [ -e $DIR/port ]; do sleep 0.1; done\n"
           "HTTP_PORT=$(cat $DIR/port)\n";
  }
  return "";
}

class RecipesTest : public testing::TestWithParam<const char*> {};

const char* const kRecipes[] = {"nbdkit", "ssh",    "http", "readonly", "qemu",
                                "loop",   "golden", "vm",   "inspect"};

TEST_P(RecipesTest, Works) {
  ASSERT_THAT(RequirePrograms({"nbdkit", "qemu-img", "qemu-nbd"}), IsOk());
  if (absl::string_view(GetParam()) == "ssh" && getenv("SSHD") == nullptr) {
    GTEST_SKIP() << "no SSH server: tools/setup could not get one";
  }
  std::string commands;
  for (const Block& block : BlocksMarked(absl::StrCat("recipe=", GetParam()))) {
    commands += block.commands;
  }
  ASSERT_NE(commands, "");
  const ScratchDirectory directory;
  ASSERT_EQ(mkdir(directory.File("mount").c_str(), 0700), 0);
  EXPECT_THAT(RunCommand({"bash", "-c", Beginning(directory) +
                                            ServerFor(GetParam()) + commands}),
              Succeeds());
}

INSTANTIATE_TEST_SUITE_P(Documented, RecipesTest,
                         testing::ValuesIn(kRecipes),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST(DocumentsTest, CommandsOnAServedCacheWork) {
  const auto blocks = BlocksMarked("served");
  EXPECT_GE(blocks.size(), 4u);
  for (const Block& block : blocks) {
    SCOPED_TRACE(block.place);
    const ScratchDirectory directory;
    ASSERT_EQ(mkdir(directory.File("mount").c_str(), 0700), 0);
    EXPECT_THAT(RunCommand({"bash", "-c",
                            absl::StrCat(Beginning(directory),
                                         "PCACHECTL=", PcachectlPath(),
                                         kServedBeginning, kServe,
                                         Places(block.commands))}),
                Succeeds());
  }
}

TEST(DocumentsTest, WhatReadmeDoesByHandWorks) {
  const auto blocks = BlocksMarked("byhand");
  ASSERT_EQ(blocks.size(), 1u);
  const ScratchDirectory directory;
  ASSERT_EQ(mkdir(directory.File("mount").c_str(), 0700), 0);
  EXPECT_THAT(RunCommand({"bash", "-c",
                          absl::StrCat(Beginning(directory), "PCACHECTL=",
                                       PcachectlPath(), kServedBeginning,
                                       Places(blocks[0].commands))}),
              Succeeds());
}

TEST(DocumentsTest, SomethingRunsEveryBlock) {
  const std::set<std::string> recipes(std::begin(kRecipes),
                                      std::end(kRecipes));
  for (const Block& block : Blocks()) {
    SCOPED_TRACE(block.place);
    const std::vector<std::string> mark = absl::StrSplit(block.mark, '=');
    if (mark[0] == "recipe" || mark[0] == "like") {
      ASSERT_EQ(mark.size(), 2u);
      EXPECT_TRUE(recipes.contains(mark[1])) << "no such recipe";
    } else if (mark[0] == "test") {
      ASSERT_EQ(mark.size(), 2u);
      EXPECT_TRUE(
          access(absl::StrCat("test/e2e/", mark[1], ".cc").c_str(), R_OK) ==
              0 ||
          access(absl::StrCat("tools/", mark[1]).c_str(), R_OK) == 0)
          << "no such test";
    } else {
      EXPECT_TRUE(block.mark == "served" || block.mark == "byhand")
          << "nothing runs it: '" << block.mark << "'";
    }
  }
}

// The options of `command` that its help does not know.
std::vector<std::string> UnknownOptions(
    const std::vector<std::string>& command) {
  static auto* const helps = new std::map<std::string, std::string>;
  const bool is_ctl = command[0] == "pcachectl";
  const std::string verb = is_ctl && command.size() > 1 ? command[1] : "";
  std::string& help = (*helps)[command[0] + " " + verb];
  if (help.empty()) {
    const Outcome outcome =
        is_ctl ? RunCommand({PcachectlPath(), verb, "--help"})
               : RunCommand({PcachefsPath(), "--help"});
    EXPECT_THAT(outcome, Succeeds());
    help = outcome.out;
  }
  std::vector<std::string> unknown;
  for (const std::string& word : command) {
    if (!absl::StartsWith(word, "--")) continue;
    const std::string option = word.substr(0, word.find('='));
    if (option == "--json" || option == "--help") continue;
    if (!absl::StrContains(help, option)) unknown.push_back(option);
  }
  return unknown;
}

TEST(DocumentsTest, EveryOptionExists) {
  int commands = 0;
  for (const Block& block : Blocks()) {
    for (const absl::string_view line : absl::StrSplit(block.commands, '\n')) {
      std::vector<std::string> command;
      const auto finish = [&] {
        if (!command.empty()) {
          EXPECT_THAT(UnknownOptions(command), testing::IsEmpty())
              << block.place << ": " << line;
          ++commands;
        }
        command.clear();
      };
      for (const absl::string_view piece :
           absl::StrSplit(line, absl::ByAnyChar(" ();|&'\""),
                          absl::SkipEmpty())) {
        const std::string word(piece);
        if (word == "#") break;
        if (word == "pcachefs" || word == "pcachectl") {
          finish();
          command = {word};
        } else if (!command.empty()) {
          command.push_back(word);
        }
      }
      finish();
    }
  }
  EXPECT_GT(commands, 50);
}

}  // namespace
}  // namespace pcachefs
