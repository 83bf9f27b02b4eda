#include "tools/mount_helper.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace pcachefs {
namespace {

constexpr char kUsage[] =
    "want: mount.pcachefs CACHE DIRECTORY [-sfnv] [-o OPTIONS]";

absl::Status Refuse(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(what, "; ", kUsage));
}

// -s tolerates unknown options, -n does without /etc/mtab, -v says more: nothing
// of this is for us. A mistyped option of ours would change what is mounted, so
// unknown ones are refused all the same.
absl::Status TakeSwitches(const std::string& word, MountHelperCall& call) {
  for (const char c : word.substr(1)) {
    if (c == 'f') {
      call.is_fake = true;
    } else if (c != 's' && c != 'n' && c != 'v') {
      return Refuse(absl::StrCat("got ", word));
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool IsMountHelper(absl::string_view argv0) {
  const size_t slash = argv0.rfind('/');
  if (slash != absl::string_view::npos) argv0.remove_prefix(slash + 1);
  return absl::StartsWith(argv0, "mount.");
}

absl::StatusOr<MountHelperCall> TranslateMountHelperCall(
    const std::vector<std::string>& arguments) {
  MountHelperCall call;
  std::vector<std::string> words;
  std::vector<std::string> options;
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    // -t says our own name, -N the namespace that mount(8) already is in.
    if (word == "-o" || word == "-t" || word == "-N") {
      if (++i == arguments.size()) return Refuse(word + ": want more after it");
      if (word == "-o") options.push_back(arguments[i]);
    } else if (absl::StartsWith(word, "-") && word.size() > 1) {
      const absl::Status status = TakeSwitches(word, call);
      if (!status.ok()) return status;
    } else {
      words.push_back(word);
    }
  }
  if (words.size() != 2) {
    return Refuse(absl::StrCat("got ", words.size(), " names"));
  }
  call.arguments = {arguments.empty() ? "pcachefs" : arguments[0],
                    absl::StrCat("--cache=", words[0])};
  for (const std::string& text : options) {
    call.arguments.push_back("-o");
    call.arguments.push_back(text);
  }
  call.arguments.push_back("--");
  call.arguments.push_back(words[1]);
  return call;
}

}  // namespace pcachefs
