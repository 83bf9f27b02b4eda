// The settings table: defaults, values, and one clear line for what is wrong.

#include "tools/settings.h"

#include <set>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/records.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;

TEST(Settings, NamesAreUnique) {
  std::set<std::string> names;
  for (const Setting& setting : AllSettings()) {
    EXPECT_TRUE(names.insert(setting.name).second) << setting.name;
    EXPECT_EQ(FindSetting(setting.name), &setting);
  }
  EXPECT_EQ(FindSetting("no_such"), nullptr);
}

TEST(Settings, DefaultsAreThoseOfTheContract) {
  const auto settings = ReadSettings({});
  ASSERT_THAT(settings, IsOk());
  EXPECT_EQ(settings->mode, CacheMode::kWriteback);
  EXPECT_EQ(settings->order, WritebackOrder::kStrict);
  EXPECT_EQ(settings->transport, Transport::kAuto);
  EXPECT_FALSE(settings->foreground);
}

TEST(Settings, ReadsEveryKind) {
  const auto settings = ReadSettings({{"cache", "/c"},
                                      {"cache_size", "10G"},
                                      {"backing", "vm1=/b"},
                                      {"gc_percent", "0"},
                                      {"transport", "dev_fuse"},
                                      {"threads", "4"},
                                      {"nbd_connections", "2"},
                                      {"nbd_timeout", "5"},
                                      {"allow_other", "true"},
                                      {"read_only", "1"}});
  ASSERT_THAT(settings, IsOk());
  EXPECT_EQ(settings->cache, "/c");
  EXPECT_EQ(settings->cache_size, uint64_t{10} << 30);
  EXPECT_EQ(settings->backing[0].name, "vm1");
  EXPECT_EQ(settings->gc_percent, 0);
  EXPECT_EQ(settings->transport, Transport::kDevFuse);
  EXPECT_EQ(settings->threads, 4);
  EXPECT_EQ(settings->nbd_connections, 2);
  EXPECT_EQ(settings->nbd_timeout, 5);
  EXPECT_TRUE(settings->allow_other);
  EXPECT_TRUE(settings->read_only);
}

TEST(Settings, MaxDirtyIsASizeOrAPart) {
  EXPECT_EQ(ReadSettings({})->max_dirty, std::nullopt);
  EXPECT_EQ(ReadSettings({{"max_dirty", "64M"}})->max_dirty->Of(1), 64u << 20);
  EXPECT_EQ(ReadSettings({{"max_dirty", "25%"}})->max_dirty->Of(400), 100u);
}

TEST(Settings, ReadAheadMayBeNothing) {
  EXPECT_EQ(ReadSettings({})->read_ahead, std::nullopt);
  EXPECT_EQ(ReadSettings({{"read_ahead", "0"}})->read_ahead, 0u);
  EXPECT_EQ(ReadSettings({{"read_ahead", "1M"}})->read_ahead, 1u << 20);
}

TEST(Settings, BadValuesAreNamed) {
  const std::pair<const char*, const char*> kBad[] = {
      {"cache", ""},        {"cache_size", "0"},  {"cache_size", "10Q"},
      {"gc_percent", "91"}, {"gc_percent", "-1"}, {"gc_percent", ""},
      {"threads", "0"},     {"threads", "65"},    {"transport", "tcp"},
      {"mode", "fast"},     {"order", "random"},  {"foreground", "perhaps"},
      {"backing", "vm1"},   {"max_dirty", "0%"},
      {"read_ahead", "1G"}, {"read_ahead", "-1"}};
  for (const auto& [name, value] : kBad) {
    EXPECT_THAT(ReadSettings({{name, value}}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(std::string(name) + ": ")))
        << name << "=" << value;
  }
  EXPECT_THAT(ReadSettings({{"cash", "/c"}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("unknown setting 'cash'")));
}

TEST(Settings, EveryModeAndOrderIsTaken) {
  for (const char* mode : {"writeback", "writethrough", "writearound",
                           "writeonly", "passthrough"}) {
    const auto settings = ReadSettings({{"mode", mode}});
    ASSERT_THAT(settings, IsOk());
    EXPECT_STREQ(Name(settings->mode), mode);
  }
  for (const char* order : {"strict", "grouped", "relaxed"}) {
    const auto settings = ReadSettings({{"order", order}});
    ASSERT_THAT(settings, IsOk());
    EXPECT_STREQ(Name(settings->order), order);
  }
}

}  // namespace
}  // namespace pcachefs
