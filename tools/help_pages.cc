#include "tools/help_pages.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "tools/commands/command.h"
#include "tools/settings.h"

namespace pcachefs {
namespace {

std::string FlagText(const char* name, const char* placeholder) {
  return placeholder == nullptr ? absl::StrCat("--", name)
                                : absl::StrCat("--", name, "=", placeholder);
}

// The flags of a verb, as of the command line: --json is everywhere.
std::vector<CommandFlag> FlagsOf(const Command& command,
                                 const HelpSource& source) {
  std::vector<CommandFlag> flags;
  for (const CommandFlag& flag : source.flags) {
    const std::string name = flag.name;
    if (name == "json" || std::count(command.flags.begin(),
                                     command.flags.end(), name) > 0) {
      flags.push_back(flag);
    }
  }
  return flags;
}

std::string Heading(absl::string_view program, absl::string_view what) {
  return absl::StrCat(".TH ", absl::AsciiStrToUpper(program),
                      " 8 \"\" pcachefs \"System administration\"\n.SH NAME\n",
                      program, " \\- ", what, "\n");
}

std::string Entry(absl::string_view term, absl::string_view text) {
  return absl::StrCat(".TP\n\\fB", EscapeRoff(term), "\\fR\n",
                      EscapeRoff(text), "\n");
}

std::string DaemonManual() {
  std::string text = Heading("pcachefs", "serve a block cache as files");
  absl::StrAppend(
      &text,
      ".SH SYNOPSIS\n.B pcachefs\n",
      EscapeRoff("--cache=PATH [--cache_size=SIZE] [--backing=NAME=SPEC,...] "
                 "[flags] MOUNTPOINT"),
      "\n.br\n.B mount \\-t pcachefs\n",
      EscapeRoff("PATH MOUNTPOINT [-o flag=value,...]"),
      "\n.SH DESCRIPTION\n",
      EscapeRoff("Puts the cache device PATH in front of slow disks and shows "
                 "each as the file MOUNTPOINT/NAME. Every flag may be written "
                 "as -o key=value, and as a line \"key = value\" of a config "
                 "file. Sizes take K, M, G and T."),
      "\n.SH OPTIONS\n");
  for (const Setting& setting : AllSettings()) {
    absl::StrAppend(
        &text, Entry(FlagText(setting.name, setting.placeholder),
                     setting.help));
  }
  absl::StrAppend(
      &text,
      Entry("--config=FILE",
            "Settings from a file of lines KEY = VALUE, and its mountpoint; "
            "flags and -o win."),
      ".SH EXIT STATUS\n0 the mount answers, 1 failure, 2 wrong usage.\n"
      ".SH FILES\n", EscapeRoff("/etc/pcachefs/NAME.conf"),
      "\nsettings of the unit ", EscapeRoff("pcachefs@NAME.service."),
      "\n.SH SEE ALSO\n.BR pcachectl (8)\n");
  return text;
}

std::string CommandManual(const HelpSource& source) {
  std::string text = Heading("pcachectl", "administer block caches");
  absl::StrAppend(&text,
                  ".SH SYNOPSIS\n.B pcachectl\n",
                  EscapeRoff("VERB ARGUMENTS... [--json]"),
                  "\n.SH DESCRIPTION\nMOUNT is where a cache is mounted by "
                  ".BR pcachefs (8),\nCACHE a cache device that is not.\n"
                  ".SH VERBS\n");
  text = absl::StrReplaceAll(text, {{"by .BR", "by\n.BR"}});
  for (const Command& command : source.commands) {
    absl::StrAppend(&text, ".SS ",
                    EscapeRoff(absl::StrCat(command.name, " ",
                                            command.usage)),
                    "\n", EscapeRoff(command.help), "\n");
    for (const CommandFlag& flag : FlagsOf(command, source)) {
      if (std::string(flag.name) == "json") continue;
      absl::StrAppend(&text,
                      Entry(FlagText(flag.name, flag.placeholder), flag.help));
    }
  }
  absl::StrAppend(
      &text,
      ".SH OPTIONS\n", Entry("--json", "Print one JSON object."),
      Entry("--help", "What a verb does."),
      ".SH EXIT STATUS\n0 ok, 1 failure, 2 wrong usage; check, repair: 4 "
      "damage, 8 could not run;\nstatus ",
      EscapeRoff("--quiet: 3 dirty."),
      "\n.SH SEE ALSO\n.BR pcachefs (8)\n");
  return text;
}

std::vector<std::string> Verbs(const HelpSource& source) {
  std::vector<std::string> verbs;
  for (const Command& command : source.commands) verbs.push_back(command.name);
  return verbs;
}

std::vector<std::string> FlagWords(const Command& command,
                                   const HelpSource& source) {
  std::vector<std::string> words = {"--help"};
  for (const CommandFlag& flag : FlagsOf(command, source)) {
    words.push_back(absl::StrCat("--", flag.name,
                                 flag.placeholder == nullptr ? "" : "="));
  }
  return words;
}

bool TakesMount(const Command& command) {
  return absl::StartsWith(absl::StripPrefix(command.usage, "["), "MOUNT");
}

// A case of `flags` and one of the `kind` of the words, per verb.
std::string CompletionCases(const HelpSource& source) {
  std::string text;
  for (const Command& command : source.commands) {
    absl::StrAppend(&text, "    ", command.name, ") flags='",
                    absl::StrJoin(FlagWords(command, source), " "), "'; kind=",
                    TakesMount(command) ? "mount" : "file", " ;;\n");
  }
  return text;
}

std::string BashCompletion(const HelpSource& source) {
  return absl::StrCat(R"sh(# Completion of pcachectl for bash.
_pcachectl() {
  local cur=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} flags= kind=
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W ')sh", absl::StrJoin(Verbs(source), " "),
                      R"sh( --help --version' -- "$cur"))
    return
  fi
  case $verb in
)sh", CompletionCases(source), R"sh(  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    [[ ${COMPREPLY-} == *= ]] && compopt -o nospace
  elif [[ $kind == mount ]] && ((COMP_CWORD == 2)); then
    COMPREPLY=($(compgen -W "$(awk '$3 ~ /pcachefs/ {print $2}' /proc/mounts)" \
      -- "$cur"))
  elif [[ $kind == mount ]] && ((COMP_CWORD == 3)); then
    COMPREPLY=($(compgen -W "$(ls "${COMP_WORDS[2]}" 2>/dev/null)" -- "$cur"))
  else
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}
complete -F _pcachectl pcachectl
)sh");
}

std::string ZshCompletion(const HelpSource& source) {
  return absl::StrCat(R"sh(#compdef pcachectl
# Completion of pcachectl for zsh.
_pcachectl() {
  local flags= kind=
  if ((CURRENT == 2)); then
    compadd -- )sh", absl::StrJoin(Verbs(source), " "), R"sh( --help --version
    return
  fi
  case $words[2] in
)sh", CompletionCases(source), R"sh(  esac
  if [[ $PREFIX == -* ]]; then
    compadd -S '' -- ${=flags}
  elif [[ $kind == mount ]] && ((CURRENT == 3)); then
    compadd -- $(awk '$3 ~ /pcachefs/ {print $2}' /proc/mounts)
  elif [[ $kind == mount ]] && ((CURRENT == 4)); then
    compadd -- $(ls $words[3] 2>/dev/null)
  else
    _files
  fi
}
_pcachectl "$@"
)sh");
}

}  // namespace

std::string EscapeRoff(absl::string_view text) {
  std::string escaped = absl::StrReplaceAll(
      text, {{"\\", "\\e"}, {"-", "\\-"}, {"\n.", "\n\\&."}, {"\n'", "\n\\&'"}});
  if (absl::StartsWith(escaped, ".") || absl::StartsWith(escaped, "'")) {
    escaped.insert(0, "\\&");
  }
  return escaped;
}

absl::StatusOr<std::string> MakeHelpPage(absl::string_view page,
                                         const HelpSource& source) {
  if (page == "man-pcachefs") return DaemonManual();
  if (page == "man-pcachectl") return CommandManual(source);
  if (page == "bash") return BashCompletion(source);
  if (page == "zsh") return ZshCompletion(source);
  return absl::InvalidArgumentError(
      absl::StrCat("generate: got '", page,
                   "', want man-pcachefs, man-pcachectl, bash or zsh"));
}

}  // namespace pcachefs
