#include "tools/metrics_listener.h"

#include <glog/logging.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "iobackend/monotonic_time.h"
#include "meta/status_macros.h"
#include "tools/http_answer.h"
#include "tools/listening_socket.h"

namespace pcachefs {
namespace {

bool WouldBlock() { return errno == EAGAIN || errno == EINTR; }

// One client: its request is read, its answer written, and then it is read to
// its end, since closing a socket with unread bytes takes the answer back.
class Client {
 public:
  Client(int fd, absl::Time deadline) : fd_(fd), deadline_(deadline) {}
  ~Client() { close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  int fd() const { return fd_; }
  absl::Time deadline() const { return deadline_; }
  short events() const {  // NOLINT(runtime/int): of poll
    return answer_.has_value() && !is_answered_ ? POLLOUT : POLLIN;
  }

  // As far as it goes without waiting; false once it is over.
  bool Advance(absl::AnyInvocable<std::string()>& metrics) {
    if (is_answered_) return Discard();
    if (!answer_.has_value() && !Receive(metrics)) return false;
    return !answer_.has_value() || Send();
  }

 private:
  bool Receive(absl::AnyInvocable<std::string()>& metrics) {
    char buffer[2048];
    const ssize_t length = recv(fd_, buffer, sizeof(buffer), 0);
    if (length < 0) return WouldBlock();
    if (length == 0) return false;
    received_.append(buffer, length);
    answer_ = AnswerHttp(received_, [&] { return metrics(); });
    return true;
  }

  bool Send() {
    while (sent_ < answer_->size()) {
      const ssize_t length = send(fd_, answer_->data() + sent_,
                                  answer_->size() - sent_, MSG_NOSIGNAL);
      if (length < 0) return WouldBlock();
      sent_ += length;
    }
    is_answered_ = true;
    return shutdown(fd_, SHUT_WR) == 0;
  }

  bool Discard() {
    char buffer[2048];
    const ssize_t length = recv(fd_, buffer, sizeof(buffer), 0);
    return length > 0 || (length < 0 && WouldBlock());
  }

  const int fd_;
  const absl::Time deadline_;
  std::string received_;  // below kMaxHttpHead and a buffer
  std::optional<std::string> answer_;
  size_t sent_ = 0;
  bool is_answered_ = false;
};

class Listener : public MetricsListener {
 public:
  Listener(std::unique_ptr<ListeningSocket> socket, int wake_fd,
           absl::AnyInvocable<std::string()> metrics, const Options& options)
      : socket_(std::move(socket)),
        wake_fd_(wake_fd),
        metrics_(std::move(metrics)),
        options_(options),
        thread_([this] { Run(); }) {}

  ~Listener() override {
    is_ending_ = true;
    const uint64_t one = 1;
    (void)!write(wake_fd_, &one, sizeof(one));
    thread_.join();
    close(wake_fd_);
  }

  const MetricsAddress& address() const override { return socket_->address(); }

 private:
  void Run() {
    while (!is_ending_) {
      const std::vector<pollfd> ready = Wait();
      // Clients first: those that are accepted now have not been polled.
      size_t i = 2;
      clients_.remove_if([&](const std::unique_ptr<Client>& client) {
        const bool is_ready = ready[i++].revents != 0;
        return MonotonicNow() > client->deadline() ||
               (is_ready && !client->Advance(metrics_));
      });
      if (ready[1].revents != 0) Accept();
    }
  }

  // The wake-up, the socket, and the clients in their order.
  std::vector<pollfd> Wait() {
    const bool has_room =
        clients_.size() < static_cast<size_t>(options_.max_connections);
    // A negative descriptor is not looked at.
    std::vector<pollfd> polled = {
        {wake_fd_, POLLIN, 0}, {has_room ? socket_->fd() : -1, POLLIN, 0}};
    absl::Time deadline = absl::InfiniteFuture();
    for (const auto& client : clients_) {
      polled.push_back({client->fd(), client->events(), 0});
      deadline = std::min(deadline, client->deadline());
    }
    int timeout = -1;
    if (deadline != absl::InfiniteFuture()) {
      timeout = static_cast<int>(
          absl::ToInt64Milliseconds(
              std::max(deadline - MonotonicNow(), absl::ZeroDuration())) +
          1);
    }
    if (poll(polled.data(), polled.size(), timeout) < 0) {
      for (pollfd& entry : polled) entry.revents = 0;
    }
    return polled;
  }

  void Accept() {
    const int fd =
        accept4(socket_->fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      clients_.push_back(
          std::make_unique<Client>(fd, MonotonicNow() + options_.timeout));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
      // It stays ready; do not burn a processor on it.
      LOG_EVERY_N(WARNING, 100) << "metrics: cannot accept: errno " << errno;
      absl::SleepFor(absl::Milliseconds(100));
    }
  }

  const std::unique_ptr<ListeningSocket> socket_;
  const int wake_fd_;
  absl::AnyInvocable<std::string()> metrics_;
  const Options options_;
  std::list<std::unique_ptr<Client>> clients_;  // of the thread
  std::atomic<bool> is_ending_ = false;
  std::thread thread_;  // last
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsListener>> MetricsListener::Start(
    const MetricsAddress& address, absl::AnyInvocable<std::string()> metrics,
    const Options& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<ListeningSocket> socket,
                   ListeningSocket::Open(address));
  const int wake_fd = eventfd(0, EFD_CLOEXEC);
  if (wake_fd < 0) return absl::ErrnoToStatus(errno, "metrics_listen: eventfd");
  return std::make_unique<Listener>(std::move(socket), wake_fd,
                                    std::move(metrics), options);
}

}  // namespace pcachefs
