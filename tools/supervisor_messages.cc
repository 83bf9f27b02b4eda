#include "tools/supervisor_messages.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace pcachefs {
namespace {

struct Head {
  uint32_t word;
  uint32_t text_size;
  uint64_t number;
};
constexpr size_t kMaxText = 4096;
constexpr size_t kMaxDescriptors = 128;

}  // namespace

bool SendSupervisorMessage(int socket, SupervisorWord word, uint64_t number,
                           absl::string_view text,
                           std::span<const int> descriptors) {
  text = text.substr(0, kMaxText);
  Head head = {static_cast<uint32_t>(word), static_cast<uint32_t>(text.size()),
               number};
  iovec parts[] = {{&head, sizeof(head)},
                   {const_cast<char*>(text.data()), text.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  if (!descriptors.empty()) {
    const size_t size =
        std::min(descriptors.size(), kMaxDescriptors) * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(size);
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(size);
    std::memcpy(CMSG_DATA(rights), descriptors.data(), size);
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

std::optional<SupervisorMessage> ReceiveSupervisorMessage(int socket) {
  Head head = {};
  char text[kMaxText];
  iovec parts[] = {{&head, sizeof(head)}, {text, sizeof(text)}};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t size;
  do {
    size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < static_cast<ssize_t>(sizeof(head))) return std::nullopt;
  SupervisorMessage received;
  received.word = static_cast<SupervisorWord>(head.word);
  received.number = head.number;
  received.text.assign(text, std::min<size_t>(size - sizeof(head),
                                              head.text_size));
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    received.descriptors.resize((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(received.descriptors.data(), CMSG_DATA(part),
                received.descriptors.size() * sizeof(int));
  }
  return received;
}

}  // namespace pcachefs
