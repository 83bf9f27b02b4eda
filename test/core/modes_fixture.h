// A cache of one image that starts in some cache mode: what the tests of modes
// and of switches between them share.

#ifndef PCACHEFS_TEST_CORE_MODES_FIXTURE_H_
#define PCACHEFS_TEST_CORE_MODES_FIXTURE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "core/image_space.h"
#include "gtest/gtest.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {

// Modes whose writes go to the backing device before they are acknowledged.
inline constexpr CacheMode kAroundModes[] = {CacheMode::kWritethrough,
                                             CacheMode::kWritearound,
                                             CacheMode::kPassthrough};

// A block of one letter.
inline std::string Block(char letter) {
  return std::string(kBlockSize, letter);
}

class ModesFixture : public testing::Test {
 protected:
  void StartIn(CacheMode mode, CoreMachine::Options options = {}) {
    options.image.mode = mode;
    machine_ = std::make_unique<CoreMachine>(options);
    machine_->disk().Fill(0, std::string(machine_->disk().size(), 'd'));
    ASSERT_THAT(machine_->Start(), IsOk());
    ASSERT_TRUE(machine_->RunIdle());
    disk().ClearHistory();
  }
  // A block of clean data in the cache, written in mode writeback; then `mode`.
  void StartCached(CacheMode mode) {
    StartIn(CacheMode::kWriteback);
    ASSERT_THAT(machine().Write(0, Block('o')), IsOk());
    ASSERT_THAT(machine().Drain(), IsOk());
    ASSERT_THAT(machine().SetMode(mode), IsOk());
    disk().ClearHistory();
  }
  // Background work while an hour passes by.
  void Rest() {
    for (int i = 0; i < 10; ++i) {
      machine().clock().Advance(absl::Seconds(360));
      ASSERT_TRUE(machine().RunIdle());
    }
  }

  CoreMachine& machine() { return *machine_; }
  ScriptedDisk& disk() { return machine_->disk(); }
  LogPosition key_head() { return machine().core().log().head(); }

 private:
  std::unique_ptr<CoreMachine> machine_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_CORE_MODES_FIXTURE_H_
