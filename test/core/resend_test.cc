// Requests that are sent again: the daemon dies at every step of a request, its
// successor replays and is sent the same request again, and dies in the middle
// of that too. In the end the image is as if each request had been made once.
//
// A step is a change of the cache device or a request to the backing device. A
// death keeps all that reached either.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/records.h"
#include "meta/status_macros.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr uint64_t kSize = 4 * kMiB;

struct Request {
  enum class Kind { kWrite, kZero, kDiscard, kFlush };
  Kind kind = Kind::kWrite;
  uint64_t offset = 0;
  uint64_t length = 0;
  char letter = 0;
};

void Apply(const Request& request, std::string& image) {
  if (request.kind == Request::Kind::kFlush) return;
  image.replace(request.offset, request.length, request.length,
                request.kind == Request::Kind::kWrite ? request.letter : '\0');
}

Pending Begin(const Request& request, CoreMachine& machine) {
  switch (request.kind) {
    case Request::Kind::kWrite:
      return machine.StartWrite(request.offset,
                                std::string(request.length, request.letter));
    case Request::Kind::kZero:
      return machine.StartZero(request.offset, request.length);
    case Request::Kind::kDiscard:
      return machine.StartDiscard(request.offset, request.length);
    case Request::Kind::kFlush:
      break;
  }
  return machine.StartFlush();
}

// Where a daemon dies: at so many changes of the cache device from now, or at
// so many requests to the backing device, before or after that took effect.
struct Death {
  enum class At { kCacheChange, kBeforeDiskRequest, kAfterDiskRequest };
  At at = At::kCacheChange;
  uint64_t step = 0;
};

class Life {
 public:
  explicit Life(CacheMode mode) : machine_(OptionsFor(mode)) {
    disk().Fill(0, std::string(kSize, 'd'));
    expected_.assign(kSize, 'd');
  }

  absl::Status Start() {
    RETURN_IF_ERROR(machine_.Start());
    return absl::OkStatus();
  }

  absl::Status Do(const Request& request) {
    Apply(request, expected_);
    return machine_.Await(Begin(request, machine_));
  }

  // Has the request made to its end or to a death, whichever is first, and the
  // successor started. True if it died before it had answered.
  absl::StatusOr<bool> DieIn(const Request& request, const Death& death) {
    Apply(request, expected_);
    has_died_ = false;
    Arm(death);
    const absl::Status answered = machine_.Await(Begin(request, machine_));
    if (!has_died_) {
      Disarm();
      RETURN_IF_ERROR(answered);
      return false;
    }
    machine_.Kill();
    Disarm();
    RETURN_IF_ERROR(machine_.Start());
    return !answered.ok();
  }
  bool has_died() const { return has_died_; }

  // As the user sees it, after a power cut too if all is flushed, and on the
  // backing device in the end.
  absl::Status Judge(uint64_t seed) {
    RETURN_IF_ERROR(Compare("image", machine_.Read(0, kSize)));
    RETURN_IF_ERROR(machine_.Flush());
    machine_.CutPower(seed);
    RETURN_IF_ERROR(machine_.Start());
    RETURN_IF_ERROR(Compare("after a power cut", machine_.Read(0, kSize)));
    RETURN_IF_ERROR(machine_.Drain());
    return Compare("backing device", disk().Content(0, kSize));
  }

 private:
  static CoreMachine::Options OptionsFor(CacheMode mode) {
    CoreMachine::Options options;
    options.image_size = kSize;
    options.image.mode = mode;
    return options;
  }

  ScriptedDisk& disk() { return machine_.disk(); }

  void Arm(const Death& death) {
    machine_.cache_device().set_on_stop([this] { Die(); });
    if (death.at == Death::At::kCacheChange) {
      machine_.cache_device().StopAt(death.step);
      return;
    }
    disk().set_on_submit([this, death, left = death.step](
                             const BackingRequest&) mutable {
      if (has_died_) return FailDisk();
      if (left-- > 0) return;
      machine_.cache_device().Stop();
      has_died_ = true;
      if (death.at == Death::At::kBeforeDiskRequest) FailDisk();
    });
  }

  void Die() {
    has_died_ = true;
    FailDisk();
  }
  void FailDisk() {
    for (const auto operation :
         {ScriptedDisk::Operation::kRead, ScriptedDisk::Operation::kWrite,
          ScriptedDisk::Operation::kZero, ScriptedDisk::Operation::kDiscard,
          ScriptedDisk::Operation::kFlush}) {
      disk().Fail(operation, absl::UnavailableError("dead"));
    }
  }
  void Disarm() {
    machine_.cache_device().ClearFaults();
    disk().set_on_submit(nullptr);
    for (const auto operation :
         {ScriptedDisk::Operation::kRead, ScriptedDisk::Operation::kWrite,
          ScriptedDisk::Operation::kZero, ScriptedDisk::Operation::kDiscard,
          ScriptedDisk::Operation::kFlush}) {
      disk().Fail(operation, absl::OkStatus());
    }
  }

