#include "test/core/core_machine.h"

#include <array>
#include <span>
#include <utility>

#include "absl/time/time.h"
#include "core/shard.h"
#include "glog/logging.h"
#include "meta/slot_pair.h"
#include "meta/status_macros.h"
#include "test/fakes/random.h"

namespace pcachefs {
namespace {

// Rounds after which something that waits would wait for ever; each without
// work lets 10 ms pass.
constexpr int kPatience = 20'000;

CachedImage::Done DoneOf(const Pending& pending) {
  return [pending](absl::Status status) {
    CHECK(!pending->done) << "answered twice";
    pending->done = true;
    pending->status = std::move(status);
  };
}

ImageRange Range(uint64_t offset, uint64_t length) {
  return {ImageOffset(offset), length};
}

}  // namespace

CoreMachine::CoreMachine(const Options& options)
    : options_(options),
      cache_device_(options.cache),
      disk_(options.image_size) {
  CHECK_EQ(Cache::Format(cache_device_, options.format, clock_),
           absl::OkStatus());
}

CoreMachine::~CoreMachine() { SwitchOff(); }

absl::Status CoreMachine::Start() {
  CHECK(!is_on());
  CacheOptions cache_options = options_.cache_options;
  cache_options.start_threads = false;
  ASSIGN_OR_RETURN(cache_, Cache::Open(cache_device_, cache_options, clock_));
  absl::StatusOr<CachedImage*> image =
      cache_->Attach("vm1", disk_.Open(), options_.image);
  if (!image.ok()) {
    cache_.reset();
    return image.status();
  }
  image_ = *image;
  return absl::OkStatus();
}

absl::Status CoreMachine::Stop() {
  const absl::Status closed = cache_->Close();
  image_ = nullptr;
  cache_.reset();
  return closed;
}

void CoreMachine::SwitchOff() {
  cache_device_.Stop();
  cache_device_.CompletePending();
  image_ = nullptr;
  cache_.reset();
  cache_device_.CompletePending();
}

void CoreMachine::Kill() {
  SwitchOff();
  cache_device_.Restart();
}

void CoreMachine::CutPower(uint64_t seed) {
  SwitchOff();
  Random random(seed);
  cache_device_.CutPower(random);
}

Pending CoreMachine::StartRead(uint64_t offset, uint64_t length) {
  auto pending = std::make_shared<Answer>();
  pending->bytes.assign(length, '?');
  image_->Read(Range(offset, length),
               std::as_writable_bytes(std::span(pending->bytes)),
               DoneOf(pending), options_.buffer);
  return pending;
}

Pending CoreMachine::StartWrite(uint64_t offset, const std::string& bytes) {
  auto pending = std::make_shared<Answer>();
  pending->bytes = bytes;
  image_->Write(Range(offset, bytes.size()),
                std::as_bytes(std::span(pending->bytes)),
                CachedImage::Payload::kBorrowUntilDone, DoneOf(pending));
  return pending;
}

Pending CoreMachine::StartZero(uint64_t offset, uint64_t length) {
  auto pending = std::make_shared<Answer>();
  image_->Zero(Range(offset, length), DoneOf(pending));
  return pending;
}

Pending CoreMachine::StartDiscard(uint64_t offset, uint64_t length) {
  auto pending = std::make_shared<Answer>();
  image_->Discard(Range(offset, length), DoneOf(pending));
  return pending;
}

Pending CoreMachine::StartFlush() {
  auto pending = std::make_shared<Answer>();
  image_->Flush(DoneOf(pending));
  return pending;
}

Pending CoreMachine::StartDrain() {
  auto pending = std::make_shared<Answer>();
  image_->Drain(DoneOf(pending));
  return pending;
}

Pending CoreMachine::StartSetMode(CacheMode mode) {
  auto pending = std::make_shared<Answer>();
  image_->SetMode(mode, DoneOf(pending));
  return pending;
}

absl::StatusOr<std::string> CoreMachine::Read(uint64_t offset,
                                              uint64_t length) {
  const Pending pending = StartRead(offset, length);
  RETURN_IF_ERROR(Await(pending));
  return pending->bytes;
}

absl::Status CoreMachine::Write(uint64_t offset, const std::string& bytes) {
  return Await(StartWrite(offset, bytes));
}

absl::Status CoreMachine::Zero(uint64_t offset, uint64_t length) {
  return Await(StartZero(offset, length));
}

absl::Status CoreMachine::Discard(uint64_t offset, uint64_t length) {
  return Await(StartDiscard(offset, length));
}

absl::Status CoreMachine::Flush() { return Await(StartFlush()); }

absl::Status CoreMachine::Drain() { return Await(StartDrain()); }

absl::Status CoreMachine::SetMode(CacheMode mode) {
  return Await(StartSetMode(mode));
}

absl::Status CoreMachine::Await(const Pending& pending) {
  for (int i = 0; !pending->done; ++i) {
    if (i == kPatience) return absl::InternalError("never answered");
    if (!StepOnce()) clock_.Advance(absl::Milliseconds(10));
  }
  return pending->status;
}

bool CoreMachine::StepOnce() {
  const bool completed = cache_device_.Step();
  const bool worked = cache_->Step();
  return completed || worked;
}

bool CoreMachine::RunIdle() {
  for (int i = 0; i < kPatience; ++i) {
    if (!StepOnce()) return true;
  }
  return false;
}

uint64_t CoreMachine::PlaceOf(uint64_t offset) {
  uint64_t place = 0;
  ForEachSlice(Range(offset, kSectorSize), [&](const ShardSlice& slice) {
    Shard& shard = core().shards()[slice.shard];
    absl::MutexLock lock(&shard.mutex);
    shard.index.Visit(slice.start, slice.length,
                      [&](const KeyIndex::Piece& piece) {
                        if (piece.source.kind() != PieceSource::Kind::kPayload)
                          return;
                        place = core()
                                    .table()
                                    .geometry()
                                    .position(core().payload().PositionOf(
                                        piece.source.media_sector()))
                                    .value();
                      });
  });
  return place;
}

uint64_t CoreMachine::PlaceOf(const LogPosition& position) {
  return core()
      .table()
      .geometry()
      .position({position.segment, position.offset})
      .value();
}

LogTails CoreMachine::DurableTails() {
  const FakeMedia media = cache_device_.media();
  const Geometry& geometry = core().table().geometry();
  std::array<std::array<std::byte, LogTails::kSize>, 2> slots;
  for (int slot : {0, 1}) {
    media.durable().Read(geometry.log_tails(core().id(), slot).value(),
                         slots[slot]);
  }
  return ChooseSlot<LogTails>(slots[0], slots[1])->value;
}

}  // namespace pcachefs
