// Status as JSON: the keys of `pcachectl status --json` and of status.json.
// Keys stay; bytes are integers, times are seconds, positions are objects.

#ifndef PCACHEFS_FUSE_STATUS_JSON_H_
#define PCACHEFS_FUSE_STATUS_JSON_H_

#include <string>

#include "core/status.h"
#include "fuse/server_facts.h"
#include "nlohmann/json.hpp"

namespace pcachefs {

// Keeps keys in the order of writing, for people.
using Json = nlohmann::ordered_json;

Json ToJson(const ImageStatus& image);
Json ToJson(const AbsentImage& image);
Json ToJson(const CacheStatus& cache, const ServerFacts& server);

// Never fails: bytes that are not UTF-8 become U+FFFD.
std::string ToText(const Json& json);

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_STATUS_JSON_H_