  absl::Status Compare(const std::string& what,
                       const absl::StatusOr<std::string>& got) {
    RETURN_IF_ERROR(got.status());
    if (*got == expected_) return absl::OkStatus();
    size_t place = 0;
    while ((*got)[place] == expected_[place]) ++place;
    return absl::DataLossError(
        absl::StrCat(what, ": at ", place, " got '", got->substr(place, 1),
                     "', want '", expected_.substr(place, 1), "'"));
  }

  CoreMachine machine_;
  std::string expected_;
  bool has_died_ = false;
};

struct Case {
  const char* name;
  CacheMode mode = CacheMode::kWriteback;
};

class ResendTest : public testing::TestWithParam<Case> {
 protected:
  // Some of it dirty, some flushed, some neither, all of it answered.
  static absl::Status Prepare(Life& life) {
    using Kind = Request::Kind;
    RETURN_IF_ERROR(life.Start());
    for (const Request& request : std::vector<Request>{
             {Kind::kWrite, 0, 16 * kBlockSize, 'a'},
             {Kind::kFlush},
             {Kind::kWrite, 4 * kBlockSize, 4 * kBlockSize, 'b'},
             {Kind::kDiscard, 12 * kBlockSize, 2 * kBlockSize},
             {Kind::kWrite, kMiB + 512, 1536, 'c'}}) {
      RETURN_IF_ERROR(life.Do(request));
    }
    return absl::OkStatus();
  }

  // Deaths at each step of the request; `again`: more at each step of what is
  // sent again. At how many steps there were deaths.
  static absl::StatusOr<int> Sweep(const Request& request, Death::At at,
                                   CacheMode mode, bool again) {
    for (uint64_t step = 0;; ++step) {
      Life life(mode);
      RETURN_IF_ERROR(Prepare(life));
      ASSIGN_OR_RETURN(bool is_resent, life.DieIn(request, {at, step}));
      const bool has_died = life.has_died();
      // One step further each time, until it is answered.
      for (uint64_t next = 0; is_resent && again; ++next) {
        ASSIGN_OR_RETURN(is_resent, life.DieIn(request, {at, next}));
      }
      if (is_resent) RETURN_IF_ERROR(life.Do(request));
      const absl::Status judged = life.Judge(step);
      if (!judged.ok()) {
        return absl::Status(judged.code(), absl::StrCat("step ", step, ": ",
                                                        judged.message()));
      }
      if (!has_died) return static_cast<int>(step);
    }
  }

  static void TestAll(const Request& request) {
    const CacheMode mode = GetParam().mode;
    int deaths = 0;
    for (const Death::At at :
         {Death::At::kCacheChange, Death::At::kBeforeDiskRequest,
          Death::At::kAfterDiskRequest}) {
      for (const bool twice : {false, true}) {
        const auto counted = Sweep(request, at, mode, twice);
        ASSERT_THAT(counted, IsOk());
        deaths += *counted;
      }
    }
    // A request that changes nothing anywhere would prove nothing.
    EXPECT_GT(deaths, 0);
  }
};

TEST_P(ResendTest, WriteOfABlock) {
  TestAll({Request::Kind::kWrite, 2 * kBlockSize, kBlockSize, 'x'});
}

TEST_P(ResendTest, WriteOfSectorsOverOldAndNew) {
  TestAll({Request::Kind::kWrite, 5 * kBlockSize + 512, 1536, 'x'});
}

TEST_P(ResendTest, WriteOfSectorsOfWhichTheRestIsNotCached) {
  TestAll({Request::Kind::kWrite, 3 * kMiB + 1024, 512, 'x'});
}

TEST_P(ResendTest, WriteOfSeveralKeySets) {
  TestAll({Request::Kind::kWrite, kBlockSize, 2 * kMiB + kBlockSize, 'x'});
}

TEST_P(ResendTest, Zero) {
  TestAll({Request::Kind::kZero, 2 * kBlockSize, 4 * kBlockSize});
}

TEST_P(ResendTest, ZeroOfSectors) {
  TestAll({Request::Kind::kZero, 4 * kBlockSize + 512, 2048});
}

TEST_P(ResendTest, Discard) {
  TestAll({Request::Kind::kDiscard, 2 * kBlockSize, 4 * kBlockSize});
}

TEST_P(ResendTest, Flush) { TestAll({Request::Kind::kFlush}); }

INSTANTIATE_TEST_SUITE_P(
    Modes, ResendTest,
    testing::Values(Case{"Writeback", CacheMode::kWriteback},
                    Case{"Writeonly", CacheMode::kWriteonly},
                    Case{"Writethrough", CacheMode::kWritethrough},
                    Case{"Writearound", CacheMode::kWritearound},
                    Case{"Passthrough", CacheMode::kPassthrough}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace pcachefs
