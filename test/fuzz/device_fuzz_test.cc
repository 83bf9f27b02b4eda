// Opens whole cache devices that somebody has tampered with: everything that
// the daemon and the offline verbs do to one. Whatever stands there, nothing
// crashes or hangs; check and dump change nothing; what a start refuses as
// damaged check calls damaged; a repair comes to an end; and what was served and
// closed in good order is served the same way again.
//
// Input: how the cache was left and what is done to it (1 byte), then
// mutations (test/fuzz/device_mutator.h).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/check.h"
#include "core/dump.h"
#include "core/repair.h"
#include "glog/logging.h"
#include "meta/endian.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_clock.h"
#include "test/fuzz/device_mutator.h"
#include "test/fuzz/require.h"

namespace pcachefs {
namespace {

constexpr uint64_t kImageSize = 256 * kKiB;
constexpr size_t kMaxMutations = 16;
// Rounds that a request or drain gets; many errors are tried again for ever.
constexpr int kRounds = 500;

struct UsedCache {
  std::unique_ptr<FakeCacheDevice> device;
  SoundDevice sound;
};

// Keys of every kind, in a log that was written back in part.
UsedCache MakeUsedCache(bool clean_stop) {
  CoreMachine::Options options;
  options.cache.async_reads = false;
  options.image_size = kImageSize;
  CoreMachine machine(options);
  CHECK_EQ(machine.Start(), absl::OkStatus());
  for (uint64_t i = 0; i < 6; ++i) {
    const std::string block(kBlockSize, static_cast<char>('a' + i));
    CHECK_EQ(machine.Write(i * kBlockSize, block), absl::OkStatus());
  }
  CHECK_EQ(machine.Read(20 * kBlockSize, 8192).status(), absl::OkStatus());
  CHECK_EQ(machine.Drain(), absl::OkStatus());
  CHECK(machine.StartWrite(kBlockSize, std::string(8192, 'A'))->done);
  CHECK(machine.StartZero(9 * kBlockSize, kBlockSize)->done);
  CHECK(machine.StartDiscard(3 * kBlockSize, kBlockSize)->done);
  const Geometry geometry = machine.core().table().geometry();
  const ImageTag tag = machine.core().tag();
  CHECK_EQ(machine.Flush(), absl::OkStatus());
  CHECK(machine.StartWrite(12 * kBlockSize, std::string(512, 'B'))->done);
  if (clean_stop) CHECK_EQ(machine.Stop(), absl::OkStatus());

  UsedCache used = {machine.cache_device().Fork(), {geometry, tag, {}}};
  CHECK_EQ(DumpKeys(*used.device, "vm1",
                    [&](const DumpedKey& key) {
                      if (used.sound.key_sets.empty() ||
                          used.sound.key_sets.back() != key.position) {
                        used.sound.key_sets.push_back(key.position);
                      }
                    }),
           absl::OkStatus());
  CHECK(!used.sound.key_sets.empty());
  return used;
}

// What check says, and whether it names damage.
struct Verdict {
  absl::Status status;
  bool is_damaged = false;
};

Verdict LookOffline(FakeCacheDevice& device) {
  const uint64_t changes = device.changes();
  const auto report = CheckCache(device, {});
  const auto dump = DumpCache(device);
  if (dump.ok()) {
    for (const CacheDump::Image& image : dump->images) {
      (void)DumpKeys(device, image.record.name, [](const DumpedKey&) {});
    }
  }
  (void)PlanRepair(device);
  Require(device.changes() == changes, "looking changes nothing");
  return {report.status(), report.ok() && report->damaged()};
}

// The daemon, for one run.
class Daemon {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  Daemon(FakeCacheDevice& device, ScriptedDisk& disk)
      : device_(device), disk_(disk) {}

  absl::Status Start() {
    CacheOptions options;
    options.start_threads = false;
    auto cache = Cache::Open(device_, options, clock_);
    if (!cache.ok()) return cache.status();
    cache_ = *std::move(cache);
    const auto image = cache_->Attach("vm1", disk_.Open(), {});
    if (!image.ok()) return image.status();
    image_ = *image;
    return absl::OkStatus();
  }

  // nullopt for what is answered with an error.
  std::vector<std::optional<std::string>> ReadAll() {
    std::vector<std::optional<std::string>> blocks;
    for (uint64_t at = 0; at < kImageSize; at += kBlockSize) {
      // Lives as long as the request, which may outlive our patience.
      auto block = std::make_shared<std::string>(kBlockSize, '?');
      const absl::Status status = Await([&](Done done) {
        image_->Read({ImageOffset(at), kBlockSize},
                     std::as_writable_bytes(std::span(*block)),
                     [block, done = std::move(done)](
                         absl::Status read) mutable { done(std::move(read)); });
      });
      blocks.push_back(status.ok() ? std::optional(*block) : std::nullopt);
    }
    return blocks;
  }

