// Tries a power cut, and a death of the daemon, at every change of either
// device of a running machine.
//
//   PowerCutSweep sweep(machine_options, {});
//   ... start sweep.machine() ...
//   sweep.Arm();
//   RunScript(sweep.machine());
//   EXPECT_THAT(sweep.status(), IsOk());
//
// At each change the whole machine is copied, as it is at that instant. Each
// copy loses power, with several choices of what survives, or its daemon; it
// starts again and the oracle judges the image and the backing device. The copy
// must then go on working, and survive another cut. For some copies power goes
// off again at each I/O of that very start.

#ifndef PCACHEFS_TEST_SIM_POWER_CUT_SWEEP_H_
#define PCACHEFS_TEST_SIM_POWER_CUT_SWEEP_H_

#include <cstdint>

#include "absl/status/status.h"
#include "test/testing/image_fixture.h"

namespace pcachefs {

// Goes on working after a crash: nothing that was true before may break.
absl::Status WorkAfterCrash(ImageFixture& machine);

// Not thread-safe.
class PowerCutSweep {
 public:
  struct Options {
    uint64_t survivors = 3;  // choices of what survives, per cut
    int64_t only_cut = -1;   // explores only the cut at this I/O
    bool nested = true;      // cuts the starts after cuts, too
    bool judge = true;       // reads the image after a cut, before `work`
    // What the machine does after a cut, before the next one.
    absl::Status (*work)(ImageFixture& machine) = WorkAfterCrash;
    // Of all cuts, this one and every so manieth after it.
    uint64_t first = 0;
    uint64_t stride = 1;
  };

  PowerCutSweep(const ImageFixture::Options& machine, const Options& options)
      : options_(options), machine_(machine) {}

  ImageFixture& machine() { return machine_; }

  // From now on every I/O of the machine is explored.
  void Arm();
  void Disarm();

  // The first violation, with the cut that shows it.
  const absl::Status& status() const { return status_; }
  uint64_t cuts() const { return cuts_; }
  uint64_t nested_cuts() const { return nested_; }
  uint64_t states() const { return states_; }

 private:
  void Explore();
  bool Chosen(uint64_t cut) const;
  absl::Status TryOne(uint64_t seed, bool power, bool nested);
  // Power goes off a second time, while the machine starts.
  absl::Status CutAgain(const ImageFixture& machine, uint64_t seed);

  const Options options_;
  ImageFixture machine_;
  absl::Status status_;
  uint64_t cuts_ = 0;
  uint64_t nested_ = 0;
  uint64_t states_ = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_POWER_CUT_SWEEP_H_
