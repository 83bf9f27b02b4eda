// What would be lost by formatting is named.

#include "tools/foreign_content.h"

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace pcachefs {
namespace {

std::vector<std::byte> Zeroes() { return std::vector<std::byte>(1 << 20); }

void Put(std::vector<std::byte>& bytes, size_t offset,
         const std::string& text) {
  memcpy(bytes.data() + offset, text.data(), text.size());
}

TEST(DescribeContent, ZeroesAreNothing) {
  EXPECT_EQ(DescribeContent(Zeroes()), "");
  EXPECT_EQ(DescribeContent({}), "");
}

TEST(DescribeContent, KnownFormatsAreNamed) {
  std::vector<std::byte> ext4 = Zeroes();
  Put(ext4, 1080, "\x53\xef");
  EXPECT_EQ(DescribeContent(ext4), "an ext2, ext3 or ext4 file system");

  std::vector<std::byte> xfs = Zeroes();
  Put(xfs, 0, "XFSB");
  Put(xfs, 510, "\x55\xaa");
  EXPECT_EQ(DescribeContent(xfs), "an xfs file system");

  std::vector<std::byte> btrfs = Zeroes();
  Put(btrfs, 65600, "_BHRfS_M");
  EXPECT_EQ(DescribeContent(btrfs), "a btrfs file system");
}

TEST(DescribeContent, OtherBytesAreDataAllTheSame) {
  std::vector<std::byte> bytes = Zeroes();
  bytes.back() = std::byte{1};
  EXPECT_EQ(DescribeContent(bytes), "data of an unknown kind");
  EXPECT_EQ(DescribeContent(std::vector<std::byte>(3, std::byte{7})),
            "data of an unknown kind");
}

}  // namespace
}  // namespace pcachefs
