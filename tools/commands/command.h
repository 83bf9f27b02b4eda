// What a verb of pcachectl is, and what it gets.

#ifndef PCACHEFS_TOOLS_COMMANDS_COMMAND_H_
#define PCACHEFS_TOOLS_COMMANDS_COMMAND_H_

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace pcachefs {

// The command line behind the verb, checked against the verb's description.
struct Arguments {
  std::vector<std::string> words;            // without flags
  std::map<std::string, std::string> flags;  // those given; switches: "true"

  bool Has(const std::string& flag) const {
    const auto found = flags.find(flag);
    return found != flags.end() && found->second != "false";
  }
  std::string Flag(const std::string& flag) const {
    const auto found = flags.find(flag);
    return found == flags.end() ? "" : found->second;
  }
  // The word at `index`; empty if there are fewer.
  std::string Word(size_t index) const {
    return index < words.size() ? words[index] : "";
  }
  bool json() const { return Has("json"); }
};

struct Command {
  const char* name;
  const char* usage;  // behind the verb
  const char* help;   // what it does, some lines
  size_t min_words;
  size_t max_words;
  std::vector<std::string> flags;  // beside --json and --help
  // The exit code. Errors are printed by the caller; InvalidArgument is wrong
  // usage.
  absl::StatusOr<int> (*run)(const Arguments& arguments);
};

// Every flag of any verb.
struct CommandFlag {
  const char* name;
  const char* placeholder;  // nullptr: a switch
  const char* help;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_COMMAND_H_
