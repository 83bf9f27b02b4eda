// Matchers for the Outcome of a program.

#ifndef PCACHEFS_TEST_E2E_TESTING_OUTCOME_MATCHERS_H_
#define PCACHEFS_TEST_E2E_TESTING_OUTCOME_MATCHERS_H_

#include <algorithm>
#include <ostream>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "test/e2e/testing/process.h"

namespace pcachefs {

MATCHER(Succeeds, "exits with 0") { return arg.ok(); }

MATCHER_P(ExitsWith, code, "") { return arg.exit_code == code; }

// Refusals are one line for people, whatever they refuse: no log prefix, no
// stack of causes over several lines, nothing on stdout.
class RefusesWithMatcher {
 public:
  using is_gtest_matcher = void;

  RefusesWithMatcher(int code, testing::Matcher<std::string> line)
      : code_(code), line_(std::move(line)) {}

  bool MatchAndExplain(const Outcome& outcome,
                       testing::MatchResultListener* listener) const {
    const std::string& err = outcome.err;
    const auto lines = std::count(err.begin(), err.end(), '\n');
    *listener << "which wrote " << lines << " lines";
    return !outcome.timed_out && outcome.exit_code == code_ && lines == 1 &&
           err.size() > 1 && err.back() == '\n' && line_.Matches(err);
  }
  void DescribeTo(std::ostream* out) const {
    *out << "exits with " << code_ << " and one line on stderr that ";
    line_.DescribeTo(out);
  }
  void DescribeNegationTo(std::ostream* out) const {
    *out << "does not exit with " << code_
         << ", or not with one line on stderr that ";
    line_.DescribeTo(out);
  }

 private:
  int code_;
  testing::Matcher<std::string> line_;
};

inline RefusesWithMatcher RefusesWith(int code,
                                      testing::Matcher<std::string> line) {
  return RefusesWithMatcher(code, std::move(line));
}

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_OUTCOME_MATCHERS_H_
