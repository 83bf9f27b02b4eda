#include "tools/commands/check_config.h"

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/config_file.h"

namespace pcachefs {
namespace {

absl::StatusOr<int> Run(const Arguments& arguments) {
  const std::string path = arguments.Word(0);
  ASSIGN_OR_RETURN(const std::string text, ReadConfigText(path));
  const ConfigFile file = ParseConfigFile(path, text);
  if (arguments.json()) {
    PrintJson({{"ok", file.errors.empty()},
               {"values", file.values},
               {"errors", file.errors}});
    return file.errors.empty() ? 0 : 1;
  }
  if (!file.errors.empty()) {
    return absl::FailedPreconditionError(absl::StrJoin(file.errors, "\n"));
  }
  PrintText(absl::StrCat(path, ": ok\n"));
  return 0;
}

}  // namespace

Command CheckConfigCommand() {
  return {.name = "check-config",
          .usage = "FILE",
          .help =
              "Checks a config file of pcachefs, such as "
              "/etc/pcachefs/NAME.conf: every line\nwith an error is named. "
              "What the devices are is seen only at the start.",
          .min_words = 1,
          .max_words = 1,
          .run = Run};
}

}  // namespace pcachefs
