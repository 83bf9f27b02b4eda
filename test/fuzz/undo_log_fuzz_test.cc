// Feeds bytes to the reader of undo logs, which a repair is taken back from.
//
// Input: a flag (1 byte), then the file. Bit 0 of the flag puts the right title
// in front, bit 1 the right checksum behind, since no fuzzer finds a CRC.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "meta/crc32c.h"
#include "meta/endian.h"
#include "meta/types.h"
#include "test/fuzz/require.h"
#include "tools/undo_log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  if (size == 0) return 0;
  const Uuid cache;
  std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  if ((data[0] & 1) != 0) {
    text = "pcachefs undo log 1, cache " + cache.ToString() + "\n" + text;
  }
  if ((data[0] & 2) != 0) {
    std::byte crc[sizeof(uint32_t)];
    StoreLittle<uint32_t>(crc, 0, Crc32c(std::as_bytes(std::span(text))));
    text.append(reinterpret_cast<const char*>(crc), sizeof(crc));
  }

  const auto stores = ParseUndoLog("x.undo", text, cache);

  if (!stores.ok()) return 0;
  std::string again = UndoLogText(cache, *stores);
  Require(again == text, "an accepted log is what would be written");
  return 0;
}
