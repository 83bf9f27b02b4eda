// Requests to the control file: each verb does what it says, every answer is
// one line of JSON, and nothing that is written there does harm.

#include "fuse/control_protocol.h"
#include "fuse/error_json.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "fuse/status_json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/fuse/fake_control_target.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ControlProtocolTest : public testing::Test {
 protected:
  Json Ask(const std::string& request) {
    const ControlAnswer answer = protocol_.Handle(request);
    begins_stop_ = answer.begins_stop;
    EXPECT_EQ(answer.text.find('\n'), answer.text.size() - 1);
    Json json = Json::parse(answer.text, nullptr, false);
    EXPECT_TRUE(json.is_object()) << answer.text;
    return json;
  }
  absl::Status ErrorOf(const std::string& request) {
    return StatusFromJson(Ask(request));
  }

  FakeControlTarget target_;
  ControlProtocol protocol_{target_};
  bool begins_stop_ = false;
};

TEST_F(ControlProtocolTest, DeepNestingDoesNotUseUpTheStack) {
  const std::string brackets(ControlProtocol::kMaxRequestSize / 2 - 32, '[');
  const std::string request =
      absl::StrCat(R"({"verb":"get","name":)", brackets,
                   std::string(brackets.size(), ']'), "}");

  EXPECT_THAT(ErrorOf(request), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("levels")));
}

TEST_F(ControlProtocolTest, StatusHasTheKeysOfTheContract) {
  const Json status = Ask(R"({"verb":"status"})")["status"];

  EXPECT_EQ(status["version"], "1.2.3");
  EXPECT_EQ(status["transport"], "dev_fuse");
  EXPECT_EQ(status["server"]["pid"], 4711);
  for (const char* key :
       {"path", "uuid", "segment_size", "segments", "segments_used", "state"}) {
    EXPECT_TRUE(status["cache"].contains(key)) << key;
  }
  const Json& image = status["images"][0];
  for (const char* key :
       {"name", "id", "backing", "size", "mode", "order", "state", "gc_percent",
        "cache_segs", "cache_used_segs", "dirty_bytes", "oldest_dirty_seconds",
        "key_head", "dirty_tail", "key_tail", "read_hits", "read_misses"}) {
    EXPECT_TRUE(image.contains(key)) << key;
  }
  EXPECT_EQ(image["dirty_bytes"], 8192);
  EXPECT_EQ(image["oldest_dirty_seconds"], 1.5);
  EXPECT_EQ(image["mode"], "writeback");
}

TEST_F(ControlProtocolTest, StatusOfOneImage) {
  const Json answer = Ask(R"({"verb":"status","name":"vm2"})");

  ASSERT_EQ(answer["status"]["images"].size(), 1u);
  EXPECT_EQ(answer["status"]["images"][0]["name"], "vm2");
  EXPECT_THAT(ErrorOf(R"({"verb":"status","name":"vm3"})"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("vm3")));
}

TEST_F(ControlProtocolTest, ListNamesAllImages) {
  const Json answer = Ask(R"({"verb":"list"})");

  ASSERT_EQ(answer["images"].size(), 2u);
  EXPECT_EQ(answer["images"][0]["backing"], "/dev/vg0/vm1");
  EXPECT_EQ(answer["images"][1]["state"], "degraded");
}

TEST_F(ControlProtocolTest, ADrainIsBegunAndItsEndAskedFor) {
  EXPECT_EQ(Ask(R"({"verb":"drain","name":"vm1"})"),
            Json({{"ok", true}, {"operation", 1}}));
  const std::string poll = R"({"verb":"operation","operation":1})";
  Json progress = Ask(poll);
  EXPECT_EQ(progress["done"], false);
  EXPECT_EQ(progress["start_dirty_bytes"], 8192);

  target_.status.images[0].dirty_bytes = 0;
  target_.draining.at(0)(absl::OkStatus());

  progress = Ask(poll);
  EXPECT_EQ(progress["done"], true);
  EXPECT_EQ(progress["dirty_bytes"], 0);
  EXPECT_THAT(target_.calls, ElementsAre("drain vm1"));
}

