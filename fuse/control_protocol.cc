#include "fuse/control_protocol.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/image_map.h"
#include "core/options.h"
#include "core/status.h"
#include "fuse/control_target.h"
#include "fuse/error_json.h"
#include "fuse/image_setting.h"
#include "fuse/json_members.h"
#include "fuse/status_json.h"
#include "iobackend/monotonic_time.h"
#include "meta/records.h"
#include "meta/status_macros.h"
#include "meta/types.h"

namespace pcachefs {
namespace {

// The only setting whose change is an operation.
constexpr char kModeKey[] = "cache_mode";

// Whether doing it twice is as good as once.
bool IsRepeatable(const Json& request) {
  const std::string verb = StringMember(request, "verb").value_or("");
  return verb != "attach" && verb != "detach" && verb != "upgrade";
}

Json Success() { return {{"ok", true}}; }

Json ListEntry(const ImageStatus& image) {
  return {{"name", image.name},
          {"id", image.id.value()},
          {"size", image.size},
          {"backing", image.backing},
          {"mode", Name(image.mode)},
          {"state", Name(image.state)},
          {"state_reason", image.state_reason},
          {"dirty_bytes", image.dirty_bytes}};
}

// Of an image without a log in memory: what is dirty in it is not known.
Json ListEntry(const AbsentImage& image) {
  return {{"name", image.name},
          {"id", image.id.value()},
          {"size", image.size},
          {"backing", image.backing},
          {"mode", Name(image.mode)},
          {"state", image.is_detached ? "detached" : "missing"},
          {"state_reason", image.reason},
          {"dirty_bytes", nullptr}};
}

// Numbers as numbers, words as words.
Json ValueOf(const ImageSetting& setting, const ImageStatus& image) {
  const std::string text = setting.get(image);
  uint64_t number;
  return absl::SimpleAtoi(text, &number) ? Json(number) : Json(text);
}

absl::Status UnknownKey(const std::string& key) {
  std::vector<std::string> keys;
  for (const ImageSetting& setting : ImageSettings()) {
    keys.push_back(setting.key);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown key '", key, "', want one of ", absl::StrJoin(keys, ", ")));
}

}  // namespace

// Shared by the registry and the callback, which may outlive it.
struct ControlProtocol::Operation {
  uint64_t id = 0;
  std::string verb;
  std::string name;
  uint64_t start_dirty_bytes = 0;
  absl::Time start = MonotonicNow();

  absl::Mutex mutex;
  bool done ABSL_GUARDED_BY(mutex) = false;
  absl::Status status ABSL_GUARDED_BY(mutex);

