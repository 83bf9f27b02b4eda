// Proves the byte order, and that no access passes the end of a buffer.

#include "meta/endian.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "gtest/gtest.h"
#include "test/testing/hex.h"

namespace pcachefs {
namespace {

TEST(Endian, NumbersAreLittleEndianAtAnyAlignment) {
  std::array<std::byte, 16> bytes = {};

  StoreLittle<uint8_t>(bytes, 0, 0x01);
  StoreLittle<uint16_t>(bytes, 1, 0x0302);
  StoreLittle<uint32_t>(bytes, 3, 0x07060504);
  StoreLittle<uint64_t>(bytes, 7, 0x0f0e0d0c0b0a0908);

  EXPECT_EQ(ToHex(bytes), "0000: 01020304 05060708 090a0b0c 0d0e0f00\n");
  EXPECT_EQ(LoadLittle<uint8_t>(bytes, 0), 0x01u);
  EXPECT_EQ(LoadLittle<uint16_t>(bytes, 1), 0x0302u);
  EXPECT_EQ(LoadLittle<uint32_t>(bytes, 3), 0x07060504u);
  EXPECT_EQ(LoadLittle<uint64_t>(bytes, 7), 0x0f0e0d0c0b0a0908u);
}

TEST(EndianDeathTest, AccessPastTheEndEndsTheProcess) {
  std::array<std::byte, 8> bytes = {};

  EXPECT_DEATH(LoadLittle<uint32_t>(bytes, 5), "");
  EXPECT_DEATH(LoadLittle<uint32_t>(bytes, SIZE_MAX - 1), "");
  EXPECT_DEATH(StoreLittle<uint64_t>(bytes, 1, 0), "");
}

TEST(Endian, ReaderYieldsZerosPastTheEnd) {
  const auto bytes = FromHex("01 02 03 04 05");
  ByteReader reader(bytes);

  EXPECT_EQ(reader.Read<uint32_t>(), 0x04030201u);
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.rest().size(), 1u);
  EXPECT_EQ(reader.Read<uint16_t>(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.Read<uint8_t>(), 0u) << "a failed reader stays failed";
}

TEST(Endian, WriterDropsWhatDoesNotFit) {
  std::array<std::byte, 5> bytes = {};
  ByteWriter writer(bytes);

  writer.Write<uint32_t>(0x04030201);
  EXPECT_TRUE(writer.ok());
  writer.Write<uint16_t>(0xffff);
  EXPECT_FALSE(writer.ok());
  writer.Write<uint8_t>(0xff);

  EXPECT_EQ(ToHex(bytes), "0000: 01020304 00\n");
}

}  // namespace
}  // namespace pcachefs