TEST_F(ControlProtocolTest, AFailedDrainTellsWhy) {
  Ask(R"({"verb":"drain"})");
  target_.draining.at(0)(absl::UnavailableError("backing device: gone"));

  EXPECT_THAT(ErrorOf(R"({"verb":"operation","operation":1})"),
              StatusIs(absl::StatusCode::kUnavailable, "backing device: gone"));
}

TEST_F(ControlProtocolTest, UnknownImagesAreNotDrained) {
  EXPECT_THAT(ErrorOf(R"({"verb":"drain","name":"vm3"})"),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(target_.calls, IsEmpty());
}

TEST_F(ControlProtocolTest, OldOperationsAreForgotten) {
  for (size_t i = 0; i <= ControlProtocol::kMaxOperations; ++i) {
    Ask(R"({"verb":"flush"})");
  }

  EXPECT_THAT(ErrorOf(R"({"verb":"operation","operation":1})"),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(ErrorOf(R"({"verb":"operation","operation":2})"), IsOk());
}

TEST_F(ControlProtocolTest, OperationsOfEarlierDaemonsWereInterrupted) {
  protocol_.StartNumbersAt(1'000'001);
  EXPECT_EQ(Ask(R"({"verb":"flush"})")["operation"], 1'000'001);
  EXPECT_THAT(ErrorOf(R"({"verb":"operation","operation":7})"),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("restarted")));
}

TEST_F(ControlProtocolTest, OnlyWhatCanBeRepeatedIsWhenItIsSentAgain) {
  for (const char* request :
       {R"({"verb":"attach","name":"vm3","spec":"/dev/null"})",
        R"({"verb":"detach","name":"vm1"})", R"({"verb":"upgrade"})"}) {
    const std::string answer =
        protocol_.Handle(request, /*is_resent=*/true).text;
    EXPECT_THAT(answer, HasSubstr("ABORTED")) << request;
  }
  EXPECT_THAT(target_.calls, IsEmpty());
  for (const char* request :
       {R"({"verb":"status"})", R"({"verb":"drain","name":"vm1"})",
        R"({"verb":"set","name":"vm1","key":"gc_percent","value":50})",
        R"({"verb":"stop","force":true})"}) {
    EXPECT_THAT(protocol_.Handle(request, /*is_resent=*/true).text,
                HasSubstr("\"ok\":true"))
        << request;
  }
}

TEST_F(ControlProtocolTest, AnUpgradeIsBegunAndItsEndAskedFor) {
  EXPECT_EQ(Ask(R"({"verb":"upgrade","binary":"/usr/bin/new"})"),
            Json({{"ok", true}, {"upgrade", 3}}));
  // Only when the file is closed, as who asked has the answer then.
  EXPECT_THAT(target_.calls, ElementsAre("upgrade /usr/bin/new"));
  EXPECT_EQ(protocol_.Handle(R"({"verb":"upgrade"})").begins_upgrade, 3u);
  EXPECT_EQ(Ask(R"({"verb":"upgrade_state","upgrade":3})")["done"], true);
  EXPECT_THAT(ErrorOf(R"({"verb":"upgrade_state","upgrade":2})"),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ControlProtocolTest, SettingsAreReadAndSet) {
  EXPECT_EQ(Ask(R"({"verb":"get","name":"vm1"})")["values"],
            Json({{"gc_percent", 70},
                  {"cache_mode", "writeback"},
                  {"order", "strict"},
                  {"max_dirty", 0},
                  {"max_dirty_age", 0},
                  {"writeback_rate", 0},
                  {"writeback_rate_floor", 0},
                  {"image_cache_size", 0},
                  {"sequential_cutoff", 0}}));
  for (const char* value : {"50", "\"50\""}) {
    target_.status.images[0].gc_percent = 70;
    const Json answer =
        Ask(std::string(R"({"verb":"set","name":"vm1","key":"gc_percent",)") +
            "\"value\":" + value + "}");
    EXPECT_EQ(answer["values"], Json({{"gc_percent", 50}}));
  }
}

TEST_F(ControlProtocolTest, BadSettingsAreRefused) {
  const std::string set = R"({"verb":"set","name":"vm1",)";
  EXPECT_THAT(ErrorOf(set + R"("key":"gc_percent","value":91})"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("got '91', want 0..90")));
  EXPECT_THAT(ErrorOf(set + R"("key":"gc_percent","value":[]})"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ErrorOf(set + R"("key":"speed","value":"11"})"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ErrorOf(set + R"("key":"cache_mode","value":"fast"})"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(target_.calls, IsEmpty());
}

TEST_F(ControlProtocolTest, AnAttachIsAnOperation) {
  EXPECT_EQ(Ask(R"({"verb":"attach","name":"vm3","spec":"/dev/vg0/vm3",)"
                R"("mode":"writethrough","image_cache_size":"2G"})"),
            Json({{"ok", true}, {"operation", 1}}));
  EXPECT_THAT(target_.calls, ElementsAre("attach vm3 /dev/vg0/vm3"));
  EXPECT_EQ(target_.attached.mode, CacheMode::kWritethrough);
  EXPECT_FALSE(target_.attached.order.has_value());
  EXPECT_EQ(target_.attached.image_cache_size, 2ull << 30);
  EXPECT_EQ(Ask(R"({"verb":"operation","operation":1})")["done"], true);
}

TEST_F(ControlProtocolTest, BadAttachesAreRefusedAtOnce) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(ErrorOf(R"({"verb":"attach","name":"a/b","spec":"/x"})"),
              StatusIs(invalid));
  EXPECT_THAT(ErrorOf(R"({"verb":"attach","name":"a","mode":"fast"})"),
              StatusIs(invalid, HasSubstr("fast")));
  EXPECT_THAT(ErrorOf(R"({"verb":"attach","name":"a","order":"any"})"),
              StatusIs(invalid, HasSubstr("any")));
  EXPECT_THAT(
      ErrorOf(R"({"verb":"attach","name":"a","image_cache_size":"x"})"),
      StatusIs(invalid, HasSubstr("image_cache_size")));
  EXPECT_THAT(target_.calls, IsEmpty());
}

TEST_F(ControlProtocolTest, ADetachSaysWhatBecomesOfDirtyData) {
  for (const char* how : {"", "drain", "keep_dirty", "discard"}) {
    EXPECT_EQ(Ask(absl::StrCat(R"({"verb":"detach","name":"vm1","how":")", how,
                               R"("})"))["ok"],
              true);
  }
  EXPECT_THAT(target_.calls,
              ElementsAre("detach vm1", "detach vm1 draining",
                          "detach vm1 keeping", "detach vm1 discarding"));
  EXPECT_THAT(ErrorOf(R"({"verb":"detach","name":"vm1","how":"now"})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("now")));

  // Refusals come with the end of the operation.
  const Json begun = Ask(R"({"verb":"detach","name":"vm2"})");
  EXPECT_THAT(ErrorOf(absl::StrCat(R"({"verb":"operation","operation":)",
                                   begun["operation"].get<int>(), "}")),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("is open")));
}

TEST_F(ControlProtocolTest, ListNamesWhatIsNotServedToo) {
  target_.status.absent = {{.name = "old",
                            .backing = "/dev/vg0/old",
                            .is_detached = true,
                            .reason = "was detached"}};
  const Json answer = Ask(R"({"verb":"list"})");

  ASSERT_EQ(answer["images"].size(), 3u);
  EXPECT_EQ(answer["images"][2]["name"], "old");
  EXPECT_EQ(answer["images"][2]["state"], "detached");
  EXPECT_EQ(answer["images"][2]["state_reason"], "was detached");
  const Json status = Ask(R"({"verb":"status"})")["status"];
  EXPECT_EQ(status["images"].size(), 2u);
  EXPECT_EQ(status["absent"][0]["name"], "old");
}

TEST_F(ControlProtocolTest, SharesAreSetInBytes) {
  target_.status.images[1].segment_size = 16 << 20;
  EXPECT_EQ(Ask(R"({"verb":"set","name":"vm2","key":"image_cache_size",)"
                R"("value":"1G"})")["values"]["image_cache_size"],
            1073741824);
  EXPECT_THAT(ErrorOf(R"({"verb":"set","name":"vm2",)"
                      R"("key":"image_cache_size","value":"much"})"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("image_cache_size")));
}

TEST_F(ControlProtocolTest, GrowTellsHowMuch) {
  EXPECT_EQ(Ask(R"({"verb":"grow"})"),
            Json({{"ok", true}, {"segments", 656}, {"added", 16}}));
}

TEST_F(ControlProtocolTest, AModeSwitchIsAnOperation) {
  const std::string set =
      R"({"verb":"set","name":"vm1","key":"cache_mode","value":")";
  const Json begun = Ask(set + R"(writethrough"})");
  const std::string poll =
      R"({"verb":"operation","operation":)" + begun["operation"].dump() + "}";
  EXPECT_THAT(target_.calls, ElementsAre("mode vm1 writethrough"));
  EXPECT_EQ(Ask(poll)["verb"], "set");
  EXPECT_EQ(Ask(poll)["done"], false);
  target_.draining.front()(absl::OkStatus());
  EXPECT_EQ(Ask(poll)["done"], true);

  const Json refused = Ask(set + R"(passthrough"})");
  EXPECT_THAT(
      ErrorOf(R"({"verb":"operation","operation":)" +
              refused["operation"].dump() + "}"),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("read-only")));
}

TEST_F(ControlProtocolTest, AStopIsRefusedWhileImagesAreOpen) {
  EXPECT_THAT(
      ErrorOf(R"({"verb":"stop"})"),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("vm1")));
  EXPECT_FALSE(begins_stop_);
  EXPECT_EQ(Ask(R"({"verb":"stop","force":true})")["pid"], 4711);
  EXPECT_TRUE(begins_stop_);
  EXPECT_THAT(target_.calls, IsEmpty());
}