  void End(absl::Status result) {
    absl::MutexLock lock(&mutex);
    done = true;
    status = std::move(result);
  }
};

void ControlProtocol::StartNumbersAt(uint64_t first) {
  absl::MutexLock lock(&mutex_);
  first_operation_ = first;
  last_operation_ = first - 1;
}

ControlAnswer ControlProtocol::Handle(absl::string_view request,
                                      bool is_resent) {
  absl::StatusOr<Json> answer = absl::InvalidArgumentError(
      absl::StrCat("request: got ", request.size(), " bytes, want at most ",
                   kMaxRequestSize));
  bool begins_stop = false;
  uint64_t begins_upgrade = 0;
  if (request.size() <= kMaxRequestSize) {
    const absl::StatusOr<Json> parsed = ParseObject(request);
    if (!parsed.ok()) {
      answer = parsed.status();
    } else if (is_resent && !IsRepeatable(*parsed)) {
      answer = absl::AbortedError(
          "the daemon was restarted while this was on its way; see with "
          "pcachectl list and status what came of it, and repeat it if need "
          "be");
    } else {
      answer = Dispatch(*parsed);
      begins_stop = answer.ok() && (*parsed)["verb"] == "stop";
      if (answer.ok() && (*parsed)["verb"] == "upgrade") {
        begins_upgrade = (*answer)["upgrade"];
      }
    }
  }
  const Json json = answer.ok() ? *answer : ErrorToJson(answer.status());
  return {ToText(json) + "\n", begins_stop, begins_upgrade};
}

const std::map<std::string, ControlProtocol::Verb>& ControlProtocol::Verbs() {
  static const auto& verbs = *new std::map<std::string, Verb>{
      {"status", &ControlProtocol::Status},  {"list", &ControlProtocol::List},
      {"flush", &ControlProtocol::Flush},    {"drain", &ControlProtocol::Drain},
      {"operation", &ControlProtocol::Poll}, {"get", &ControlProtocol::Get},
      {"set", &ControlProtocol::Set},        {"stop", &ControlProtocol::Stop},
      {"explain", &ControlProtocol::Explain},
      {"map", &ControlProtocol::DrawMap},
      {"attach", &ControlProtocol::Attach},
      {"detach", &ControlProtocol::Detach},
      {"grow", &ControlProtocol::Grow},
      {"upgrade", &ControlProtocol::Upgrade},
      {"upgrade_state", &ControlProtocol::UpgradeState},
  };
  return verbs;
}

absl::StatusOr<Json> ControlProtocol::Dispatch(const Json& request) {
  ASSIGN_OR_RETURN(const std::string verb, StringMember(request, "verb"));
  const auto found = Verbs().find(verb);
  if (found == Verbs().end()) {
    return absl::UnimplementedError(absl::StrCat("unknown verb '", verb, "'"));
  }
  return (this->*found->second)(request);
}

absl::StatusOr<Json> ControlProtocol::Status(const Json& request) {
  ASSIGN_OR_RETURN(const std::string name, StringMember(request, "name"));
  CacheStatus status = target_.GetStatus();
  if (!name.empty()) {
    ASSIGN_OR_RETURN(ImageStatus image, FindImage(name));
    status.images = {std::move(image)};
  }
  Json answer = Success();
  answer["status"] = ToJson(status, target_.GetFacts());
  return answer;
}

absl::StatusOr<Json> ControlProtocol::List(const Json& /*request*/) {
  Json answer = Success();
  answer["images"] = Json::array();
  const CacheStatus status = target_.GetStatus();
  for (const ImageStatus& image : status.images) {
    answer["images"].push_back(ListEntry(image));
  }
  for (const AbsentImage& image : status.absent) {
    answer["images"].push_back(ListEntry(image));
  }
  return answer;
}

absl::StatusOr<Json> ControlProtocol::Flush(const Json& request) {
  ASSIGN_OR_RETURN(const auto operation, BeginOperation("flush", request));
  target_.Flush(operation->name, [operation](absl::Status status) {
    operation->End(std::move(status));
  });
  Json answer = Success();
  answer["operation"] = operation->id;
  return answer;
}

absl::StatusOr<Json> ControlProtocol::Drain(const Json& request) {
  ASSIGN_OR_RETURN(const auto operation, BeginOperation("drain", request));
  target_.Drain(operation->name, [operation](absl::Status status) {
    operation->End(std::move(status));
  });
  Json answer = Success();
  answer["operation"] = operation->id;
  return answer;
}

absl::StatusOr<std::shared_ptr<ControlProtocol::Operation>>
ControlProtocol::BeginOperation(const std::string& verb, const Json& request) {
  ASSIGN_OR_RETURN(const std::string name, StringMember(request, "name"));
  ASSIGN_OR_RETURN(const uint64_t dirty_bytes, DirtyBytes(name));
  return Register(verb, name, dirty_bytes);
}

std::shared_ptr<ControlProtocol::Operation> ControlProtocol::Register(
    const std::string& verb, const std::string& name, uint64_t dirty_bytes) {
  auto operation = std::make_shared<Operation>();
  operation->verb = verb;
  operation->name = name;
  operation->start_dirty_bytes = dirty_bytes;
  absl::MutexLock lock(&mutex_);
  operation->id = ++last_operation_;
  operations_[operation->id] = operation;
  // Ids grow, so the first one is the oldest; who asks for it so late that it
  // is gone learns that it is unknown.
  if (operations_.size() > kMaxOperations)
    operations_.erase(operations_.begin());
  return operation;
}

absl::StatusOr<Json> ControlProtocol::Poll(const Json& request) {
  const auto id = request.find("operation");
  if (id == request.end() || !id->is_number_unsigned()) {
    return absl::InvalidArgumentError("operation: want its number");
  }
  std::shared_ptr<Operation> operation;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = operations_.find(id->get<uint64_t>());
    if (found == operations_.end() &&
        id->get<uint64_t>() < first_operation_) {
      return absl::AbortedError(absl::StrCat(
          "operation ", id->get<uint64_t>(), ": the daemon was restarted "
          "meanwhile; repeat it"));
    }
    if (found == operations_.end()) {
      return absl::NotFoundError(
          absl::StrCat("no operation ", id->get<uint64_t>()));
    }
    operation = found->second;
  }
  // An image that has gone since has nothing dirty left to show.
  const uint64_t dirty_bytes = DirtyBytes(operation->name).value_or(0);

