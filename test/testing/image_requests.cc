// The requests of ImageFixture, and how time passes for them.

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "glog/logging.h"
#include "meta/status_macros.h"
#include "test/testing/image_fixture.h"

namespace pcachefs {
namespace {

constexpr const char* kKindNames[] = {"read",  "write", "zero", "discard",
                                      "flush", "mode",  "drain", "peek"};

constexpr std::byte kPoison{0xcd};
// Rounds without any progress after which a request is stuck. Time advances by
// 10 ms in each, so that this is far beyond the longest back-off.
constexpr int kPatience = 5000;
// Rounds in all: nothing takes so long unless something runs in a circle.
constexpr int kRounds = 50'000;

}  // namespace

ImageFixture::Request& ImageFixture::NewRequest(Kind kind, ImageRange range) {
  requests_.push_back(std::make_unique<Request>());
  Request& request = *requests_.back();
  request.kind = kind;
  request.range = range;
  VLOG(1) << "begins: " << kKindNames[static_cast<int>(kind)] << " of "
          << range;
  if (kind != Kind::kFlush && kind != Kind::kMode && kind != Kind::kDrain) {
    request.buffer.assign(range.length, kPoison);
  }
  return request;
}

CachedImage::Done ImageFixture::DoneOf(Request& request) {
  return [this, &request](absl::Status status) {
    OnAnswer(request, std::move(status));
  };
}

void ImageFixture::OnAnswer(Request& request, absl::Status status) {
  if (request.answered) {
    Violate(absl::InternalError("a request was answered twice"));
    return;
  }
  request.answered = true;
  request.answer = status;
  VLOG(1) << "answered: " << kKindNames[static_cast<int>(request.kind)] << ' '
          << request.write << " of " << request.range << ": " << status;
  // Once the machine is off nobody hears the answer.
  if (going_down_ || cache_device_->stopped()) return;
  Judge(request, status);
}

void ImageFixture::Judge(Request& request, const absl::Status& status) {
  if (request.kind == Kind::kMode) {
    const ImageStatus now = image_->status();
    goes_around_ = GoesAround(now.mode) || GoesAround(now.next_mode);
    reference_.EndFlush(request.begun, status.ok() && request.flushes);
    if (absl::IsFailedPrecondition(status)) return;
  }
  if (!status.ok()) {
    ++failed_requests_;
    if (!faults_expected_ && request.kind != Kind::kPeek) {
      Violate(absl::InternalError(
          absl::StrCat("a request failed: ", status.ToString())));
    }
  }
  switch (request.kind) {
    case Kind::kRead:
      if (status.ok()) {
        Violate(
            reference_.EndRead(request.begun, request.range, request.buffer));
      }
      break;
    case Kind::kWrite:
    case Kind::kZero:
    case Kind::kDiscard:
      reference_.EndWrite(request.write, status.ok());
      std::fill(request.buffer.begin(), request.buffer.end(), kPoison);
      break;
    case Kind::kFlush:
      reference_.EndFlush(request.begun, status.ok());
      break;
    case Kind::kMode:
    case Kind::kDrain:
    case Kind::kPeek:
      break;
  }
}

bool ImageFixture::StartChange(Kind kind, ImageRange range) {
  if (!reference_.CanWrite(range)) return false;
  Request& request = NewRequest(kind, range);
  request.write = reference_.BeginWrite(
      range, kind == Kind::kWrite ? ReferenceImage::Kind::kBytes
                                  : ReferenceImage::Kind::kZeroes);
  if (kind == Kind::kZero) {
    image_->Zero(range, DoneOf(request));
  } else if (kind == Kind::kDiscard) {
    image_->Discard(range, DoneOf(request));
  } else {
    ReferenceImage::Payload(request.write, range.offset.value(),
                            request.buffer);
    const bool borrow = random_.Percent(50);
    image_->Write(range, request.buffer,
                  borrow ? CachedImage::Payload::kBorrowUntilDone
                         : CachedImage::Payload::kCopyIfWaiting,
                  DoneOf(request));
    if (!borrow) {
      std::fill(request.buffer.begin(), request.buffer.end(), kPoison);
    }
  }
  ForgetAnswered();
  return true;
}

bool ImageFixture::StartWrite(ImageRange range) {
  return StartChange(Kind::kWrite, range);
}
bool ImageFixture::StartZero(ImageRange range) {
  return StartChange(Kind::kZero, range);
}
bool ImageFixture::StartDiscard(ImageRange range) {
  return StartChange(Kind::kDiscard, range);
}

void ImageFixture::StartRead(ImageRange range) {
  Request& request = NewRequest(Kind::kRead, range);
  request.begun = reference_.BeginRead();
  image_->Read(range, request.buffer, DoneOf(request));
  ForgetAnswered();
}

void ImageFixture::StartFlush() {
  Request& request = NewRequest(Kind::kFlush, {});
  request.begun = reference_.BeginFlush();
  image_->Flush(DoneOf(request));
  ForgetAnswered();
}

void ImageFixture::StartSetMode(CacheMode mode) {
  Request& request = NewRequest(Kind::kMode, {});
  request.begun = reference_.BeginFlush();
  request.flushes = GoesAround(image_->status().mode) != GoesAround(mode);
  goes_around_ |= GoesAround(mode);
  image_->SetMode(mode, DoneOf(request));
  ForgetAnswered();
}

void ImageFixture::SetOrder(WritebackOrder order) {
  was_loose_ |= order != WritebackOrder::kStrict;
  const absl::Status changed = image_->Change({.order = order});
  if (!faults_expected_ && !cache_device_->stopped()) Violate(changed);
}

size_t ImageFixture::in_flight() const {
  return std::count_if(requests_.begin(), requests_.end(),
                       [](const auto& request) { return !request->answered; });
}

void ImageFixture::ForgetAnswered() {
  std::erase_if(requests_,
                [](const auto& request) { return request->answered; });
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
  Request& request = NewRequest(Kind::kDrain, {});
  absl::Status answer = absl::UnknownError("not answered");
  image_->Drain([this, &request, &answer](absl::Status status) {
    answer = status;
    OnAnswer(request, std::move(status));
  });
  RETURN_IF_ERROR(Settle());
  RETURN_IF_ERROR(answer);
  const FakeMedia media = disk_->media();
  Violate(
      reference_.JudgeDrained([&](uint64_t offset, std::span<std::byte> out) {
        media.visible().Read(offset, out);
      }));
  if (media.has_unpersisted()) {
    Violate(absl::DataLossError("drained, but not flushed"));
  }
  return status();
}

void ImageFixture::Pump() {
  switch (random_.Below(8)) {
    case 0:
    case 1:
    case 2:
      if (disk_->Step()) return;
      break;
    case 3:
    case 4:
      if (cache_device_->Step()) return;
      break;
    case 5:
      clock_.Advance(absl::Milliseconds(random_.Between(1, 20)));
      return;
    default:
      break;
  }
  cache_->Step();
}

bool ImageFixture::Round() {
  bool progress = disk_->Step();
  progress |= cache_device_->Step();
  progress |= cache_->Step();
  clock_.Advance(absl::Milliseconds(progress ? 1 : 10));
  return progress;
}

absl::Status ImageFixture::Settle() {
  int idle = 0;
  for (int round = 0; in_flight() > 0 && round < kRounds; ++round) {
    RETURN_IF_ERROR(status());
    if (cache_device_->stopped()) break;
    const bool progress = Round();
    idle = progress ? 0 : idle + 1;
    if (idle > kPatience) break;
  }
  ForgetAnswered();
  RETURN_IF_ERROR(status());
  if (in_flight() > 0 && !cache_device_->stopped()) {
    Violate(absl::DeadlineExceededError(
        absl::StrCat(in_flight(), " requests are never answered, the first: ",
                     kKindNames[static_cast<int>(requests_.front()->kind)],
                     " of ", requests_.front()->range.offset.value(), ", +",
                     requests_.front()->range.length, "; ", DescribeImage())));
  }
  return status();
}

std::string ImageFixture::DescribeImage() {
  const ImageStatus status = image_->status();
  return absl::StrCat("segments ", status.cache_used_segs, " of ",
                      status.cache_segs, ", dirty ", status.dirty_bytes,
                      ", key_tail ", status.key_tail.sequence.value(),
                      ", dirty_tail ", status.dirty_tail.sequence.value(),
                      ", key_head ", status.key_head.sequence.value(),
                      ", committed ", status.committed.value(), ", ",
                      Name(status.state), " ", status.state_reason,
                      ", disk has ", disk_->pending(), " pending");
}

void ImageFixture::RunIdle() {
  int idle = 0;
  for (int round = 0; idle < 20 && round < kRounds; ++round) {
    if (cache_device_->stopped()) return;
    idle = Round() ? 0 : idle + 1;
    clock_.Advance(absl::Milliseconds(100));
  }
  ForgetAnswered();
}

}  // namespace pcachefs
