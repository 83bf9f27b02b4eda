#include "iobackend/memory_cache_device.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "iobackend/memory_write_back.h"
#include "iobackend/stream_copy.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif
#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 0x03
#endif

int MapFlags(MemoryCacheDevice::Media media) {
  // MAP_SYNC: a page is writable only when the file system's metadata for it
  // is durable, so that cache-line write-back is all that is left to do.
  return media == MemoryCacheDevice::Media::kDax
             ? MAP_SHARED_VALIDATE | MAP_SYNC
             : MAP_SHARED;
}

}  // namespace

MemoryCacheDevice::Mapping::~Mapping() {
  guard.reset();
  if (begin != nullptr) munmap(begin, size);
}

absl::StatusOr<std::unique_ptr<MemoryCacheDevice>> MemoryCacheDevice::Create(
    const std::string& name, FileDescriptor file, const Options& options) {
  if (options.size == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": got an empty file, wanted a cache device"));
  }
  if (options.media != Media::kTmpfs && !CanWriteBackMemory()) {
    return absl::UnimplementedError(absl::StrCat(
        name, ": persistent memory is not supported on this processor"));
  }
  auto device =
      absl::WrapUnique(new MemoryCacheDevice(name, std::move(file), options));
  absl::MutexLock lock(&device->mutex_);
  RETURN_IF_ERROR(device->Map(options.size));
  return device;
}

MemoryCacheDevice::~MemoryCacheDevice() = default;

absl::Status MemoryCacheDevice::Map(uint64_t size) {
  auto mapping = std::make_unique<Mapping>();
  // Inaccessible first: with mlockall(MCL_FUTURE) an accessible mapping would
  // be allocated whole before munlock() could say otherwise.
  void* const begin =
      mmap(nullptr, size, PROT_NONE, MapFlags(options_.media), file_.get(), 0);
  if (begin == MAP_FAILED) {
    if (options_.media == Media::kDax &&
        (errno == EOPNOTSUPP || errno == EINVAL)) {
      return absl::UnimplementedError(
          absl::StrCat(name_, ": cannot be mapped synchronously"));
    }
    return PathError("map", name_, errno);
  }
  mapping->begin = static_cast<std::byte*>(begin);
  mapping->size = size;
  munlock(begin, size);
  const int access = options_.read_only ? PROT_READ : PROT_READ | PROT_WRITE;
  if (mprotect(begin, size, access) != 0) {
    return PathError("map", name_, errno);
  }
  ASSIGN_OR_RETURN(mapping->guard, MappingGuard::Create(mapping->begin, size,
                                                        options_.page_size));
  if (options_.media == Media::kTmpfs && !options_.read_only) {
    mapping->prefault = std::make_unique<Prefault>(mapping->begin, size,
                                                   options_.is_new);
  }
  current_.store(mapping.get(), std::memory_order_release);
  mappings_.push_back(std::move(mapping));
  return absl::OkStatus();
}

uint64_t MemoryCacheDevice::size() const { return mapping().size; }

bool MemoryCacheDevice::is_volatile() const {
  return options_.media == Media::kTmpfs;
}

absl::Status MemoryCacheDevice::CheckMarks(const char* operation,
                                           const Mapping& mapping,
                                           uint64_t offset,
                                           uint64_t length) const {
  const auto place = mapping.guard->FindFailure(offset, length);
  if (!place.has_value()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(name_, ": ", operation, " of ", length, " bytes at offset ",
                   offset, ": memory failed at offset ", *place, " (SIGBUS)"));
}

absl::Status MemoryCacheDevice::Read(MediaOffset offset,
                                     std::span<std::byte> out) {
  const Mapping& mapping = this->mapping();
  RETURN_IF_ERROR(CheckRange(name_, offset.value(), out.size(), mapping.size));
  if (out.empty()) return absl::OkStatus();
  std::memcpy(out.data(), mapping.begin + offset.value(), out.size());
  return CheckMarks("read", mapping, offset.value(), out.size());
}

absl::StatusOr<bool> MemoryCacheDevice::TryRead(MediaOffset offset,
                                                std::span<std::byte> out) {
  RETURN_IF_ERROR(Read(offset, out));
  return true;
}

void MemoryCacheDevice::ReadAsync(MediaOffset offset, std::span<std::byte> out,
                                  absl::AnyInvocable<void(absl::Status)> done) {
  done(Read(offset, out));
}

absl::Status MemoryCacheDevice::Write(MediaOffset offset,
                                      std::span<const std::byte> bytes) {
  const Mapping& mapping = this->mapping();
  if (options_.read_only) {
    return absl::FailedPreconditionError(
        absl::StrCat(name_, ": write to a device opened read-only"));
  }
  RETURN_IF_ERROR(
      CheckRange(name_, offset.value(), bytes.size(), mapping.size));
  if (has_failed_.load(std::memory_order_acquire)) {
    absl::MutexLock lock(&mutex_);
    return failure_;
  }
  if (bytes.empty()) return absl::OkStatus();
  // Nothing is lost by refusing what a Read found bad, so this does not fail
  // the device.
  RETURN_IF_ERROR(CheckMarks("write", mapping, offset.value(), bytes.size()));

  if (mapping.prefault != nullptr) {
    mapping.prefault->BeforeWrite(offset.value(), bytes.size());
  }
  std::byte* const target = mapping.begin + offset.value();
  StreamCopy(target, bytes);
  if (options_.media != Media::kTmpfs) {
    WriteBackMemory({target, bytes.size()});
    // Here and not in Persist() alone: a fence orders only the stores of its
    // own thread, and another may call Persist().
    StoreFence();
  }
  absl::Status status =
      CheckMarks("write", mapping, offset.value(), bytes.size());
  return status.ok() ? status : Fail(std::move(status));
}

absl::Status MemoryCacheDevice::Fail(absl::Status failure) {
  absl::MutexLock lock(&mutex_);
  if (failure_.ok()) {
    failure_ = absl::UnavailableError(absl::StrCat(
        failure.message(), "; refused until the device is opened again"));
    has_failed_.store(true, std::memory_order_release);
  }
  return failure;
}

absl::Status MemoryCacheDevice::Persist() {
  if (has_failed_.load(std::memory_order_acquire)) {
    absl::MutexLock lock(&mutex_);
    return failure_;
  }
  if (options_.media != Media::kTmpfs) StoreFence();
  return absl::OkStatus();
}

const std::byte* MemoryCacheDevice::View(MediaOffset offset, uint64_t length) {
  const Mapping& mapping = this->mapping();
  if (!CheckRange(name_, offset.value(), length, mapping.size).ok()) {
    return nullptr;
  }
  return mapping.begin + offset.value();
}

absl::Status MemoryCacheDevice::Refresh() {
  // The size of a device of memory is fixed.
  if (options_.media == Media::kDaxWithoutSync) return absl::OkStatus();
  ASSIGN_OR_RETURN(const uint64_t new_size, FileSize(name_, file_.get()));
  absl::MutexLock lock(&mutex_);
  const uint64_t old_size = mapping().size;
  if (new_size < old_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(name_, ": became smaller: got ", new_size,
                     " bytes, wanted at least ", old_size));
  }
  return new_size == old_size ? absl::OkStatus() : Map(new_size);
}

}  // namespace pcachefs
