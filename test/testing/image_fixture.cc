#include "test/testing/image_fixture.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/check.h"
#include "glog/logging.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr char kImageName[] = "vm1";
// Rounds without an answer after which a request is stuck.
constexpr int kPatience = 5000;
constexpr uint64_t kChunk = 64 * kKiB;

ReferenceImage::Kind InitialKind(const ImageFixture::Options& options) {
  return options.disk_has_content ? ReferenceImage::Kind::kBytes
                                  : ReferenceImage::Kind::kZeroes;
}

}  // namespace

ImageFixture::ImageFixture(const Options& options)
    : options_(options),
      random_(options.seed),
      cache_device_(std::make_unique<FakeCacheDevice>(options.cache)),
      disk_(std::make_unique<FakeDisk>(options.disk)),
      reference_(options.disk.size, InitialKind(options)) {
  Connect();
  std::vector<std::byte> chunk(kChunk);
  for (uint64_t offset = 0;
       options.disk_has_content && offset < options.disk.size;
       offset += kChunk) {
    chunk.resize(std::min(kChunk, options.disk.size - offset));
    ReferenceImage::Payload(0, offset, chunk);
    disk_->Fill(offset, chunk);
  }
  Violate(Cache::Format(*cache_device_, options.format, clock_));
}

ImageFixture::ImageFixture(const Options& options, const ImageFixture& other)
    : options_(options),
      random_(options.seed),
      cache_device_(other.cache_device_->Fork()),
      disk_(other.disk_->Fork()),
      reference_(other.reference_),
      goes_around_(other.goes_around_),
      was_loose_(other.was_loose_),
      power_was_cut_(other.power_was_cut_),
      plain_disk_was_cut_(other.plain_disk_was_cut_),
      violation_(other.violation_) {
  Connect();
}

ImageFixture::~ImageFixture() { SwitchOff(); }

void ImageFixture::Connect() {
  cache_device_->set_on_stop([this] { disk_->Stop(); });
  disk_->set_on_stop([this] { cache_device_->Stop(); });
}

std::unique_ptr<ImageFixture> ImageFixture::Fork(uint64_t seed) const {
  Options options = options_;
  options.seed = seed;
  return std::unique_ptr<ImageFixture>(new ImageFixture(options, *this));
}

absl::Status ImageFixture::status() const {
  if (!violation_.ok()) return violation_;
  const std::vector<std::string> mistakes = disk_->mistakes();
  if (mistakes.empty()) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("misused backing device: ", mistakes.front()));
}

void ImageFixture::Violate(const absl::Status& violation) {
  if (violation_.ok()) violation_ = violation;
}

absl::Status ImageFixture::Start(bool judge) {
  ABSL_HARDENING_ASSERT(!is_on());
  RETURN_IF_ERROR(status());
  CacheOptions cache_options = options_.cache_options;
  cache_options.start_threads = false;
  auto cache = Cache::Open(*cache_device_, cache_options, clock_);
  absl::Status failed = cache.status();
  if (failed.ok()) {
    cache_ = *std::move(cache);
    auto image = cache_->Attach(kImageName, disk_->Open(), options_.image);
    failed = image.status();
    if (failed.ok()) image_ = *image;
  }
  if (!failed.ok()) {
    // Only a device that was made to fail may prevent a start.
    if (!cache_device_->stopped() && !cache_device_->fault_fired()) {
      Violate(failed);
    }
    SwitchOff();
    return failed;
  }
  const ImageStatus started = image_->status();
  goes_around_ = GoesAround(started.mode);
  was_loose_ |= started.order != WritebackOrder::kStrict;
  return judge ? Judge() : absl::OkStatus();
}

