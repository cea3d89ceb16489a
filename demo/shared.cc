#include "demo/shared.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace untorn::demo {

void Shared::SetMessage(const std::string& text) {
  if (has_message.exchange(true)) return;  // The first one tells most.
  const size_t length = std::min(text.size(), message.size() - 1);
  std::memcpy(message.data(), text.data(), length);
  message[length] = 0;
}

absl::StatusOr<SharedMemory> SharedMemory::Create(const std::string& path) {
  return Map(path, O_CREAT | O_TRUNC);
}

absl::StatusOr<SharedMemory> SharedMemory::Open(const std::string& path) { return Map(path, 0); }

absl::StatusOr<SharedMemory> SharedMemory::Map(const std::string& path, int flags) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | flags, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, path);
  void* memory = MAP_FAILED;
  if (ftruncate(fd, sizeof(Shared)) == 0) {
    memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  const int error = errno;
  close(fd);
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(error, path);
  SharedMemory mapped;
  // Its members are meaningful as zero bytes, and lock-free, so they can be shared between processes.
  static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);
  mapped.shared_.reset(static_cast<Shared*>(memory));
  return mapped;
}

void SharedMemory::Unmap::operator()(Shared* shared) const { munmap(shared, sizeof(Shared)); }

}  // namespace untorn::demo
