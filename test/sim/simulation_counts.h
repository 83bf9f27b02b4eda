// What happened in simulated lives.

#ifndef PCACHEFS_TEST_SIM_SIMULATION_COUNTS_H_
#define PCACHEFS_TEST_SIM_SIMULATION_COUNTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pcachefs {

struct SimulationCounts {
  uint64_t lives = 0;
  uint64_t requests = 0;
  uint64_t failed_requests = 0;
  uint64_t lost_reports = 0;  // answers that said that data is lost, and it was
  uint64_t backing_judgements = 0;
  uint64_t short_disk_transfers = 0;
  uint64_t short_cache_transfers = 0;
  std::map<std::string, uint64_t> events;

  void Count(const std::string& event) { ++events[event]; }
  // Power cuts and crashes of the daemon, each with what survived.
  uint64_t crash_states() const;
  // Requests, and what administrators and fate do.
  uint64_t operations() const;
  // Kinds of events that have not happened.
  std::vector<std::string> Missing() const;
  std::string ToString() const;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_SIMULATION_COUNTS_H_
