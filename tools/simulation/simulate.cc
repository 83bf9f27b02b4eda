#include "tools/simulation/simulate.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/clock.h"
#include "core/options.h"
#include "meta/status_macros.h"
#include "meta/types.h"
#include "meta/units.h"
#include "tools/simulation/simulated_devices.h"

namespace pcachefs {
namespace {

// Rounds of background work between two requests: it has the time.
constexpr int kSteps = 16;
// Rounds after which a request would wait for ever.
constexpr int kPatience = 100'000;

class TraceClock : public Clock {
 public:
  absl::Time Now() override { return now_; }
  absl::Time WallNow() override { return now_; }
  void Set(double seconds) {
    now_ = std::max(now_, absl::FromUnixSeconds(1'000'000) +
                              absl::Seconds(seconds));
  }
  void Advance(absl::Duration by) { now_ += by; }

 private:
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

uint64_t ImageSizeFor(const Trace& trace) {
  uint64_t end = 0;
  for (const TraceRequest& request : trace) end = std::max(end, request.end());
  return RoundUp(end, kBlockSize);
}

class Simulation {
 public:
  Simulation(Cache& cache, CachedImage& image, TraceClock& clock)
      : cache_(cache), image_(image), clock_(clock) {}

  absl::Status Run(const TraceRequest& request) {
    clock_.Set(request.time);
    if (buffer_.size() < request.length) buffer_.resize(request.length);
    const ImageRange range = {ImageOffset(request.offset), request.length};
    const std::span<std::byte> bytes =
        std::span(buffer_).first(request.length);
    bool answered = false;
    absl::Status status;
    const auto done = [&](absl::Status answer) {
      answered = true;
      status = std::move(answer);
    };
    if (request.is_write) {
      // The backing device forgets, so all there is to write is zeroes.
      std::fill(bytes.begin(), bytes.end(), std::byte{0});
      image_.Write(range, bytes, CachedImage::Payload::kBorrowUntilDone, done);
    } else {
      image_.Read(range, bytes, done);
    }
    for (int i = 0; i < kPatience && !answered; ++i) {
      if (!cache_.Step()) clock_.Advance(absl::Milliseconds(10));
    }
    if (!answered) return absl::InternalError("a request is never answered");
    for (int i = 0; i < kSteps && cache_.Step(); ++i) {
    }
    return status;
  }

 private:
  Cache& cache_;
  CachedImage& image_;
  TraceClock& clock_;
  std::vector<std::byte> buffer_;
};

}  // namespace

absl::StatusOr<ImageStatus::Counters> Simulate(const SimulationOptions& options,
                                               const Trace& trace) {
  TraceClock clock;
  SimulatedCacheDevice device(options.cache_bytes);
  RETURN_IF_ERROR(Cache::Format(device, {}, clock));
  ASSIGN_OR_RETURN(const std::unique_ptr<Cache> cache,
                   Cache::Open(device,
                               {.read_ahead = options.read_ahead,
                                .start_threads = false},
                               clock));
  ASSIGN_OR_RETURN(
      CachedImage* const image,
      cache->Attach(
          "trace",
          std::make_unique<SimulatedBackingDevice>(ImageSizeFor(trace)),
          {.gc_percent = options.gc_percent}));
  RETURN_IF_ERROR(
      image->Change({.sequential_cutoff = options.sequential_cutoff}));
  Simulation simulation(*cache, *image, clock);
  for (const TraceRequest& request : trace) {
    RETURN_IF_ERROR(simulation.Run(request));
  }
  return image->status().counters;
}

double HitRatio(const ImageStatus::Counters& counters) {
  const uint64_t read = counters.read_hit_bytes + counters.read_miss_bytes;
  return read == 0 ? 0 : static_cast<double>(counters.read_hit_bytes) / read;
}

}  // namespace pcachefs
