// Types what docs/recipes.md and docs/operations.md say: the blocks that are marked as a recipe, word
// for word, by a shell.

#include <sys/stat.h>

#include <fstream>
#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/scratch_directory.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

// The commands of each block, by the name behind "```sh recipe=".
std::map<std::string, std::string> Recipes() {
  constexpr char kBegin[] = "```sh recipe=";
  std::map<std::string, std::string> recipes;
  for (const char* path : {"docs/recipes.md", "docs/operations.md"}) {
    std::ifstream document(path);
    std::string line, name;
    while (std::getline(document, line)) {
      if (line.rfind(kBegin, 0) == 0) {
        name = line.substr(sizeof(kBegin) - 1);
      } else if (line == "```") {
        name.clear();
      } else if (!name.empty()) {
        recipes[name] += line + "\n";
      }
    }
  }
  return recipes;
}

class RecipesTest : public testing::TestWithParam<std::string> {};

TEST_P(RecipesTest, Works) {
  ASSERT_THAT(RequirePrograms({"nbdkit", "qemu-img", "qemu-nbd"}), IsOk());
  const auto recipes = Recipes();
  ASSERT_THAT(recipes, testing::SizeIs(7));
  ASSERT_TRUE(recipes.contains(GetParam()));
  const ScratchDirectory directory;
  ASSERT_EQ(mkdir(directory.File("mount").c_str(), 0700), 0);
  const auto directory_of = [](const std::string& path) {
    return path.substr(0, path.rfind('/'));
  };

  EXPECT_THAT(
      RunCommand({"bash", "-exc",
                  "DIR=" + directory.path() + "\nPATH=" +
                      directory_of(PcachefsPath()) + ":" +
                      directory_of(PcachectlPath()) + ":$PATH:/sbin\n" +
                      recipes.at(GetParam())}),
      Succeeds());
}

INSTANTIATE_TEST_SUITE_P(Documented, RecipesTest,
                         testing::Values("nbdkit", "readonly", "qemu",
                                         "loop", "inspect", "golden", "vm"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pcachefs
