// Feeds what may be written to the files of the control tree, and what may come
// back.
//
// Input: what it is for (1 byte), then text. An even number: requests for
// `control`, one a line, which are also read as answers. An odd one: half of
// it, rounded down, is the number of an attribute, which the text is for.

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "core/image_map.h"
#include "fuse/control_attributes.h"
#include "fuse/control_protocol.h"
#include "fuse/error_json.h"
#include "fuse/status_json.h"
#include "test/fuse/fake_control_target.h"
#include "test/fuzz/require.h"

namespace pcachefs {
namespace {

// With what it remembers bounded, and a map as small as the real one.
class Target : public FakeControlTarget {
 public:
  void SetMode(const std::string& name, CacheMode mode, Done done) override {
    Require(NameIsKnown(name), "a mode is set of an image");
    done(mode == CacheMode::kPassthrough ? absl::AbortedError("x")
                                         : absl::OkStatus());
  }
  void Drain(const std::string& name, Done done) override {
    Require(name.empty() || NameIsKnown(name), "an image is drained");
    done(absl::OkStatus());
  }
  absl::StatusOr<ImageMap> DrawMap(const std::string& /*name*/,
                                   size_t cell_count) override {
    return ImageMap{4096, std::vector<MapCell>(cell_count % 8)};
  }
  void Attach(const AttachRequest& request, Done done) override {
    Require(ValidateImageName(request.name).ok(), "a new name is valid");
    done(absl::OkStatus());
  }

 private:
  bool NameIsKnown(const std::string& name) const {
    return name == "vm1" || name == "vm2";
  }
};

void CheckAnswer(const ControlAnswer& answer) {
  Require(answer.text.ends_with('\n') &&
              answer.text.find('\n') == answer.text.size() - 1,
          "an answer is a line");
  const Json json = Json::parse(answer.text, nullptr, false);
  Require(json.is_object() && json.contains("ok") && json["ok"].is_boolean(),
          "an answer is an object that says whether it is one");
  Require(json["ok"].get<bool>() == StatusFromJson(json).ok(),
          "a client sees an error iff there is one");
  Require(!answer.begins_stop || json["ok"].get<bool>(),
          "only what was accepted ends the daemon");
}

void RunRequests(absl::string_view text) {
  Target target;
  ControlProtocol protocol(target);
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    CheckAnswer(protocol.Handle(line));
    (void)StatusFromJson(Json::parse(line, nullptr, false));
  }
}

void StoreAttribute(size_t number, absl::string_view value) {
  Target target;
  const size_t attribute = number % ImageAttributeNames().size();
  const ImageStatus image = target.status.images[0];
  (void)StoreImageAttribute(static_cast<int>(attribute), target, image, value);
  const std::string text =
      ImageAttributeText(static_cast<int>(attribute), target.status.images[0]);
  Require(text.find('\n') == text.size() - 1, "an attribute is a line");
}

}  // namespace
}  // namespace pcachefs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  if (size == 0) return 0;
  const absl::string_view text(reinterpret_cast<const char*>(data + 1),
                               size - 1);
  if (data[0] % 2 == 0) {
    RunRequests(text);
  } else {
    StoreAttribute(data[0] / 2, text);
  }
  return 0;
}
