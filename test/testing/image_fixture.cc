#include "test/testing/image_fixture.h"

#include <memory>
#include <utility>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/check.h"
#include "glog/logging.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

// Rounds without any progress after which a request is stuck. Time advances by
// 10 ms in each, so that this is far beyond the longest back-off.
constexpr int kPatience = 5000;
// Rounds in all: nothing takes so long unless something runs in a circle.
constexpr int kRounds = 50'000;

}  // namespace

ImageFixture::ImageFixture(const Options& options)
    : options_(options),
      state_(options.seed),
      judged_({.disk = options.disk,
               .disk_has_content = options.disk_has_content},
              state_) {
  state_.cache_device = std::make_unique<FakeCacheDevice>(options.cache);
  Connect();
  state_.Violate(Cache::Format(cache_device(), options.format, clock_));
}

ImageFixture::ImageFixture(const Options& options, const ImageFixture& other)
    : options_(options),
      state_(options.seed),
      judged_(other.judged_, state_) {
  state_.cache_device = other.state_.cache_device->Fork();
  state_.violation = other.state_.violation;
  Connect();
}

ImageFixture::~ImageFixture() { SwitchOff(); }

void ImageFixture::Connect() {
  cache_device().set_on_stop([this] { disk().Stop(); });
  disk().set_on_stop([this] { cache_device().Stop(); });
}

std::unique_ptr<ImageFixture> ImageFixture::Fork(uint64_t seed) const {
  Options options = options_;
  options.seed = seed;
  return std::unique_ptr<ImageFixture>(new ImageFixture(options, *this));
}

absl::Status ImageFixture::status() const {
  return state_.violation.ok() ? judged_.status() : state_.violation;
}

absl::Status ImageFixture::Start(bool judge) {
  ABSL_HARDENING_ASSERT(!is_on());
  RETURN_IF_ERROR(status());
  CacheOptions cache_options = options_.cache_options;
  cache_options.start_threads = false;
  auto cache = Cache::Open(cache_device(), cache_options, clock_);
  absl::Status failed = cache.status();
  if (failed.ok()) {
    cache_ = *std::move(cache);
    auto image = cache_->Attach(judged_.name(), disk().Open(), options_.image);
    failed = image.status();
    if (failed.ok()) judged_.OnServed(*image);
  }
  if (!failed.ok()) {
    // Only a device that was made to fail may prevent a start.
    if (!cache_device().stopped() && !cache_device().fault_fired()) {
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

absl::Status ImageFixture::Check() {
  ABSL_HARDENING_ASSERT(!is_on());
  const absl::StatusOr<CheckReport> report = CheckCache(cache_device(), {});
  state_.Violate(report.status());
  if (report.ok() && report->damaged()) {
    for (const CheckFinding& finding : report->findings) {
      if (finding.severity != CheckFinding::Severity::kDamage) continue;
      state_.Violate(absl::DataLossError("checker: " + finding.message));
    }
  }
  return status();
}

absl::Status ImageFixture::Stop() {
  VLOG(1) << "clean stop";
  RETURN_IF_ERROR(Settle());
  const absl::Status stopped = absl::UnavailableError("the machine stopped");
  if (cache_device().stopped()) return stopped;
  const absl::Status closed = cache_->Close();
  if (cache_device().stopped()) return stopped;
  if (closed.ok()) {
    judged_.OnCleanStop();
  } else if (!state_.faults_expected) {
    state_.Violate(closed);
  }
  // Writeback in flight still ends, as it does when a device is closed.
  cache_ = nullptr;
  judged_.OnGone();
  if (disk().pending() + cache_device().pending() > 0) {
    state_.Violate(absl::InternalError("I/O in flight after the cache is gone"));
  }
  SwitchOff();
  cache_device().Resume();
  disk().Resume();
  RETURN_IF_ERROR(status());
  return closed;
}

void ImageFixture::SwitchOff() {
  state_.going_down = true;
  cache_device().Stop();
  disk().Stop();
  // A completion may submit more, which fails at once.
  for (int i = 0; i < kPatience; ++i) {
    if (!cache_device().Step() && !disk().Step()) break;
  }
  cache_ = nullptr;
  cache_device().CompletePending();
  disk().CompletePending();
  judged_.OnGone();
  state_.going_down = false;
}

void ImageFixture::Crash() {
  VLOG(1) << "the daemon dies";
  SwitchOff();
  cache_device().Restart();
  disk().Restart();
}

void ImageFixture::CutPower(uint64_t seed) {
  VLOG(1) << "power cut";
  SwitchOff();
  Random random(seed);
  cache_device().CutPower(random);
  disk().CutPower(random);
  judged_.OnPowerCut();
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

void ImageFixture::Pump() {
  Random& random = state_.random;
  switch (random.Below(8)) {
    case 0:
    case 1:
    case 2:
      if (disk().Step()) return;
      break;
    case 3:
    case 4:
      if (cache_device().Step()) return;
      break;
    case 5:
      clock_.Advance(absl::Milliseconds(random.Between(1, 20)));
      return;
    default:
      break;
  }
  cache_->Step();
}

bool ImageFixture::Round() {
  bool progress = disk().Step();
  progress |= cache_device().Step();
  progress |= cache_->Step();
  clock_.Advance(absl::Milliseconds(progress ? 1 : 10));
  return progress;
}

absl::Status ImageFixture::Settle() {
  int idle = 0;
  for (int round = 0; in_flight() > 0 && round < kRounds; ++round) {
    RETURN_IF_ERROR(status());
    if (cache_device().stopped()) break;
    idle = Round() ? 0 : idle + 1;
    if (idle > kPatience) break;
  }
  judged_.ForgetAnswered();
  RETURN_IF_ERROR(status());
  if (in_flight() > 0 && !cache_device().stopped()) {
    state_.Violate(absl::DeadlineExceededError(
        absl::StrCat("never answered: ", judged_.DescribeWaiting())));
  }
  return status();
}

void ImageFixture::RunIdle() {
  int idle = 0;
  for (int round = 0; idle < 20 && round < kRounds; ++round) {
    if (cache_device().stopped()) return;
    idle = Round() ? 0 : idle + 1;
    clock_.Advance(absl::Milliseconds(100));
  }
  judged_.ForgetAnswered();
}

}  // namespace pcachefs
