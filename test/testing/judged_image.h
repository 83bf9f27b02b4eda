// One image of a simulated machine: the disk behind it, the requests made to
// it, and the oracle that judges their answers (test/sim/reference_image.h).
//
// Requests are judged when they are answered. A StartX returns once the request
// is under way, or answered; the machine lets time pass.

#ifndef PCACHEFS_TEST_TESTING_JUDGED_IMAGE_H_
#define PCACHEFS_TEST_TESTING_JUDGED_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/cached_image.h"
#include "meta/records.h"
#include "meta/types.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_disk.h"
#include "test/fakes/random.h"
#include "test/sim/reference_image.h"

namespace pcachefs {

inline ImageRange Bytes(uint64_t offset, uint64_t length) {
  return {ImageOffset(offset), length};
}

// What a machine and its images share.
struct MachineState {
  explicit MachineState(uint64_t seed) : random(seed) {}

  // The first one is kept.
  void Violate(const absl::Status& found) {
    if (violation.ok()) violation = found;
  }
  // Nobody hears answers any more.
  bool is_off() const { return going_down || cache_device->stopped(); }

  std::unique_ptr<FakeCacheDevice> cache_device;
  Random random;
  absl::Status violation;
  // Errors of requests are violations unless faults are expected.
  bool faults_expected = false;
  bool going_down = false;
  uint64_t failed_requests = 0;
  uint64_t lost_reports = 0;  // reads that said that data is lost, and it was
};

// Not thread-safe.
class JudgedImage {
 public:
  struct Options {
    std::string name = "vm1";
    FakeDisk::Options disk;
    bool disk_has_content = true;
  };

  // `state` outlives it.
  JudgedImage(const Options& options, MachineState& state);
  // As the other one is at this instant, out of service, without requests.
  JudgedImage(const JudgedImage& other, MachineState& state);
  ~JudgedImage();

  // It came into service; it is not any more, and nobody waits for requests.
  void OnServed(CachedImage* image);
  void OnGone();
  void OnPowerCut();
  // Everything acknowledged is durable.
  void OnCleanStop();

  bool is_served() const { return image_ != nullptr; }
  CachedImage& image() { return *image_; }
  const std::string& name() const { return options_.name; }
  FakeDisk& disk() { return *disk_; }
  ReferenceImage& reference() { return reference_; }
  // Writes may go around the cache: in the mode, or in the one that a switch
  // leads to.
  bool goes_around() const { return goes_around_; }

  // False if the oracle could not judge it (ReferenceImage::CanWrite).
  bool StartWrite(ImageRange range);
  bool StartZero(ImageRange range);
  bool StartDiscard(ImageRange range);
  void StartRead(ImageRange range);
  void StartFlush();
  // A switch that another one, or a fault, prevents is no violation.
  void StartSetMode(CacheMode mode);
  // `answer`, if given, is set when it is answered, which may be when the daemon
  // is gone.
  void StartDrain(std::shared_ptr<absl::Status> answer = nullptr);
  void SetOrder(WritebackOrder order);

  size_t in_flight() const;
  void ForgetAnswered();
  // For messages: the first request that waits, and the image's state.
  std::string DescribeWaiting();

  // Reads the whole image and judges it as what is there after the last crash,
  // power cut or clean stop. `round` lets time pass.
  absl::Status Judge(absl::FunctionRef<void()> round);
  // The backing device as it is, and as a power cut would leave it, is a state
  // that a plain disk could hold. Of a looser order than strict status must say
  // so; else nothing is judged.
  void JudgeBacking(uint64_t seed);
  // It is what the image is, durably. Requires: nothing in flight.
  void JudgeDrained();

  // OK, or how the disk was misused.
  absl::Status status() const;

 private:
  enum class Kind {
    kRead,
    kWrite,
    kZero,
    kDiscard,
    kFlush,
    kMode,
    kDrain,
    kPeek
  };
  struct Request {
    Kind kind = Kind::kRead;
    ImageRange range;
    uint64_t begun = 0;    // reads, flushes and switches
    bool flushes = false;  // a switch that drains, or flushes the disk
    ReferenceImage::WriteId write = 0;  // others
    std::vector<std::byte> buffer;
    bool answered = false;
    absl::Status answer;
  };

  static const char* NameOf(Kind kind);
  Request& NewRequest(Kind kind, ImageRange range);
  CachedImage::Done DoneOf(Request& request);
  void OnAnswer(Request& request, absl::Status status);
  void Judge(Request& request, const absl::Status& status);
  bool MayFail(const Request& request, const absl::Status& status) const;
  bool StartChange(Kind kind, ImageRange range);
  // Reads without being judged; errors of the request.
  absl::Status Peek(ImageRange range, absl::FunctionRef<void()> round,
                    std::vector<std::byte>& content);
  absl::Status PeekAll(absl::FunctionRef<void()> round,
                       std::vector<std::byte>& content);

  const Options options_;
  MachineState& state_;
  std::unique_ptr<FakeDisk> disk_;
  ReferenceImage reference_;
  bool goes_around_ = false;
  bool was_loose_ = false;      // the order was not strict at some time
  bool power_was_cut_ = false;  // since the last judgement
  bool is_unchanged_ = false;   // since it came into service
  bool plain_disk_was_cut_ = false;
  std::vector<std::unique_ptr<Request>> requests_;
  CachedImage* image_ = nullptr;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_TESTING_JUDGED_IMAGE_H_
