// Feeds text to what reads /proc/self/mountinfo: names in it are chosen by
// whoever may mount.

#include <cstddef>
#include <cstdint>
#include <string>

#include "test/fuzz/require.h"
#include "tools/mountpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::string type = pcachefs::MountTypeAt("/mnt/a b", text);
  pcachefs::Require(type.empty() || text.find(type) != std::string::npos,
                    "a type stands in the text");
  return 0;
}
