// The requests of JudgedImage, and how their answers are judged.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "meta/units.h"
#include "test/testing/judged_image.h"

namespace pcachefs {
namespace {

constexpr std::byte kPoison{0xcd};

}  // namespace

const char* JudgedImage::NameOf(Kind kind) {
  static constexpr const char* kNames[] = {"read",  "write", "zero",  "discard",
                                           "flush", "mode",  "drain", "peek"};
  return kNames[static_cast<int>(kind)];
}

JudgedImage::Request& JudgedImage::NewRequest(Kind kind, ImageRange range) {
  requests_.push_back(std::make_unique<Request>());
  Request& request = *requests_.back();
  request.kind = kind;
  request.range = range;
  VLOG(1) << name() << " begins: " << NameOf(kind) << " of " << range;
  if (kind != Kind::kFlush && kind != Kind::kMode && kind != Kind::kDrain) {
    request.buffer.assign(range.length, kPoison);
  }
  return request;
}

CachedImage::Done JudgedImage::DoneOf(Request& request) {
  return [this, &request](absl::Status status) {
    OnAnswer(request, std::move(status));
  };
}

void JudgedImage::OnAnswer(Request& request, absl::Status status) {
  if (request.answered) {
    state_.Violate(absl::InternalError("a request was answered twice"));
    return;
  }
  request.answered = true;
  request.answer = status;
  VLOG(1) << name() << " answered: " << NameOf(request.kind) << ' '
          << request.write << " of " << request.range << ": " << status;
  if (!state_.is_off()) Judge(request, status);
}

// Whether the oracle knows why.
bool JudgedImage::MayFail(const Request& request,
                          const absl::Status& status) const {
  if (!absl::IsDataLoss(status) || request.range.empty()) return false;
  for (uint64_t sector = request.range.offset.value() / kSectorSize;
       sector * kSectorSize < request.range.end().value(); ++sector) {
    if (reference_.MayBeLost(sector, request.begun)) return true;
  }
  return false;
}

void JudgedImage::Judge(Request& request, const absl::Status& status) {
  if (request.kind == Kind::kMode) {
    const ImageStatus now = image_->status();
    goes_around_ = GoesAround(now.mode) || GoesAround(now.next_mode);
    reference_.EndFlush(request.begun, status.ok() && request.flushes);
    if (absl::IsFailedPrecondition(status)) return;
  }
  if (!status.ok() && request.kind != Kind::kPeek) {
    ++state_.failed_requests;
    const bool known = MayFail(request, status);
    if (known) ++state_.lost_reports;
    // Nothing but known damage is called a loss.
    const bool is_lie = request.kind == Kind::kRead && absl::IsDataLoss(status);
    if (!known && (is_lie || !state_.faults_expected)) {
      state_.Violate(absl::InternalError(absl::StrCat(
          name(), ": a ", NameOf(request.kind), " of ", request.range.length,
          " bytes at ", request.range.offset.value(),
          " failed: ", status.ToString())));
    }
  }
  switch (request.kind) {
    case Kind::kRead:
      if (status.ok()) {
        state_.Violate(
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

bool JudgedImage::StartChange(Kind kind, ImageRange range) {
  if (!reference_.CanWrite(range)) return false;
  Request& request = NewRequest(kind, range);
  is_unchanged_ = false;
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
    const bool borrow = state_.random.Percent(50);
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

bool JudgedImage::StartWrite(ImageRange range) {
  return StartChange(Kind::kWrite, range);
}
bool JudgedImage::StartZero(ImageRange range) {
  return StartChange(Kind::kZero, range);
}
bool JudgedImage::StartDiscard(ImageRange range) {
  return StartChange(Kind::kDiscard, range);
}

void JudgedImage::StartRead(ImageRange range) {
  Request& request = NewRequest(Kind::kRead, range);
  request.begun = reference_.BeginRead();
  image_->Read(range, request.buffer, DoneOf(request));
  ForgetAnswered();
}

void JudgedImage::StartFlush() {
  Request& request = NewRequest(Kind::kFlush, {});
  request.begun = reference_.BeginFlush();
  image_->Flush(DoneOf(request));
  ForgetAnswered();
}

void JudgedImage::StartSetMode(CacheMode mode) {
  Request& request = NewRequest(Kind::kMode, {});
  is_unchanged_ = false;
  request.begun = reference_.BeginFlush();
  request.flushes = GoesAround(image_->status().mode) != GoesAround(mode);
  goes_around_ |= GoesAround(mode);
  image_->SetMode(mode, DoneOf(request));
  ForgetAnswered();
}

void JudgedImage::StartDrain(std::shared_ptr<absl::Status> answer) {
  Request& request = NewRequest(Kind::kDrain, {});
  image_->Drain([this, &request, answer](absl::Status status) {
    if (answer != nullptr) *answer = status;
    OnAnswer(request, std::move(status));
  });
  ForgetAnswered();
}

void JudgedImage::SetOrder(WritebackOrder order) {
  was_loose_ |= order != WritebackOrder::kStrict;
  const absl::Status changed = image_->Change({.order = order});
  if (!state_.faults_expected && !state_.cache_device->stopped()) {
    state_.Violate(changed);
  }
}

size_t JudgedImage::in_flight() const {
  return std::count_if(requests_.begin(), requests_.end(),
                       [](const auto& request) { return !request->answered; });
}

void JudgedImage::ForgetAnswered() {
  std::erase_if(requests_,
                [](const auto& request) { return request->answered; });
}

}  // namespace pcachefs