TEST_F(ControlProtocolTest, ExplainAndMapAskTheImage) {
  const Json place = Ask(R"({"verb":"explain","name":"vm1","offset":9})");
  EXPECT_EQ(place["kind"], "backing");
  EXPECT_EQ(place["range_offset"], 9);
  const Json map = Ask(R"({"verb":"map","name":"vm1","cells":3})");
  EXPECT_EQ(map["cells"].size(), 3u);
  EXPECT_EQ(map["size"], 1 << 30);
  for (const char* offset : {"-1", "\"1\"", "null", "1.5"}) {
    EXPECT_THAT(ErrorOf(absl::StrCat(
                    R"({"verb":"explain","name":"vm1","offset":)", offset,
                    "}")),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << offset;
  }
}

TEST_F(ControlProtocolTest, WhatIsNoRequestIsAnsweredWithAnError) {
  for (const std::string& request :
       {std::string(), std::string("\0", 1), std::string("["),
        std::string("[]"), std::string("17"), std::string("{"),
        std::string("{}"), std::string(R"({"verb":7})"),
        std::string(R"({"verb":"format"})"),
        std::string(R"({"verb":"status","name":{}})"),
        std::string(R"({"verb":"operation"})"),
        std::string(R"({"verb":"operation","operation":-1})"),
        std::string(R"({"verb":"operation","operation":"1"})"),
        std::string("{\"verb\":\"\xff\"}"), std::string(1 << 15, '['),
        std::string(ControlProtocol::kMaxRequestSize + 1, ' ')}) {
    EXPECT_FALSE(ErrorOf(request).ok()) << request.substr(0, 80);
    EXPECT_FALSE(begins_stop_);
  }
  EXPECT_THAT(target_.calls, IsEmpty());
}

TEST_F(ControlProtocolTest, NamesThatAreNoUtf8DoNotBreakTheAnswer) {
  target_.status.path = "/cache/\xff";

  EXPECT_EQ(Ask(R"({"verb":"status"})")["status"]["cache"]["path"],
            "/cache/\xef\xbf\xbd");
}

TEST(StatusFromJson, GivesErrorsBack) {
  const absl::Status error = absl::DataLossError("bad segment 7");

  EXPECT_EQ(StatusFromJson(ErrorToJson(error)), error);
  EXPECT_THAT(StatusFromJson(Json({{"ok", true}})), IsOk());
  EXPECT_FALSE(StatusFromJson(Json::array()).ok());
  EXPECT_FALSE(StatusFromJson(Json::object()).ok());
}

}  // namespace
}  // namespace pcachefs
