#include "test/testing/image_fixture.h"

#include <memory>
#include <utility>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "meta/status_macros.h"

namespace pcachefs {
ImageFixture::ImageFixture(const Options& options)
    : SimulatedMachine(options.seed),
      options_(options),
      judged_({.disk = options.disk,
               .disk_has_content = options.disk_has_content},
              state_) {
  state_.cache_device = std::make_unique<FakeCacheDevice>(options.cache);
  Connect({&judged_});
  state_.Violate(Cache::Format(cache_device(), options.format, clock_));
}

ImageFixture::ImageFixture(const Options& options, const ImageFixture& other)
    : SimulatedMachine(options.seed, other),
      options_(options),
      judged_(other.judged_, state_) {
  Connect({&judged_});
}

ImageFixture::~ImageFixture() { SwitchOff(); }

std::unique_ptr<ImageFixture> ImageFixture::Fork(uint64_t seed) const {
  Options options = options_;
  options.seed = seed;
  return std::unique_ptr<ImageFixture>(new ImageFixture(options, *this));
}

absl::Status ImageFixture::Start(bool judge) {
  ABSL_HARDENING_ASSERT(!is_on());
  RETURN_IF_ERROR(status());
  absl::Status failed = Open(options_.cache_options);
  if (failed.ok()) {
    auto image = cache_->Attach(judged_.name(), disk().Open(), options_.image);
    failed = image.status();
    if (failed.ok()) judged_.OnServed(*image);
  }
  if (!failed.ok()) {
    // Only a device that was made to fail may prevent a start.
    if (!stopped() && !cache_device().fault_fired()) {
      state_.Violate(failed);
    }
    SwitchOff();
    return failed;
  }
  return judge ? Judge() : absl::OkStatus();
}

absl::Status ImageFixture::Judge() {
  RETURN_IF_ERROR(judged_.Judge([this] { Round(); }));
  return status();
}

absl::Status ImageFixture::JudgeBacking(uint64_t seed) {
  judged_.JudgeBacking(seed);
  return status();
}

absl::Status ImageFixture::Write(ImageRange range) {
  StartWrite(range);
  return Settle();
}
absl::Status ImageFixture::Zero(ImageRange range) {
  StartZero(range);
  return Settle();
}
absl::Status ImageFixture::Discard(ImageRange range) {
  StartDiscard(range);
  return Settle();
}
absl::Status ImageFixture::Read(ImageRange range) {
  StartRead(range);
  return Settle();
}
absl::Status ImageFixture::Flush() {
  StartFlush();
  return Settle();
}

absl::Status ImageFixture::SetMode(CacheMode mode) {
  StartSetMode(mode);
  return Settle();
}

absl::Status ImageFixture::Drain() {
  RETURN_IF_ERROR(Settle());
  const auto answer =
      std::make_shared<absl::Status>(absl::UnknownError("not answered"));
  judged_.StartDrain(answer);
  RETURN_IF_ERROR(Settle());
  RETURN_IF_ERROR(*answer);
  judged_.JudgeDrained();
  return status();
}

}  // namespace pcachefs
