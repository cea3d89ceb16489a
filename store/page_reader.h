// Reading: plan (under the lock) → fetch → fill.
//
// The plan is a snapshot: references to cached blocks, and pinned extents for the rest. It is copied without the lock.
// So a reader sees all of an atomic write or none of it (promise 2), however long it takes.
#ifndef UNTORN_STORE_PAGE_READER_H_
#define UNTORN_STORE_PAGE_READER_H_

#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/lock.h"
#include "base/readiness.h"
#include "cow/object_state.h"
#include "store/io_vector.h"
#include "untorn/options.h"
#include "writeback/parts.h"

namespace untorn::internal {

class PageReader {
 public:
  // `cache_bytes`: what cached pages may take.
  PageReader(std::mutex& mu, const Parts& parts, uint64_t cache_bytes)
      : mu_(mu), parts_(parts), cache_bytes_(cache_bytes) {}

  // Reads at most `out.bytes` from `offset`; returns how many there were. Called without the lock.
  absl::StatusOr<size_t> Read(ObjectState& object, uint64_t offset, IoVector out,
                              const ReadOptions& options) EXCLUDES_STORE_LOCK;

 private:
  struct Plan;
  struct Piece;

  Readiness MakePlan(Lock& lock, ObjectState& object, Plan* plan) REQUIRES_STORE_LOCK;
  void PinPieces(ObjectState& object, Plan* plan) REQUIRES_STORE_LOCK;
  static void FillFromMemory(Plan& plan);
  void PrepareFetch(const Plan& plan, Piece* piece);
  static void FillFromPiece(const Plan& plan, const Piece& piece);
  absl::Status Fetch(Lock& lock, ObjectState& object, Plan& plan) EXCLUDES_STORE_LOCK;

  std::mutex& mu_;
  const Parts parts_;
  const uint64_t cache_bytes_;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_PAGE_READER_H_
