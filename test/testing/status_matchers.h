// Matchers for absl::Status and absl::StatusOr, as abseil itself has them only
// in later releases:
//
//   EXPECT_THAT(status, IsOk());
//   EXPECT_THAT(ParsePort("80"), IsOkAndHolds(80));
//   EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss));
//   EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss,
//                                HasSubstr("bad magic")));

#ifndef PCACHEFS_TEST_TESTING_STATUS_MATCHERS_H_
#define PCACHEFS_TEST_TESTING_STATUS_MATCHERS_H_

#include <ostream>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"

namespace pcachefs {
namespace status_matchers_internal {

inline const absl::Status& GetStatus(const absl::Status& status) {
  return status;
}

template <typename T>
const absl::Status& GetStatus(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

class IsOkMatcher {
 public:
  using is_gtest_matcher = void;

  template <typename T>
  bool MatchAndExplain(const T& actual,
                       testing::MatchResultListener* listener) const {
    const absl::Status& status = GetStatus(actual);
    if (!status.ok()) *listener << "whose status is " << status.ToString();
    return status.ok();
  }
  void DescribeTo(std::ostream* out) const { *out << "is OK"; }
  void DescribeNegationTo(std::ostream* out) const { *out << "is not OK"; }
};

class StatusIsMatcher {
 public:
  using is_gtest_matcher = void;

  StatusIsMatcher(absl::StatusCode code, testing::Matcher<std::string> message)
      : code_(code), message_(std::move(message)) {}

  template <typename T>
  bool MatchAndExplain(const T& actual,
                       testing::MatchResultListener* listener) const {
    const absl::Status& status = GetStatus(actual);
    *listener << "whose status is " << status.ToString();
    return status.code() == code_ &&
           message_.Matches(std::string(status.message()));
  }
  void DescribeTo(std::ostream* out) const {
    *out << "has status code " << absl::StatusCodeToString(code_)
         << " and a message that ";
    message_.DescribeTo(out);
  }
  void DescribeNegationTo(std::ostream* out) const {
    *out << "does not have status code " << absl::StatusCodeToString(code_)
         << " or has a message that ";
    message_.DescribeNegationTo(out);
  }

 private:
  absl::StatusCode code_;
  testing::Matcher<std::string> message_;
};

// Becomes a matcher once it is known which StatusOr is matched.
template <typename ValueMatcher>
class IsOkAndHoldsMatcher {
 public:
  explicit IsOkAndHoldsMatcher(ValueMatcher matcher)
      : matcher_(std::move(matcher)) {}

  template <typename StatusOr>
  operator testing::Matcher<StatusOr>() const {  // NOLINT: gmock converts
    return testing::Matcher<StatusOr>(new Typed<StatusOr>(matcher_));
  }

 private:
  template <typename StatusOr>
  class Typed : public testing::MatcherInterface<StatusOr> {
   public:
    using Value = typename std::decay_t<StatusOr>::value_type;

    explicit Typed(const ValueMatcher& matcher)
        : matcher_(testing::SafeMatcherCast<const Value&>(matcher)) {}

    bool MatchAndExplain(
        StatusOr actual,
        testing::MatchResultListener* listener) const override {
      if (!actual.ok()) {
        *listener << "whose status is " << actual.status().ToString();
        return false;
      }
      return matcher_.MatchAndExplain(*actual, listener);
    }
    void DescribeTo(std::ostream* out) const override {
      *out << "is OK and holds a value that ";
      matcher_.DescribeTo(out);
    }
    void DescribeNegationTo(std::ostream* out) const override {
      *out << "is not OK or holds a value that ";
      matcher_.DescribeNegationTo(out);
    }

   private:
    testing::Matcher<const Value&> matcher_;
  };

  ValueMatcher matcher_;
};

}  // namespace status_matchers_internal

inline status_matchers_internal::IsOkMatcher IsOk() { return {}; }

inline status_matchers_internal::StatusIsMatcher StatusIs(
    absl::StatusCode code,
    testing::Matcher<std::string> message = testing::A<std::string>()) {
  return status_matchers_internal::StatusIsMatcher(code, std::move(message));
}

template <typename ValueMatcher>
status_matchers_internal::IsOkAndHoldsMatcher<std::decay_t<ValueMatcher>>
IsOkAndHolds(ValueMatcher&& matcher) {
  return status_matchers_internal::IsOkAndHoldsMatcher<
      std::decay_t<ValueMatcher>>(std::forward<ValueMatcher>(matcher));
}

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_TESTING_STATUS_MATCHERS_H_
