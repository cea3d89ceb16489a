#include "base/memory_reserve.h"

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace untorn {
namespace {

// Several pieces, so that threads whose allocations fail at once find one each.
constexpr size_t kPieces = 32;
constexpr size_t kPieceBytes = MemoryReserve::kBytes / kPieces;

std::array<std::atomic<void*>, kPieces> pieces;
std::new_handler previous_handler = nullptr;

// Never destroyed, since stores may outlive static objects.
const absl::Status& Error() {
  static const absl::Status& error = *new absl::Status(
      absl::ResourceExhaustedError("the process can get no more memory, so the store begins nothing new; "
                                   "raise the limit of memory, or free some"));
  return error;
}

}  // namespace

constinit thread_local int MemoryReserve::Use::depth_ = 0;
constinit std::atomic<bool> MemoryReserve::whole_{false};

bool MemoryReserve::Fill() {
  for (std::atomic<void*>& piece : pieces) {
    if (piece.load(std::memory_order_relaxed) != nullptr) continue;
    // malloc() finds what it has got back too, which it may keep for ever.
    void* memory = std::malloc(kPieceBytes);
    if (memory == nullptr) return false;
    void* none = nullptr;
    // Another thread may have been faster.
    if (!piece.compare_exchange_strong(none, memory)) std::free(memory);
  }
  whole_.store(true);
  // A piece that was taken meanwhile is missed at the next look.
  for (const std::atomic<void*>& piece : pieces) {
    if (piece.load() == nullptr) whole_.store(false);
  }
  return true;
}

void MemoryReserve::OnNoMemory() {
  if (Use::depth_ > 0) {
    for (std::atomic<void*>& piece : pieces) {
      if (void* memory = piece.exchange(nullptr)) {
        whole_.store(false);
        std::free(memory);
        return;
      }
    }
    std::fputs("untorn: the process can get no more memory, and the reserve for what was begun is used up\n",
               stderr);
    std::abort();
  }
  if (previous_handler == nullptr) throw std::bad_alloc();
  previous_handler();
}

absl::Status MemoryReserve::Prepare() {
  static const bool set = [] {
    Error();
    previous_handler = std::get_new_handler();
    std::set_new_handler(OnNoMemory);
    return true;
  }();
  (void)set;
  return Check();
}

absl::Status MemoryReserve::Check() {
  if (IsWhole() || Fill()) [[likely]]
    return absl::OkStatus();
  return NoMemory();
}

absl::Status MemoryReserve::NoMemory() { return Error(); }

}  // namespace untorn
