#include "tools/signal_watcher.h"

#include <glog/logging.h>
#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

#include "absl/functional/any_invocable.h"

namespace pcachefs {
namespace {

sigset_t WatchedSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    sigaddset(&signals, number);
  }
  return signals;
}

}  // namespace

void SignalWatcher::BlockSignals() {
  const sigset_t signals = WatchedSignals();
  CHECK_EQ(pthread_sigmask(SIG_BLOCK, &signals, nullptr), 0);
  signal(SIGPIPE, SIG_IGN);
}

SignalWatcher::SignalWatcher(absl::AnyInvocable<void()> stop)
    : stop_(std::move(stop)), thread_([this] { Run(); }) {}

SignalWatcher::~SignalWatcher() {
  is_ending_ = true;
  pthread_kill(thread_.native_handle(), SIGHUP);
  thread_.join();
}

void SignalWatcher::Run() {
  const sigset_t signals = WatchedSignals();
  while (!is_ending_) {
    int number = 0;
    if (sigwait(&signals, &number) != 0 || number == SIGHUP) continue;
    LOG(INFO) << "stopping on " << strsignal(number);
    stop_();
  }
}

}  // namespace pcachefs
