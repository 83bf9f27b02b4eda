#include "tools/help_pages.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"
#include "tools/settings.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;

HelpSource Source() {
  return {.commands = {{.name = "status",
                        .usage = "MOUNT [NAME]",
                        .help = "Shows\n.things - all",
                        .min_words = 1,
                        .max_words = 2,
                        .flags = {"quiet"},
                        .run = nullptr},
                       {.name = "check",
                        .usage = "CACHE",
                        .help = "Checks.",
                        .min_words = 1,
                        .max_words = 1,
                        .flags = {"size"},
                        .run = nullptr}},
          .flags = {{"json", nullptr, "print JSON"},
                    {"quiet", nullptr, "say nothing"},
                    {"size", "SIZE", "how large"}}};
}

std::string Page(const char* name) {
  const auto page = MakeHelpPage(name, Source());
  EXPECT_THAT(page, IsOk());
  return page.value_or("");
}

TEST(HelpPages, TheManualHasEveryVerbAndItsFlags) {
  const std::string page = Page("man-pcachectl");
  EXPECT_THAT(page, HasSubstr(".SS status MOUNT [NAME]\n"));
  EXPECT_THAT(page, HasSubstr("\\&.things \\- all"));
  EXPECT_THAT(page, HasSubstr("\\-\\-size=SIZE"));
}

TEST(HelpPages, TheDaemonsManualHasEverySetting) {
  const std::string page = Page("man-pcachefs");
  for (const Setting& setting : AllSettings()) {
    EXPECT_THAT(page, HasSubstr(EscapeRoff(absl::StrCat("--", setting.name))));
  }
}

TEST(HelpPages, RoffCannotBeBrokenByText) {
  EXPECT_EQ(EscapeRoff(".x"), "\\&.x");
  EXPECT_EQ(EscapeRoff("a\n'b\\c"), "a\n\\&'b\\ec");
}

// What bash completes `line` to, its last word being typed.
std::string Complete(const std::string& words, int index) {
  const char* directory = getenv("TEST_TMPDIR");
  const std::string path =
      absl::StrCat(directory == nullptr ? "/tmp" : directory, "/completion");
  std::ofstream(path) << Page("bash");
  FILE* pipe = popen(
      absl::StrCat("bash -c 'compopt() { :; }; source ", path,
                   "; COMP_WORDS=(", words, "); COMP_CWORD=", index,
                   "; _pcachectl; echo ${COMPREPLY[*]}' 2>&1")
          .c_str(),
      "r");
  char buffer[1024] = {};
  const size_t length = fread(buffer, 1, sizeof(buffer) - 1, pipe);
  EXPECT_EQ(pclose(pipe), 0);
  return std::string(buffer, length);
}

TEST(HelpPages, BashCompletesVerbsAndFlags) {
  EXPECT_EQ(Complete("pcachectl st", 1), "status\n");
  EXPECT_EQ(Complete("pcachectl status --q", 2), "--quiet\n");
  EXPECT_EQ(Complete("pcachectl check --s", 2), "--size=\n");
  EXPECT_EQ(Complete("pcachectl status --s", 2), "\n");
  EXPECT_EQ(Complete("pcachectl check /proc/uptim", 2), "/proc/uptime\n");
}

TEST(HelpPages, ZshKnowsTheSame) {
  EXPECT_THAT(Page("zsh"), HasSubstr("#compdef pcachectl"));
  EXPECT_THAT(Page("zsh"), HasSubstr("status) flags='--help --json --quiet'; "
                                     "kind=mount"));
}

TEST(HelpPages, OtherPagesAreRefused) {
  EXPECT_THAT(MakeHelpPage("fish", Source()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("want man-pcachefs")));
}

}  // namespace
}  // namespace pcachefs
