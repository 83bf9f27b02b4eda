#include "iobackend/stream_copy.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "test/fakes/random.h"
#include "test/testing/random_seed.h"

namespace pcachefs {
namespace {

// Every alignment of both sides, lengths around each step, and what stands
// beside the target.
TEST(StreamCopy, CopiesAllBytesAndNoOthers) {
  constexpr size_t kRoom = 16384;
  constexpr auto kUntouched = std::byte{0xa5};
  Random random(RandomSeed());
  std::vector<std::byte> source(kRoom);
  for (std::byte& byte : source) byte = std::byte(random.Below(256));
  std::vector<std::byte> target(kRoom);

  for (int i = 0; i < 3000; ++i) {
    const size_t from = random.Below(130);
    const size_t to = random.Below(130);
    const size_t length = random.Below(3) == 0 ? random.Below(300)
                                               : 1900 + random.Below(8000);
    target.assign(kRoom, kUntouched);

    StreamCopy(target.data() + to, std::span(source).subspan(from, length));

    for (size_t at = 0; at < kRoom; ++at) {
      const bool copied = at >= to && at < to + length;
      ASSERT_EQ(target[at], copied ? source[from + at - to] : kUntouched)
          << "at " << at << " of " << length << " bytes from " << from
          << " to " << to;
    }
  }
}

}  // namespace
}  // namespace pcachefs
