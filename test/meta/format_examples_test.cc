// Proves that the examples in docs/on_media_format.md are what is encoded: the
// page is read, not copied.

#include <cstddef>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/slot_pair.h"
#include "test/meta/example_records.h"
#include "test/testing/hex.h"

namespace pcachefs {
namespace {

// The lines of the first code block below the heading "### `heading`".
std::vector<std::string> ExampleLines(absl::string_view heading) {
  std::ifstream file("docs/on_media_format.md");
  const std::string page(std::istreambuf_iterator<char>(file), {});
  const size_t section = page.find(absl::StrCat("\n### ", heading, "\n"));
  const size_t begin = page.find("\n```text\n", section);
  const size_t end = page.find("\n```\n", begin + 1);
  if (section == page.npos || begin == page.npos || end == page.npos) return {};
  const size_t text = page.find('\n', begin + 1) + 1;
  return absl::StrSplit(page.substr(text, end - text), '\n');
}

// The bytes of lines "offset: digits  what they mean"; those that no line shows
// are zero.
std::vector<std::byte> ExampleBytes(absl::string_view heading, size_t size) {
  std::vector<std::byte> bytes(size);
  for (const std::string& line : ExampleLines(heading)) {
    const size_t colon = line.find(": ");
    if (colon == line.npos) return {};
    const std::string digits =
        line.substr(colon + 2, line.find("  ", colon) - colon - 2);
    size_t offset = 0;
    if (!absl::SimpleHexAtoi(line.substr(0, colon), &offset)) return {};
    for (const std::byte byte : FromHex(digits)) {
      if (offset < size) bytes[offset] = byte;
      ++offset;
    }
  }
  return bytes;
}

TEST(FormatExamples, SuperblockIsWhatIsEncoded) {
  EXPECT_EQ(ToHex(ExampleBytes("A superblock", Superblock::kSize)),
            ToHex(EncodeSlot(ExampleSuperblock(), 1)));
}

TEST(FormatExamples, SegmentRecordIsWhatIsEncoded) {
  EXPECT_EQ(ToHex(ExampleBytes("A segment record", SegmentRecord::kSize)),
            ToHex(EncodeSlot(ExampleSegmentRecord(), 5)));
}

TEST(FormatExamples, KeySetIsWhatIsEncoded) {
  EXPECT_EQ(ToHex(ExampleBytes("A key set of one key", 64)),
            ToHex(ExampleKeySet()));
}

}  // namespace
}  // namespace pcachefs