  absl::MutexLock lock(&operation->mutex);
  if (!operation->status.ok()) return operation->status;
  Json answer = Success();
  answer["operation"] = operation->id;
  answer["verb"] = operation->verb;
  answer["name"] = operation->name;
  answer["done"] = operation->done;
  answer["dirty_bytes"] = dirty_bytes;
  answer["start_dirty_bytes"] = operation->start_dirty_bytes;
  answer["seconds"] = absl::ToDoubleSeconds(MonotonicNow() - operation->start);
  return answer;
}

absl::StatusOr<Json> ControlProtocol::Get(const Json& request) {
  ASSIGN_OR_RETURN(const std::string name, StringMember(request, "name"));
  ASSIGN_OR_RETURN(const std::string key, StringMember(request, "key"));
  ASSIGN_OR_RETURN(const ImageStatus image, FindImage(name));
  if (!key.empty() && FindImageSetting(key) == nullptr) {
    return UnknownKey(key);
  }
  Json answer = Success();
  answer["name"] = name;
  answer["values"] = Json::object();
  for (const ImageSetting& setting : ImageSettings()) {
    if (key.empty() || key == setting.key) {
      answer["values"][setting.key] = ValueOf(setting, image);
    }
  }
  return answer;
}

absl::StatusOr<Json> ControlProtocol::Set(const Json& request) {
  ASSIGN_OR_RETURN(const std::string name, StringMember(request, "name"));
  ASSIGN_OR_RETURN(const std::string key, StringMember(request, "key"));
  ASSIGN_OR_RETURN(const std::string value, ValueMember(request));
  ASSIGN_OR_RETURN(const ImageStatus image, FindImage(name));
  const ImageSetting* setting = FindImageSetting(key);
  if (setting == nullptr) {
    return UnknownKey(key);
  }
  if (key == kModeKey) return BeginModeSwitch(request, value);
  RETURN_IF_ERROR(setting->set(target_, image, value));
  ASSIGN_OR_RETURN(const ImageStatus changed, FindImage(name));
  Json answer = Success();
  answer["name"] = name;
  answer["values"] = {{key, ValueOf(*setting, changed)}};
  return answer;
}

absl::StatusOr<Json> ControlProtocol::Explain(const Json& request) {
  ASSIGN_OR_RETURN(const std::string name, StringMember(request, "name"));
  ASSIGN_OR_RETURN(const uint64_t offset, NumberMember(request, "offset"));
  ASSIGN_OR_RETURN(const PlaceInImage place,
                   target_.Explain(name, ImageOffset(offset)));
  Json answer = Success();
  answer["kind"] = Name(place.kind);
  answer["range_offset"] = place.range.offset.value();
  answer["range_length"] = place.range.length;
  if (place.kind != PlaceInImage::Kind::kCached) return answer;
  answer["dirty"] = place.is_dirty;
  answer["segment"] = place.position.segment.value();
  answer["segment_offset"] = place.position.offset.value();
  answer["generation"] = place.generation.value();
  answer["checksum"] =
      place.checksum.ok() ? "ok" : std::string(place.checksum.message());
  answer["hit"] = place.is_hit;
  if (place.key_set) answer["key_set"] = place.key_set->value();
  if (place.age) answer["age_seconds"] = absl::ToDoubleSeconds(*place.age);
  return answer;
}

absl::StatusOr<Json> ControlProtocol::DrawMap(const Json& request) {
  ASSIGN_OR_RETURN(const std::string name, StringMember(request, "name"));
  ASSIGN_OR_RETURN(const uint64_t count, NumberMember(request, "cells"));
  ASSIGN_OR_RETURN(const ImageStatus image, FindImage(name));
  ASSIGN_OR_RETURN(const ImageMap map, target_.DrawMap(name, count));
  Json answer = Success();
  answer["size"] = image.size;
  answer["cell_size"] = map.cell_size;
  answer["cells"] = Json::array();
  for (const MapCell& cell : map.cells) {
    answer["cells"].push_back({{"cached", cell.cached_bytes},
                               {"dirty", cell.dirty_bytes},
                               {"hot", cell.hot_bytes},
                               {"zero", cell.zero_bytes},
                               {"lost", cell.lost_bytes}});
  }
  return answer;
}

absl::StatusOr<Json> ControlProtocol::Attach(const Json& request) {
  ControlTarget::AttachRequest wanted;
  ASSIGN_OR_RETURN(wanted.name, StringMember(request, "name"));
  ASSIGN_OR_RETURN(wanted.spec, StringMember(request, "spec"));
  ASSIGN_OR_RETURN(const std::string mode, StringMember(request, "mode"));
  ASSIGN_OR_RETURN(const std::string order, StringMember(request, "order"));
  ASSIGN_OR_RETURN(wanted.image_cache_size,
                   SizeMember(request, "image_cache_size"));
  ASSIGN_OR_RETURN(wanted.read_only_backing,
                   BoolMember(request, "read_only_backing"));
  if (!mode.empty()) {
    ASSIGN_OR_RETURN(wanted.mode, ParseCacheMode(mode));
  }
  if (!order.empty()) {
    ASSIGN_OR_RETURN(wanted.order, ParseWritebackOrder(order));
  }
  RETURN_IF_ERROR(ValidateImageName(wanted.name));

  const auto operation = Register("attach", wanted.name, 0);
  target_.Attach(wanted, [operation](absl::Status status) {
    operation->End(std::move(status));
  });
  Json answer = Success();
  answer["operation"] = operation->id;
  return answer;
}

absl::StatusOr<Json> ControlProtocol::Detach(const Json& request) {
  ASSIGN_OR_RETURN(const std::string name, StringMember(request, "name"));
  ASSIGN_OR_RETURN(const std::string how, StringMember(request, "how"));
  RETURN_IF_ERROR(ValidateImageName(name));
  DetachKind kind = DetachKind::kRemove;
  if (how == "keep_dirty") {
    kind = DetachKind::kKeepDirty;
  } else if (how == "discard") {
    kind = DetachKind::kDiscard;
  } else if (!how.empty() && how != "drain") {
    return absl::InvalidArgumentError(absl::StrCat(
        "detach: how: got '", how, "', want drain, keep_dirty or discard"));
  }
  // Not of an image in service only: others can be forgotten.
  const auto operation =
      Register("detach", name, DirtyBytes(name).value_or(0));
  target_.Detach(name, kind, how == "drain", [operation](absl::Status status) {
    operation->End(std::move(status));
  });
  Json answer = Success();
  answer["operation"] = operation->id;
  return answer;
}

absl::StatusOr<Json> ControlProtocol::Grow(const Json& /*request*/) {
  ASSIGN_OR_RETURN(const uint32_t added, target_.Grow());
  Json answer = Success();
  answer["segments"] = target_.GetStatus().segments;
  answer["added"] = added;
  return answer;
}

absl::StatusOr<Json> ControlProtocol::BeginModeSwitch(
    const Json& request, const std::string& value) {
  ASSIGN_OR_RETURN(const CacheMode mode, ParseCacheMode(value));
  ASSIGN_OR_RETURN(const auto operation, BeginOperation("set", request));
  target_.SetMode(operation->name, mode, [operation](absl::Status status) {
    operation->End(std::move(status));
  });
  Json answer = Success();
  answer["operation"] = operation->id;
  return answer;
}

absl::StatusOr<Json> ControlProtocol::Stop(const Json& request) {
  RETURN_IF_ERROR(target_.MayStop(IsTrue(request, "force")));
  Json answer = Success();
  answer["pid"] = target_.GetFacts().pid;
  return answer;
}

absl::StatusOr<Json> ControlProtocol::Upgrade(const Json& request) {
  ASSIGN_OR_RETURN(const std::string binary, StringMember(request, "binary"));
  ASSIGN_OR_RETURN(const uint64_t number, target_.PrepareUpgrade(binary));
  Json answer = Success();
  answer["upgrade"] = number;
  return answer;
}

absl::StatusOr<Json> ControlProtocol::UpgradeState(const Json& request) {
  ASSIGN_OR_RETURN(const uint64_t number, NumberMember(request, "upgrade"));
  ASSIGN_OR_RETURN(const bool done, target_.IsUpgradeDone(number));
  const ServerFacts facts = target_.GetFacts();
  Json answer = Success();
  answer["done"] = done;
  answer["pid"] = facts.pid;
  answer["version"] = facts.version;
  answer["pause_seconds"] = facts.failover.last_pause_seconds;
  return answer;
}

absl::StatusOr<uint64_t> ControlProtocol::DirtyBytes(const std::string& name) {
  uint64_t sum = 0;
  bool found = name.empty();
  for (const ImageStatus& image : target_.GetStatus().images) {
    if (!name.empty() && image.name != name) continue;
    found = true;
    sum += image.dirty_bytes;
  }
  if (!found) return NoImage(name);
  return sum;
}

absl::StatusOr<ImageStatus> ControlProtocol::FindImage(
    const std::string& name) {
  for (ImageStatus& image : target_.GetStatus().images) {
    if (image.name == name) return std::move(image);
  }
  return NoImage(name);
}

absl::Status ControlProtocol::NoImage(const std::string& name) {
  std::vector<std::string> names;
  for (const ImageStatus& image : target_.GetStatus().images) {
    names.push_back(image.name);
  }
  return absl::NotFoundError(
      absl::StrCat("no image '", name, "'; there is ",
                   names.empty() ? "none" : absl::StrJoin(names, ", ")));
}

}  // namespace pcachefs
