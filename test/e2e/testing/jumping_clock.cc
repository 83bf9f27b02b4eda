// A wall clock that a test sets: preloaded (LD_PRELOAD) into a program, it adds
// the seconds that stand, as text, in the file named by JUMPING_CLOCK, from one
// reading to the next. The monotonic clock stays what it is. Waits until a wall
// clock time, as abseil's, end when this clock says so.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

namespace {

constexpr int64_t kSecond = 1000000000;
constexpr int64_t kSlice = kSecond / 100;

int64_t Offset() {
  static const char* const path = getenv("JUMPING_CLOCK");
  if (path == nullptr) return 0;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[32] = {};
  const ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  return length > 0 ? strtoll(text, nullptr, 10) : 0;
}

template <typename Function>
Function Real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

int RealClock(clockid_t clock, timespec* time) {
  static const auto real = Real<int (*)(clockid_t, timespec*)>("clock_gettime");
  return real(clock, time);
}

int64_t Nanos(const timespec& time) {
  return int64_t{time.tv_sec} * kSecond + time.tv_nsec;
}

timespec ToTime(int64_t nanos) { return {nanos / kSecond, nanos % kSecond}; }

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const int result = RealClock(clock, time);
  if (result == 0 &&
      (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    time->tv_sec += Offset();
  }
  return result;
}

int gettimeofday(timeval* time, void*) noexcept {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  *time = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

time_t time(time_t* out) noexcept {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != nullptr) *out = now.tv_sec;
  return now.tv_sec;
}

long syscall(long number, ...) noexcept {  // NOLINT: its type
  static const auto real = Real<long (*)(long, ...)>("syscall");  // NOLINT
  va_list list;
  va_start(list, number);
  long a[6];                                               // NOLINT
  for (auto& argument : a) argument = va_arg(list, long);  // NOLINT
  va_end(list);
  const auto* const deadline = reinterpret_cast<const timespec*>(a[3]);
  if (number != SYS_futex || (a[1] & FUTEX_CLOCK_REALTIME) == 0 ||
      deadline == nullptr) {
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  }
  while (true) {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const int64_t left = Nanos(*deadline) - Nanos(now);
    if (left <= 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    RealClock(CLOCK_REALTIME, &now);
    const timespec slice = ToTime(Nanos(now) + std::min(left, kSlice));
    const long result =  // NOLINT
        real(number, a[0], a[1], a[2], &slice, a[4], a[5]);
    if (result == 0 || errno != ETIMEDOUT) return result;
  }
}

}  // extern "C"
