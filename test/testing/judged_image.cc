#include "test/testing/judged_image.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/status.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Rounds without an answer after which a request is stuck.
constexpr int kPatience = 5000;
constexpr uint64_t kChunk = 64 * kKiB;

ReferenceImage::Kind InitialKind(const JudgedImage::Options& options) {
  return options.disk_has_content ? ReferenceImage::Kind::kBytes
                                  : ReferenceImage::Kind::kZeroes;
}

}  // namespace

JudgedImage::JudgedImage(const Options& options, MachineState& state)
    : options_(options),
      state_(state),
      disk_(std::make_unique<FakeDisk>(options.disk)),
      reference_(options.disk.size, InitialKind(options)) {
  std::vector<std::byte> chunk(kChunk);
  for (uint64_t offset = 0;
       options.disk_has_content && offset < options.disk.size;
       offset += kChunk) {
    chunk.resize(std::min(kChunk, options.disk.size - offset));
    ReferenceImage::Payload(0, offset, chunk);
    disk_->Fill(offset, chunk);
  }
}

JudgedImage::JudgedImage(const JudgedImage& other, MachineState& state)
    : options_(other.options_),
      state_(state),
      disk_(other.disk_->Fork()),
      reference_(other.reference_),
      goes_around_(other.goes_around_),
      was_loose_(other.was_loose_),
      power_was_cut_(other.power_was_cut_),
      plain_disk_was_cut_(other.plain_disk_was_cut_) {}

JudgedImage::~JudgedImage() = default;

void JudgedImage::OnServed(CachedImage* image) {
  image_ = image;
  const ImageStatus started = image_->status();
  goes_around_ = GoesAround(started.mode);
  was_loose_ |= started.order != WritebackOrder::kStrict;
  is_unchanged_ = true;
}

void JudgedImage::OnGone() {
  image_ = nullptr;
  requests_.clear();
}

void JudgedImage::OnPowerCut() {
  power_was_cut_ = true;
  plain_disk_was_cut_ |= goes_around_;
}

void JudgedImage::OnCleanStop() {
  // Nobody here waits for the backing device to flush.
  if (!goes_around_) reference_.EndCleanStop();
}

absl::Status JudgedImage::Peek(ImageRange range,
                               absl::FunctionRef<void()> round,
                               std::vector<std::byte>& content) {
  Request& request = NewRequest(Kind::kPeek, range);
  image_->Read(range, request.buffer, DoneOf(request));
  for (int i = 0; !request.answered && i < kPatience; ++i) round();
  if (!request.answered) return absl::InternalError("judging got stuck");
  const absl::Status answer = request.answer;
  if (answer.ok()) {
    std::copy(request.buffer.begin(), request.buffer.end(),
              content.begin() + range.offset.value());
  }
  ForgetAnswered();
  return answer;
}

absl::Status JudgedImage::PeekAll(absl::FunctionRef<void()> round,
                                  std::vector<std::byte>& content) {
  const uint64_t size = image_->size();
  // What it does not reach of the disk yet nobody has written.
  disk_->media().visible().Read(size, std::span(content).subspan(size));
  for (uint64_t offset = 0; offset < size; offset += kChunk) {
    const uint64_t length = std::min(kChunk, size - offset);
    const absl::Status read = Peek(Bytes(offset, length), round, content);
    if (read.ok()) continue;
    if (!absl::IsDataLoss(read)) return read;
    for (uint64_t at = offset; at < offset + length; at += kSectorSize) {
      const absl::Status sector = Peek(Bytes(at, kSectorSize), round, content);
      if (sector.ok()) continue;
      if (!absl::IsDataLoss(sector) ||
          !reference_.NoteLost(at / kSectorSize, power_was_cut_)) {
        return sector;
      }
      ++state_.lost_reports;
    }
  }
  return absl::OkStatus();
}

absl::Status JudgedImage::Judge(absl::FunctionRef<void()> round) {
  std::vector<std::byte> content(reference_.size());
  RETURN_IF_ERROR(PeekAll(round, content));
  const auto reader = [&](uint64_t offset, std::span<std::byte> out) {
    std::copy_n(content.begin() + offset, out.size(), out.begin());
  };
  if (plain_disk_was_cut_) {
    state_.Violate(reference_.JudgePowerCutOfPlainDisk(reader));
  } else {
    state_.Violate(power_was_cut_ ? reference_.JudgePowerCut(reader)
                                  : reference_.JudgeDaemonCrash(reader));
    // A start makes durable what it found, and begins an epoch.
    if (is_unchanged_ && !goes_around_) reference_.EndCleanStop();
  }
  power_was_cut_ = plain_disk_was_cut_ = false;
  return state_.violation;
}

void JudgedImage::JudgeBacking(uint64_t seed) {
  if (was_loose_ && (!is_served() || !image_->status().backing_consistent)) {
    return;
  }
  Random random(seed);
  auto fork = disk_->Fork();
  random.Percent(50) ? fork->Restart() : fork->CutPower(random);
  for (const FakeMedia& media : {disk_->media(), fork->media()}) {
    state_.Violate(
        reference_.JudgeBacking([&](uint64_t offset, std::span<std::byte> out) {
          media.visible().Read(offset, out);
        }));
  }
}

void JudgedImage::JudgeDrained() {
  const FakeMedia media = disk_->media();
  state_.Violate(
      reference_.JudgeDrained([&](uint64_t offset, std::span<std::byte> out) {
        media.visible().Read(offset, out);
      }));
  if (media.has_unpersisted()) {
    state_.Violate(absl::DataLossError("drained, but not flushed"));
  }
}

absl::Status JudgedImage::status() const {
  const std::vector<std::string> mistakes = disk_->mistakes();
  if (mistakes.empty()) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("misused backing device: ", mistakes.front()));
}

std::string JudgedImage::DescribeWaiting() {
  const ImageStatus status = image_->status();
  std::string text = absl::StrCat(in_flight(), " requests of ", name());
  if (!requests_.empty()) {
    const Request& first = *requests_.front();
    absl::StrAppend(&text, ", the first: ", NameOf(first.kind), " of ",
                    first.range.offset.value(), ", +", first.range.length);
  }
  return absl::StrCat(text, "; segments ", status.cache_used_segs, " of ",
                      status.cache_segs, ", dirty ", status.dirty_bytes,
                      ", key_tail ", status.key_tail.sequence.value(),
                      ", dirty_tail ", status.dirty_tail.sequence.value(),
                      ", key_head ", status.key_head.sequence.value(),
                      ", committed ", status.committed.value(), ", ",
                      Name(status.state), " ", status.state_reason,
                      ", disk has ", disk_->pending(), " pending");
}

}  // namespace pcachefs
