// PageReader reads objects in three steps: plan (under the lock) → fetch → fill.
//
// The plan is a snapshot: it has references to cached blocks, and pinned extents for the rest. The reader
// copies the content without the lock. So a read sees all of an atomic write or none of it (promise 2),
// however long the read takes.
//
// Threading: thread-safe. The caller must not hold the lock.
#ifndef UNTORN_STORE_PAGE_READER_H_
#define UNTORN_STORE_PAGE_READER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/lock.h"
#include "base/readiness.h"
#include "cow/object_state.h"
#include "store/cache_limit.h"
#include "store/io_vector.h"
#include "untorn/options.h"
#include "writeback/parts.h"

namespace untorn::internal {

class PageReader {
 public:
  // `limit` must outlive the reader.
  PageReader(std::mutex& mu, const Parts& parts, CacheLimit& limit) : mu_(mu), parts_(parts), limit_(limit) {}

  // Reads at most `out.bytes` bytes from `offset` on. Returns how many bytes the object has there. Fails with
  // kNotFound if the object was removed. After an error the content of `out` is unspecified.
  absl::StatusOr<size_t> Read(ObjectState& object, uint64_t offset, IoVector out,
                              const ReadOptions& options) EXCLUDES_STORE_LOCK;

 private:
  struct Plan;
  struct Piece;
  struct DeviceRead;

  Readiness MakePlan(Lock& lock, ObjectState& object, Plan* plan) REQUIRES_STORE_LOCK;
  void PinPieces(ObjectState& object, Plan* plan) REQUIRES_STORE_LOCK;
  static void FillFromMemory(Plan& plan);
  void PrepareFetch(const Plan& plan, Piece* piece);
  // Compares what was read with the checksums. Needs no lock.
  void Verify(Piece& piece) const;
  // Counts the blocks that did not match, and returns kDataLoss if that is damage.
  absl::Status TellWrong(const ObjectState& object, const Piece& piece) REQUIRES_STORE_LOCK;
  static size_t EndOfRead(absl::Span<Piece* const> order, size_t first);
  DeviceRead MakeRead(absl::Span<Piece* const> pieces) const;
  absl::Status RunReads(Lock& lock, std::vector<DeviceRead>& reads) REQUIRES_STORE_LOCK;
  static void FillFromPiece(const Plan& plan, const Piece& piece);
  absl::Status Fetch(Lock& lock, ObjectState& object, Plan& plan) EXCLUDES_STORE_LOCK;

  std::mutex& mu_;
  const Parts parts_;
  CacheLimit& limit_;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_PAGE_READER_H_
