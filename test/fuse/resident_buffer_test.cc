#include "fuse/resident_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pcachefs {
namespace {

TEST(ResidentBufferTest, IsThereAlsoWhenMemoryIsLockedOnFirstUse) {
  const size_t page = sysconf(_SC_PAGESIZE);
  // As the daemon does: there MAP_POPULATE brings no page in.
  ASSERT_EQ(mlockall(MCL_FUTURE | MCL_ONFAULT), 0);
  const ResidentBuffer buffer(64 * page);
  munlockall();
  std::vector<unsigned char> pages(64);
  ASSERT_EQ(mincore(buffer.bytes().data(), buffer.bytes().size(),
                    pages.data()),
            0);
  for (unsigned char& flags : pages) flags &= 1;
  EXPECT_THAT(pages, testing::Each(1));
}

}  // namespace
}  // namespace pcachefs
