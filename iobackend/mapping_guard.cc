#include "iobackend/mapping_guard.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include "absl/base/call_once.h"
#include "absl/memory/memory.h"
#include "absl/status/status.h"

namespace pcachefs {

// A place in the registry. `version` is odd while the fields change; the
// handler takes only what it read between two equal even values. Since the
// faulting thread is using the mapping, the slot that it matches cannot be
// given up meanwhile.
struct MappingGuard::Slot {
  std::atomic<bool> taken = false;
  std::atomic<uint32_t> version = 0;
  std::atomic<uintptr_t> begin = 0;
  std::atomic<uintptr_t> end = 0;
  std::atomic<size_t> page_size = 0;
  std::atomic<Marks*> marks = nullptr;

  void Set(uintptr_t new_begin, uintptr_t new_end, size_t new_page_size,
           Marks* new_marks) {
    version.fetch_add(1);
    begin = new_begin;
    end = new_end;
    page_size = new_page_size;
    marks = new_marks;
    version.fetch_add(1);
  }
};

namespace {

constexpr size_t kBitsPerWord = 64;
constexpr size_t kMaxGuards = 256;

std::array<MappingGuard::Slot, kMaxGuards> registry;
struct sigaction previous_action;

struct Fault {
  uintptr_t begin = 0;  // of the mapping; 0: none of ours
  size_t page_size = 0;
  MappingGuard::Marks* marks = nullptr;
};

Fault FindMapping(uintptr_t address) {
  for (MappingGuard::Slot& slot : registry) {
    uint32_t version;
    Fault fault;
    uintptr_t end;
    do {
      version = slot.version;
      fault = {slot.begin, slot.page_size, slot.marks};
      end = slot.end;
    } while (version % 2 != 0 || version != slot.version);
    if (fault.begin <= address && address < end) return fault;
  }
  return {};
}

// False if the page could not be replaced.
bool ReplacePage(const Fault& fault, uintptr_t address) {
  const size_t page = (address - fault.begin) / fault.page_size;
  // The mark comes first: nobody may use the page of zeroes unmarked.
  fault.marks->words[page / kBitsPerWord].fetch_or(uint64_t{1}
                                                   << (page % kBitsPerWord));
  fault.marks->any = true;
  // The system call itself: sanitizers wrap mmap().
  const long result = syscall(SYS_mmap, fault.begin + page * fault.page_size,
                              fault.page_size, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return result != -1;
}

void CallPrevious(int signal, siginfo_t* info, void* context) {
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal, info, context);
    return;
  }
  if (previous_action.sa_handler != SIG_DFL &&
      previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal);
    return;
  }
  const bool sent_by_process = info->si_code <= 0;
  if (sent_by_process && previous_action.sa_handler == SIG_IGN) return;
  // The instruction is run again and ends the process, at its place.
  struct sigaction default_action = {};
  default_action.sa_handler = SIG_DFL;
  sigaction(signal, &default_action, nullptr);
  if (sent_by_process) raise(signal);
}

void HandleBusError(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  const bool is_memory_failure = info->si_code > 0;
  const Fault fault = is_memory_failure ? FindMapping(address) : Fault{};
  if (fault.begin == 0 || !ReplacePage(fault, address)) {
    CallPrevious(signal, info, context);
  }
  errno = saved_errno;
}

void InstallHandler() {
  struct sigaction action = {};
  action.sa_sigaction = HandleBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &previous_action);
}

MappingGuard::Slot* TakeSlot() {
  for (MappingGuard::Slot& slot : registry) {
    if (!slot.taken.exchange(true)) return &slot;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MappingGuard>> MappingGuard::Create(
    const std::byte* begin, size_t size, size_t page_size) {
  static absl::once_flag once;
  absl::call_once(once, InstallHandler);

  auto guard = absl::WrapUnique(new MappingGuard(page_size));
  const size_t pages = (size + page_size - 1) / page_size;
  const size_t words = (pages + kBitsPerWord - 1) / kBitsPerWord;
  // Mapped, not allocated: one bit per page is 32 MiB for a TiB, and only what
  // a failure touches is ever given memory.
  void* const memory = mmap(nullptr, words * sizeof(uint64_t), PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "mmap of marks");
  guard->marks_.words = static_cast<std::atomic<uint64_t>*>(memory);
  guard->marks_.words_size = words * sizeof(uint64_t);
  // Against mlockall(MCL_FUTURE); see MemoryCacheDevice.
  munlock(memory, guard->marks_.words_size);
  if (mprotect(memory, guard->marks_.words_size, PROT_READ | PROT_WRITE) != 0) {
    return absl::ErrnoToStatus(errno, "mprotect of marks");
  }

  guard->slot_ = TakeSlot();
  if (guard->slot_ == nullptr) {
    return absl::ResourceExhaustedError(
        "too many cache devices are mapped in this process");
  }
  const auto address = reinterpret_cast<uintptr_t>(begin);
  guard->slot_->Set(address, address + size, page_size, &guard->marks_);
  return guard;
}

MappingGuard::~MappingGuard() {
  if (slot_ != nullptr) {
    slot_->Set(0, 0, 0, nullptr);
    slot_->taken = false;
  }
  if (marks_.words != nullptr) munmap(marks_.words, marks_.words_size);
}

std::optional<size_t> MappingGuard::FindFailure(size_t offset,
                                                size_t length) const {
  // A thread that met a failure ran the handler itself or shares the page of
  // another that did, which the system ordered; hence acquire is enough.
  if (!marks_.any.load(std::memory_order_acquire) || length == 0) return {};
  const size_t last = (offset + length - 1) / page_size_;
  for (size_t page = offset / page_size_; page <= last; ++page) {
    const uint64_t word = marks_.words[page / kBitsPerWord];
    if ((word >> (page % kBitsPerWord) & 1) != 0) {
      return std::max(page * page_size_, offset);
    }
  }
  return {};
}

}  // namespace pcachefs