absl::Status ImageFixture::Judge() {
  std::vector<std::byte> content(reference_.size());
  for (uint64_t offset = 0; offset < content.size(); offset += kChunk) {
    const uint64_t length = std::min(kChunk, content.size() - offset);
    Request& request = NewRequest(Kind::kPeek, Bytes(offset, length));
    image_->Read(request.range, request.buffer, DoneOf(request));
    for (int i = 0; !request.answered && i < kPatience; ++i) Round();
    if (!request.answered) return absl::InternalError("judging got stuck");
    RETURN_IF_ERROR(request.answer);
    std::copy(request.buffer.begin(), request.buffer.end(),
              content.begin() + offset);
    ForgetAnswered();
  }
  const auto reader = [&](uint64_t offset, std::span<std::byte> out) {
    std::copy_n(content.begin() + offset, out.size(), out.begin());
  };
  if (plain_disk_was_cut_) {
    Violate(reference_.JudgePowerCutOfPlainDisk(reader));
  } else {
    Violate(power_was_cut_ ? reference_.JudgePowerCut(reader)
                           : reference_.JudgeDaemonCrash(reader));
  }
  power_was_cut_ = plain_disk_was_cut_ = false;
  return status();
}

absl::Status ImageFixture::Check() {
  ABSL_HARDENING_ASSERT(!is_on());
  const absl::StatusOr<CheckReport> report = CheckCache(*cache_device_, {});
  Violate(report.status());
  if (report.ok() && report->damaged()) {
    for (const CheckFinding& finding : report->findings) {
      if (finding.severity != CheckFinding::Severity::kDamage) continue;
      Violate(absl::DataLossError("checker: " + finding.message));
    }
  }
  return status();
}

absl::Status ImageFixture::Stop() {
  VLOG(1) << "clean stop";
  RETURN_IF_ERROR(Settle());
  const absl::Status stopped = absl::UnavailableError("the machine stopped");
  if (cache_device_->stopped()) return stopped;
  const absl::Status closed = cache_->Close();
  if (cache_device_->stopped()) return stopped;
  if (closed.ok()) {
    // Nobody here waits for the backing device to flush.
    if (!goes_around_) reference_.EndCleanStop();
  } else if (!faults_expected_) {
    Violate(closed);
  }
  // Writeback in flight still ends, as it does when a device is closed.
  image_ = nullptr;
  cache_ = nullptr;
  if (disk_->pending() + cache_device_->pending() > 0) {
    Violate(absl::InternalError("I/O in flight after the cache is gone"));
  }
  SwitchOff();
  cache_device_->Resume();
  disk_->Resume();
  RETURN_IF_ERROR(status());
  return closed;
}

void ImageFixture::SwitchOff() {
  going_down_ = true;
  cache_device_->Stop();
  disk_->Stop();
  // A completion may submit more, which fails at once.
  for (int i = 0; i < kPatience; ++i) {
    if (!cache_device_->Step() && !disk_->Step()) break;
  }
  image_ = nullptr;
  cache_ = nullptr;
  cache_device_->CompletePending();
  disk_->CompletePending();
  requests_.clear();
  going_down_ = false;
}

void ImageFixture::Crash() {
  VLOG(1) << "the daemon dies";
  SwitchOff();
  cache_device_->Restart();
  disk_->Restart();
}

void ImageFixture::CutPower(uint64_t seed) {
  VLOG(1) << "power cut";
  SwitchOff();
  Random random(seed);
  cache_device_->CutPower(random);
  disk_->CutPower(random);
  power_was_cut_ = true;
  plain_disk_was_cut_ |= goes_around_;
}

absl::Status ImageFixture::JudgeBacking(uint64_t seed) {
  if (was_loose_ && (!is_on() || !image_->status().backing_consistent)) {
    return status();
  }
  Random random(seed);
  auto fork = disk_->Fork();
  random.Percent(50) ? fork->Restart() : fork->CutPower(random);
  for (const FakeMedia& media : {disk_->media(), fork->media()}) {
    Violate(
        reference_.JudgeBacking([&](uint64_t offset, std::span<std::byte> out) {
          media.visible().Read(offset, out);
        }));
  }
  return status();
}

}  // namespace pcachefs
