// Checks that includes point down the layers and that each layer leaves alone
// what is the business of another. Visibility in the BUILD files says the same
// of targets, but is easily widened; and of the system's headers it says
// nothing.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

struct Layer {
  // Layers, by their directories, which it may include.
  std::vector<std::string> below;
  // Beginnings of other includes which it may not have.
  std::vector<std::string> forbidden;
};

const std::vector<std::string>& KernelHeaders() {
  static const auto* const headers = new std::vector<std::string>{
      "aio.h",  "dirent.h", "fcntl.h", "filesystem", "fstream",   "fuse",
      "linux/", "liburing", "poll.h",  "sys/",       "syscall.h", "unistd.h",
  };
  return *headers;
}

std::vector<std::string> operator+(std::vector<std::string> a,
                                   const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const std::map<std::string, Layer>& Layers() {
  static const auto* const layers = new std::map<std::string, Layer>{
      {"meta",
       {{},
        KernelHeaders() +
            std::vector<std::string>{
                "absl/synchronization/", "absl/time/clock.h", "chrono",
                "gflags/", "mutex", "pthread.h", "shared_mutex", "thread"}}},
      {"iobackend", {{"meta"}, {"fuse", "gflags/"}}},
      {"core",
       {{"iobackend", "meta"},
        KernelHeaders() + std::vector<std::string>{"gflags/"}}},
      {"fuse",
       {{"core", "iobackend", "meta"}, {"gflags/", "liburing", "linux/fs.h"}}},
      {"tools", {{"core", "fuse", "iobackend", "meta"}, {}}},
  };
  return *layers;
}

// What single files of a layer have all the same.
std::vector<std::string> ExceptionsOf(const std::string& file) {
  // The transport: the kernel gives FUSE requests to rings.
  if (file == "fuse/ring_queue.h") return {"liburing.h"};
  return {};
}

// Whether a file of the layer may `#include "path"`.
bool MayIncludeOwn(const std::string& layer, absl::string_view path) {
  if (absl::StartsWith(path, absl::StrCat(layer, "/"))) {
    return true;
  }
  for (const std::string& below : Layers().at(layer).below) {
    if (absl::StartsWith(path, absl::StrCat(below, "/"))) {
      return true;
    }
  }
  // Libraries are included this way too; what is no directory of ours is one.
  for (const auto& [other, unused] : Layers()) {
    if (absl::StartsWith(path, absl::StrCat(other, "/"))) {
      return false;
    }
  }
  return !absl::StartsWith(path, "test/");
}

bool MayIncludeSystem(const std::string& layer, absl::string_view path) {
  for (const std::string& forbidden : Layers().at(layer).forbidden) {
    if (absl::StartsWith(path, forbidden)) {
      return false;
    }
  }
  return true;
}

// The includes in the text of a file of the layer that it may not have.
std::vector<std::string> Violations(const std::string& layer,
                                    const std::string& text) {
  static const auto* const include =
      new std::regex(R"re(^[ \t]*#[ \t]*include[ \t]*(["<])([^">\n]*)[">])re",
                     std::regex::ECMAScript | std::regex::multiline);
  std::vector<std::string> violations;
  for (std::sregex_iterator match(text.begin(), text.end(), *include), end;
       match != end; ++match) {
    const std::string path = (*match)[2];
    const bool own = (*match)[1] == "\"";
    if ((own && !MayIncludeOwn(layer, path)) ||
        !MayIncludeSystem(layer, path)) {
      violations.push_back(path);
    }
  }
  return violations;
}

TEST(ViolationsTest, FindsIncludeOfLayerAbove) {
  EXPECT_THAT(Violations("meta", "#include \"core/index.h\"\n"),
              ElementsAre("core/index.h"));
  EXPECT_THAT(Violations("core", "int a;\n # include \"fuse/session.h\"\n"),
              ElementsAre("fuse/session.h"));
  EXPECT_THAT(Violations("tools", "#include \"test/fakes/fake_clock.h\"\n"),
              ElementsAre("test/fakes/fake_clock.h"));
}

TEST(ViolationsTest, FindsHeadersOfTheKernel) {
  EXPECT_THAT(
      Violations("core",
                 "#include <unistd.h>\n"
                 "#include <sys/mman.h>\n"
                 "#include <vector>\n"
                 "#include <liburing.h>\n"
                 "#include <fuse_lowlevel.h>\n"),
      ElementsAre("unistd.h", "sys/mman.h", "liburing.h", "fuse_lowlevel.h"));
}

TEST(ViolationsTest, AllowsWhatIsBelow) {
  EXPECT_THAT(Violations("core",
                         "#include \"core/index.h\"\n"
                         "#include \"iobackend/cache_device.h\"\n"
                         "#include \"meta/key.h\"\n"
                         "#include \"absl/status/status.h\"\n"
                         "#include <thread>\n"
                         "// #include \"fuse/session.h\"\n"),
              IsEmpty());
}

class LayerTest : public ::testing::TestWithParam<std::string> {};

TEST_P(LayerTest, IncludesPointDown) {
  int files = 0;
  // Bazel starts tests where the paths of data begin.
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(GetParam())) {
    const std::string path = entry.path().string();
    if (!absl::EndsWith(path, ".cc") && !absl::EndsWith(path, ".h")) {
      continue;
    }
    std::ifstream file(path);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    EXPECT_THAT(Violations(GetParam(), text),
                ElementsAreArray(ExceptionsOf(path)))
        << "in " << path;
    ++files;
  }
  EXPECT_GT(files, 0);
}

INSTANTIATE_TEST_SUITE_P(All, LayerTest,
                         ::testing::Values("core", "fuse", "iobackend", "meta",
                                           "tools"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pcachefs
