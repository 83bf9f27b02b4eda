// The tree of the mount: every number stands for one node and back, names are
// found where they should be, and images come and go without leaving traces.

#include "fuse/image_directory.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "fuse/inode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Inode kControlInode = 2;

class ImageDirectoryTest : public testing::Test {
 protected:
  absl::Status Add(const std::string& name, uint32_t id) {
    return directory_.Add(name, ImageId(id), nullptr, Ownership());
  }
  std::vector<std::string> NamesIn(Inode directory) {
    std::vector<std::string> names;
    for (const DirectoryEntry& entry : directory_.List(directory)) {
      names.push_back(entry.name);
    }
    return names;
  }
  Inode Look(Inode parent, const std::string& name) {
    return InodeOf(directory_.Lookup(parent, name));
  }

  ImageDirectory directory_{{"path", "uuid"}, {"name", "mapped_id", "state"}};
};

TEST(Inode, EveryNodeHasItsOwnNumber) {
  const std::vector<Node> nodes = {
      {.kind = NodeKind::kRoot},
      {.kind = NodeKind::kControlDirectory},
      {.kind = NodeKind::kStatusFile},
      {.kind = NodeKind::kMetricsFile},
      {.kind = NodeKind::kControlFile},
      {.kind = NodeKind::kCacheDirectory},
      {.kind = NodeKind::kCacheAttribute, .attribute = 0},
      {.kind = NodeKind::kCacheAttribute, .attribute = kMaxAttributes - 1},
      {.kind = NodeKind::kImage, .image = ImageId(0)},
      {.kind = NodeKind::kImageDirectory, .image = ImageId(0)},
      {.kind = NodeKind::kImageAttribute, .image = ImageId(0), .attribute = 3},
      {.kind = NodeKind::kImage, .image = ImageId(0xffffffff)},
      {.kind = NodeKind::kImageAttribute,
       .image = ImageId(0xffffffff),
       .attribute = kMaxAttributes - 1}};

  for (const Node& node : nodes) {
    EXPECT_EQ(NodeOf(InodeOf(node)), node) << InodeOf(node);
  }
}

TEST(Inode, NumbersThatStandForNothingAreNone) {
  for (const Inode inode :
       {Inode{0}, Inode{7}, Inode{15}, Inode{16 + kMaxAttributes},
        (Inode{1} << 16) + 2, (Inode{1} << 16) + 16 + kMaxAttributes,
        ~Inode{0}}) {
    EXPECT_EQ(NodeOf(inode).kind, NodeKind::kNone) << inode;
  }
}

TEST_F(ImageDirectoryTest, RootListsControlDirectoryAndImagesByName) {
  ASSERT_THAT(Add("vm2", 0), IsOk());
  ASSERT_THAT(Add("vm1", 5), IsOk());

  EXPECT_THAT(NamesIn(kRootInode), ElementsAre(".pcache", "vm1", "vm2"));
}

TEST_F(ImageDirectoryTest, ControlDirectoryHasADirectoryPerImage) {
  ASSERT_THAT(Add("vm1", 5), IsOk());

  EXPECT_THAT(NamesIn(kControlInode),
              ElementsAre("status.json", "metrics", "control", "cache_dev",
                          "backing_dev5"));
  EXPECT_THAT(NamesIn(Look(kControlInode, "cache_dev")),
              ElementsAre("path", "uuid"));
  EXPECT_THAT(NamesIn(Look(kControlInode, "backing_dev5")),
              ElementsAre("name", "mapped_id", "state"));
  EXPECT_EQ(directory_.CountDirectories(kControlInode), 2);
}

TEST_F(ImageDirectoryTest, LookupFindsWhatListShows) {
  ASSERT_THAT(Add("vm1", 5), IsOk());

  const Node image = directory_.Lookup(kRootInode, "vm1");
  const Node attribute =
      directory_.Lookup(Look(kControlInode, "backing_dev5"), "mapped_id");

  EXPECT_EQ(image, (Node{.kind = NodeKind::kImage, .image = ImageId(5)}));
  EXPECT_EQ(attribute, (Node{.kind = NodeKind::kImageAttribute,
                             .image = ImageId(5),
                             .attribute = 1}));
  EXPECT_EQ(directory_.Lookup(kRootInode, "vm2").kind, NodeKind::kNone);
  EXPECT_EQ(directory_.Lookup(InodeOf(image), "x").kind, NodeKind::kNone);
}

TEST_F(ImageDirectoryTest, NumbersOfImagesThatAreNotThereAreNone) {
  const Inode image = InodeOf({.kind = NodeKind::kImage, .image = ImageId(5)});
  EXPECT_EQ(directory_.Find(image).kind, NodeKind::kNone);
  EXPECT_EQ(directory_.Find(image + 1).kind, NodeKind::kNone);

  ASSERT_THAT(Add("vm1", 5), IsOk());

  EXPECT_EQ(directory_.Find(image).kind, NodeKind::kImage);
  EXPECT_EQ(directory_.Find(image + 16 + 3).kind, NodeKind::kNone);
}

TEST_F(ImageDirectoryTest, TakenNamesAndIdsAreRefused) {
  ASSERT_THAT(Add("vm1", 5), IsOk());

  EXPECT_THAT(Add("vm1", 6), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(Add("vm2", 5), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(Add("vm2", ImageDirectory::kMaxImages),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(ImageDirectoryTest, AnOpenImageIsNotRemoved) {
  ASSERT_THAT(Add("vm1", 5), IsOk());
  MountedImage* image = directory_.FindImage("vm1");
  ASSERT_NE(image, nullptr);

  EXPECT_TRUE(image->AddOpen());
  EXPECT_THAT(image->BeginLeaving(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("vm1: is open 1 time")));
  EXPECT_TRUE(image->AddOpen());
  image->RemoveOpen();
  image->RemoveOpen();
  EXPECT_THAT(image->BeginLeaving(), IsOk());
  EXPECT_FALSE(image->AddOpen());
  EXPECT_EQ(image->open_count(), 0);
  EXPECT_THAT(image->BeginLeaving(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(ImageUse(image));
  image->Retire();
  EXPECT_FALSE(ImageUse(image));
  image->Stay();
  EXPECT_TRUE(ImageUse(image));
  EXPECT_TRUE(image->AddOpen());
  image->RemoveOpen();
  ASSERT_THAT(image->BeginLeaving(), IsOk());
  image->Retire();
  EXPECT_THAT(directory_.Remove("vm1"), IsOk());

  EXPECT_EQ(directory_.FindImage(ImageId(5)), nullptr);
  EXPECT_THAT(directory_.images(), IsEmpty());
  EXPECT_THAT(Add("vm2", 5), IsOk());
  EXPECT_THAT(directory_.Remove("vm1"), StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace pcachefs
