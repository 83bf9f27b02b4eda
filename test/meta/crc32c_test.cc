// Proves the CRC right by known answers, and the two implementations equal on
// random lengths and alignments around every boundary of the fast one.

#include "meta/crc32c.h"

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "test/testing/random_seed.h"

namespace pcachefs {
namespace {

std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Every implementation that this machine has.
std::vector<uint32_t> AllCrcs(std::span<const std::byte> bytes) {
  std::vector<uint32_t> crcs = {Crc32c(bytes),
                                crc32c_internal::ExtendPortable(0, bytes)};
  if (crc32c_internal::HardwareSupported()) {
    crcs.push_back(crc32c_internal::ExtendHardware(0, bytes));
  }
  return crcs;
}

void ExpectCrc(const std::string& text, uint32_t want) {
  for (const uint32_t crc : AllCrcs(Bytes(text))) EXPECT_EQ(crc, want);
}

TEST(Crc32c, HasTheKnownAnswers) {
  std::string ascending, descending;
  for (int i = 0; i < 32; ++i) {
    ascending += static_cast<char>(i);
    descending += static_cast<char>(31 - i);
  }

  ExpectCrc("123456789", 0xe3069283);
  // RFC 3720, appendix B.4.
  ExpectCrc(std::string(32, '\0'), 0x8a9136aa);
  ExpectCrc(std::string(32, '\xff'), 0x62a8ab43);
  ExpectCrc(ascending, 0x46dd794e);
  ExpectCrc(descending, 0x113fdb5c);
}

TEST(Crc32c, OfNothingIsZero) {
  EXPECT_EQ(Crc32c({}), 0u);
  EXPECT_EQ(ExtendCrc32c(0x12345678, {}), 0x12345678u);
}

TEST(Crc32c, HardwareEqualsPortable) {
  if (!crc32c_internal::HardwareSupported()) GTEST_SKIP();
  std::mt19937_64 random(RandomSeed());
  std::vector<std::byte> buffer(20000);
  for (std::byte& byte : buffer) byte = static_cast<std::byte>(random());
  const std::span<const std::byte> all = buffer;

  for (size_t length = 0; length < 9000; length += length < 1000 ? 1 : 13) {
    const size_t alignment = random() % 64;
    const auto crc = static_cast<uint32_t>(random());
    const auto bytes = all.subspan(alignment, length);

    ASSERT_EQ(crc32c_internal::ExtendHardware(crc, bytes),
              crc32c_internal::ExtendPortable(crc, bytes))
        << length << " bytes at alignment " << alignment;
  }
}

TEST(Crc32c, OfPartsExtendsToThatOfTheWhole) {
  std::mt19937_64 random(RandomSeed());
  std::vector<std::byte> buffer(9000);
  for (std::byte& byte : buffer) byte = static_cast<std::byte>(random());
  const std::span<const std::byte> all = buffer;
  const uint32_t whole = Crc32c(all);

  for (int i = 0; i < 1000; ++i) {
    const size_t cut = random() % (buffer.size() + 1);

    ASSERT_EQ(ExtendCrc32c(Crc32c(all.first(cut)), all.subspan(cut)), whole)
        << "cut at " << cut;
  }
}

}  // namespace
}  // namespace pcachefs