  void Use() {
    const std::string bytes(2 * kBlockSize, 'n');
    for (const uint64_t at : {uint64_t{512}, 5 * kBlockSize}) {
      (void)Await([&](Done done) {
        image_->Write({ImageOffset(at), bytes.size()},
                      std::as_bytes(std::span(bytes)),
                      CachedImage::Payload::kCopyIfWaiting, std::move(done));
      });
    }
    (void)Await([&](Done done) {
      image_->Discard({ImageOffset(16 * kBlockSize), kBlockSize},
                      std::move(done));
    });
    (void)Await([&](Done done) { image_->Flush(std::move(done)); });
  }

  void Drain() {
    (void)Await([&](Done done) { image_->Drain(std::move(done)); });
  }

  absl::Status Close() { return cache_->Close(); }

 private:
  absl::Status Await(absl::FunctionRef<void(Done)> start) {
    auto answer = std::make_shared<std::optional<absl::Status>>();
    start([answer](absl::Status status) {
      Require(!answer->has_value(), "a request is answered once");
      *answer = std::move(status);
    });
    for (int i = 0; i < kRounds && !answer->has_value(); ++i) {
      if (!cache_->Step()) clock_.Advance(absl::Milliseconds(50));
    }
    return answer->value_or(absl::DeadlineExceededError("waits"));
  }

  FakeCacheDevice& device_;
  ScriptedDisk& disk_;
  FakeClock clock_;
  std::unique_ptr<Cache> cache_;
  CachedImage* image_ = nullptr;
};

void Serve(FakeCacheDevice& device, const Verdict& verdict, bool drain) {
  ScriptedDisk disk(kImageSize);
  disk.Fill(0, std::string(kImageSize, 'd'));
  std::vector<std::optional<std::string>> before;
  {
    Daemon daemon(device, disk);
    const absl::Status started = daemon.Start();
    Require(!absl::IsDataLoss(started) || !verdict.status.ok() ||
                verdict.is_damaged,
            "check finds the damage that a start refuses", started);
    if (!started.ok()) return;
    (void)daemon.ReadAll();
    daemon.Use();
    if (drain) daemon.Drain();
    before = daemon.ReadAll();
    if (!daemon.Close().ok()) return;
  }
  Daemon daemon(device, disk);
  const absl::Status started = daemon.Start();
  Require(started.ok(), "what was closed can be opened", started);
  const auto after = daemon.ReadAll();
  for (size_t i = 0; i < before.size(); ++i) {
    Require(!before[i].has_value() || !after[i].has_value() ||
                before[i] == after[i],
            "what was read before is read again");
  }
  (void)daemon.Close();
}

void Repair(FakeCacheDevice& device) {
  // A step may bring to light what the next one is for.
  constexpr int kMostRounds = 4;
  for (int round = 0; round < kMostRounds; ++round) {
    const auto plan = PlanRepair(device);
    if (!plan.ok() || plan->steps.empty()) return;
    if (!ReadForUndo(device, plan->steps).ok()) return;
    for (const RepairStep& step : plan->steps) {
      if (!ApplyStores(device, step.stores).ok()) return;
    }
  }
  Require(false, "a repair comes to an end");
}

}  // namespace
}  // namespace pcachefs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  FLAGS_minloglevel = google::GLOG_FATAL;  // errors are the daily bread here
  static const UsedCache* const stopped =
      new UsedCache(MakeUsedCache(/*clean_stop=*/true));
  static const UsedCache* const killed =
      new UsedCache(MakeUsedCache(/*clean_stop=*/false));

  ByteReader input(std::as_bytes(std::span(data, size)));
  const auto flags = input.Read<uint8_t>();
  const UsedCache& used = (flags & 1) != 0 ? *stopped : *killed;
  const std::unique_ptr<FakeCacheDevice> device = used.device->Fork();
  DeviceMutator mutator(*device, used.sound);
  for (size_t i = 0; i < kMaxMutations && !input.rest().empty(); ++i) {
    mutator.Apply(input);
  }
  (void)device->Persist();

  if ((flags & 2) != 0) Repair(*device);
  const Verdict verdict = LookOffline(*device);
  Serve(*device, verdict, (flags & 4) != 0);
  return 0;
}
