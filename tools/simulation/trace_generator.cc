#include "tools/simulation/trace_generator.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr uint64_t kRequest = 16 * kKiB;
constexpr uint64_t kScanRequest = 128 * kKiB;
constexpr int kScans = 20;
constexpr int kShifts = 24;
constexpr double kExponent = 0.9;
constexpr double kWriteShare = 0.2;
constexpr double kInterval = 200e-6;  // seconds between requests

// splitmix64: the standard library's distributions differ between libraries.
class Generator {
 public:
  explicit Generator(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t value = state_ += 0x9e3779b97f4a7c15;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
  }
  uint64_t Below(uint64_t limit) { return Next() % limit; }
  double Fraction() { return (Next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_;
};

// Ranks 0..count-1, rank r with a weight of 1 / (r + 1)^kExponent.
class Zipf {
 public:
  explicit Zipf(uint64_t count) {
    double sum = 0;
    for (uint64_t rank = 0; rank < count; ++rank) {
      sum += std::pow(static_cast<double>(rank + 1), -kExponent);
      sums_.push_back(sum);
    }
  }
  uint64_t Draw(Generator& random) const {
    const double at = random.Fraction() * sums_.back();
    return std::min<uint64_t>(
        std::upper_bound(sums_.begin(), sums_.end(), at) - sums_.begin(),
        sums_.size() - 1);
  }

 private:
  std::vector<double> sums_;
};

class Writer {
 public:
  void Add(uint64_t offset, uint64_t length, bool is_write) {
    trace_.push_back({.time = trace_.size() * kInterval,
                      .offset = offset,
                      .length = length,
                      .is_write = is_write});
  }
  Trace Take() { return std::move(trace_); }

 private:
  Trace trace_;
};

Trace ZipfScan(const GeneratorOptions& options) {
  const uint64_t places = std::max<uint64_t>(1, options.hot_bytes / kRequest);
  Generator random(options.seed);
  // Popular places lie scattered.
  std::vector<uint64_t> place_of_rank(places);
  for (uint64_t i = 0; i < places; ++i) place_of_rank[i] = i;
  for (uint64_t i = places; i > 1; --i) {
    std::swap(place_of_rank[i - 1], place_of_rank[random.Below(i)]);
  }
  const Zipf zipf(places);
  const uint64_t scan =
      RoundUp(std::max(kScanRequest, options.hot_bytes / 8), kScanRequest);
  uint64_t scan_start = RoundUp(options.hot_bytes, kScanRequest);
  const uint64_t between = std::max<uint64_t>(1, options.requests / kScans);
  Writer writer;
  for (uint64_t i = 0; i < options.requests; ++i) {
    writer.Add(place_of_rank[zipf.Draw(random)] * kRequest, kRequest,
               random.Fraction() < kWriteShare);
    if (i % between != between / 2) continue;
    for (uint64_t at = 0; at < scan; at += kScanRequest) {
      writer.Add(scan_start + at, kScanRequest, /*is_write=*/false);
    }
    scan_start += scan;
  }
  return writer.Take();
}

Trace Shifting(const GeneratorOptions& options) {
  const uint64_t places =
      std::max<uint64_t>(4, options.hot_bytes / 5 / kRequest);
  const uint64_t between = std::max<uint64_t>(1, options.requests / kShifts);
  Generator random(options.seed);
  Writer writer;
  for (uint64_t i = 0; i < options.requests; ++i) {
    const uint64_t start = i / between * (places / 4);
    writer.Add((start + random.Below(places)) * kRequest, kRequest,
               random.Fraction() < kWriteShare);
  }
  return writer.Take();
}

}  // namespace

absl::StatusOr<Trace> GenerateTrace(absl::string_view name,
                                    const GeneratorOptions& options) {
  if (name == "zipf_scan") return ZipfScan(options);
  if (name == "shifting") return Shifting(options);
  return absl::InvalidArgumentError(absl::StrCat(
      "generate: got ", name, ", want zipf_scan or shifting"));
}

}  // namespace pcachefs
