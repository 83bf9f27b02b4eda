// The URI of an NBD export, read for what must be known before libnbd sees it:
// whether it is complete, and which device it names.

#ifndef PCACHEFS_IOBACKEND_NBD_URI_H_
#define PCACHEFS_IOBACKEND_NBD_URI_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

struct NbdUri {
  // As given; what libnbd gets, options of TLS included.
  std::string text;
  // Which device it is, whoever asks and however encrypted:
  //   "tcp=<host>:<port>,export=<name>"   host in lower case
  //   "unix=<socket>,export=<name>"
  // At most 255 bytes. Names of hosts are compared, not their addresses.
  std::string identity;
};

// True if `spec` begins as an NBD URI does: nbd://, nbds://, nbd+unix://,
// nbds+unix://.
bool IsNbdUri(absl::string_view spec);

// InvalidArgument, naming what is wrong and an example, if it is not
//   nbd://[USER@]HOST[:PORT][/EXPORT][?tls-...=...]
//   nbd+unix://[USER@]/[EXPORT]?socket=/PATH[&tls-...=...]
// or the same with nbds. A password is refused: the URI is recorded in the
// cache and shown in status. Keys of TLS are in files that the URI names.
absl::StatusOr<NbdUri> ParseNbdUri(absl::string_view text);

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_NBD_URI_H_
