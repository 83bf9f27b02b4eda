// What a process still may once it has given its privileges up, whoever runs it.

#include "tools/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "gtest/gtest.h"

namespace pcachefs {
namespace {

// "CapEff:\t000001ffffffffff" of this thread, as a number.
uint64_t OfThread(const std::string& name) {
  std::ifstream status("/proc/thread-self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) {
      return std::strtoull(line.c_str() + name.size() + 1, nullptr, 16);
    }
  }
  return ~uint64_t{0};
}

bool Has(uint64_t capabilities, int capability) {
  return (capabilities >> capability & 1) != 0;
}

// In a process of its own, since nothing of it can be taken back.
bool HoldsInChild(const std::function<bool()>& condition) {
  const pid_t child = fork();
  if (child == 0) _exit(condition() ? 0 : 1);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool OnlyWhatIsKept(const char* name) {
  const uint64_t before = OfThread(name);
  DropPrivileges();
  return OfThread(name) == (before & KeptCapabilities());
}

TEST(PrivilegesTest, WhatIsNotKeptIsGone) {
  EXPECT_TRUE(HoldsInChild([] { return OnlyWhatIsKept("CapEff"); }));
  EXPECT_TRUE(HoldsInChild([] { return OnlyWhatIsKept("CapPrm"); }));
  EXPECT_FALSE(Has(KeptCapabilities(), CAP_SYS_PTRACE));
  EXPECT_FALSE(Has(KeptCapabilities(), CAP_SYS_RAWIO));
  EXPECT_FALSE(Has(KeptCapabilities(), CAP_SYS_MODULE));
  EXPECT_FALSE(Has(KeptCapabilities(), CAP_SETUID));
}

TEST(PrivilegesTest, NothingIsInherited) {
  EXPECT_TRUE(HoldsInChild([] {
    const bool may_lower = Has(OfThread("CapPrm"), CAP_SETPCAP);
    DropPrivileges();
    return OfThread("CapInh") == 0 && OfThread("CapAmb") == 0 &&
           (!may_lower || (OfThread("CapBnd") & ~KeptCapabilities()) == 0);
  }));
}

TEST(PrivilegesTest, SetUserIdHelpsOnlyWhoMayNotMount) {
  EXPECT_TRUE(HoldsInChild([] {
    const bool may_mount = Has(OfThread("CapPrm"), CAP_SYS_ADMIN);
    const uint64_t before = OfThread("NoNewPrivs");
    DropPrivileges();
    return OfThread("NoNewPrivs") == (may_mount ? 1 : before);
  }));
}

TEST(PrivilegesTest, ThreadsMadeLaterHaveNoMore) {
  EXPECT_TRUE(HoldsInChild([] {
    DropPrivileges();
    bool holds = false;
    std::thread([&holds] {
      holds = (OfThread("CapEff") & ~KeptCapabilities()) == 0;
    }).join();
    return holds;
  }));
}

// What it means: root without CAP_SYS_RESOURCE cannot raise a limit again.
TEST(PrivilegesTest, TheSystemRefusesWhatIsGone) {
  EXPECT_TRUE(HoldsInChild([] {
    DropPrivileges();
    rlimit limit = {.rlim_cur = 100, .rlim_max = 100};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
    limit.rlim_max = 200;
    return setrlimit(RLIMIT_NOFILE, &limit) != 0 && errno == EPERM;
  }));
}

}  // namespace
}  // namespace pcachefs
