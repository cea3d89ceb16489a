// Whose each block is: reserved for accepted changes, allocated, pending free, free.
//
// Invariants
//  1. A displaced extent is allocatable only when the record that mapped it is settled, the one that displaced it
//     is durable together with all before it, no read of it is outstanding, and no durable checkpoint refers to it.
//  2. The prepared free blocks suffice for all that is reserved, for the checkpoints of all changes that are
//     reserved or in the deltas, and for one more copy of the tree as they leave it. (Not after an open of a store
//     that recovery has left fuller than that: then nothing more is reserved.)
//  3. What is reserved is the sum of the reservations that exist.
//  4. pending_blocks() is the sum of the extents that wait to be freed.
//
// Threading: guarded by the volume's mutex. Methods that take the lock release it while they do I/O.
#ifndef UNTORN_EXTENT_SPACE_LEDGER_H_
#define UNTORN_EXTENT_SPACE_LEDGER_H_

#include <cstdint>
#include <list>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/lock.h"
#include "device/io_pump.h"
#include "extent/free_space.h"
#include "extent/volume_state.h"

namespace untorn {

// What a change takes: blocks for its data, and changes of the tree, counted as for TreeGrowthMax.
struct SpaceCost {
  BlockCount blocks;
  uint64_t tree_entries = 0;
  SpaceCost& operator+=(const SpaceCost& other) {
    blocks += other.blocks;
    tree_entries += other.tree_entries;
    return *this;
  }
  friend SpaceCost operator+(SpaceCost a, const SpaceCost& b) { return a += b; }
  bool operator==(const SpaceCost&) const = default;
};

// kUsable: removes and truncates may take what is kept back for them.
enum class EmergencyReserve { kKept, kUsable };

// A run of at most `want_blocks` and at least `min_blocks`, at a multiple of the alignment. The first run after the
// last allocation that has `enough_blocks` is taken, else the longest that is found.
struct AllocationRequest {
  BlockCount want_blocks = 1;
  BlockCount min_blocks = 1;
  BlockCount alignment_blocks = 1;
  BlockCount enough_blocks = BlockCount::Max();
};

class SpaceLedger;

// Space promised to an accepted change. It gives back what is left of it when it goes: the store's lock must be held
// then, unless it is empty.
class Reservation {
 public:
  Reservation() = default;
  Reservation(Reservation&& other) noexcept
      : ledger_(other.ledger_), cost_(std::exchange(other.cost_, SpaceCost())) {}
  Reservation& operator=(Reservation&& other) noexcept REQUIRES_STORE_LOCK {
    if (this == &other) return *this;
    Release();
    ledger_ = other.ledger_;
    cost_ = std::exchange(other.cost_, SpaceCost());
    return *this;
  }
  ~Reservation() { Release(); }

  SpaceCost cost() const { return cost_; }
  BlockCount blocks() const { return cost_.blocks; }
  uint64_t tree_entries() const { return cost_.tree_entries; }
  bool empty() const { return cost_ == SpaceCost(); }

  // Takes the other over. Both are of one ledger.
  void Add(Reservation other);
  // Splits a part off; nullopt if there is less.
  std::optional<Reservation> TrySplit(SpaceCost part);
  // What was reserved has been used, or is not needed.
  void ReleaseBlocks(BlockCount blocks) REQUIRES_STORE_LOCK;
  void ReleaseEntries(uint64_t entries) REQUIRES_STORE_LOCK;
  void Release() REQUIRES_STORE_LOCK;

 private:
  friend class SpaceLedger;
  Reservation(SpaceLedger* ledger, SpaceCost cost) : ledger_(ledger), cost_(cost) {}

  SpaceLedger* ledger_ = nullptr;
  SpaceCost cost_;
};

// A device read of an extent is outstanding: the extent is not reused. Destroyed with the lock held.
class ReadPin {
 public:
  ReadPin() = default;
  ReadPin(ReadPin&& other) noexcept : ledger_(std::exchange(other.ledger_, nullptr)), at_(other.at_) {}
  ReadPin& operator=(ReadPin&& other) noexcept REQUIRES_STORE_LOCK {
    if (this == &other) return *this;
    Unpin();
    ledger_ = std::exchange(other.ledger_, nullptr);
    at_ = other.at_;
    return *this;
  }
  ~ReadPin() REQUIRES_STORE_LOCK { Unpin(); }

 private:
  friend class SpaceLedger;
  ReadPin(SpaceLedger* ledger, std::list<Extent>::iterator at) : ledger_(ledger), at_(at) {}
  void Unpin() REQUIRES_STORE_LOCK;

  SpaceLedger* ledger_ = nullptr;
  std::list<Extent>::iterator at_;
};

class SpaceLedger {
 public:
  // `state` and `pump` must outlive the ledger. What `state` has now, but for the log, is what is in use.
  SpaceLedger(IoPump& pump, const VolumeState& state) : pump_(pump), state_(state), free_(state.superblock) {}
  SpaceLedger(const SpaceLedger&) = delete;

  // ---- Reservations ----
  // nullopt: there is not that much.
  std::optional<Reservation> TryReserve(SpaceCost cost, EmergencyReserve reserve) REQUIRES_STORE_LOCK;
  BlockCount reserved_blocks() const REQUIRES_STORE_LOCK { return reserved_.blocks; }
  // Blocks a write could reserve now; more after preparing.
  BlockCount ReservableBlocks() const REQUIRES_STORE_LOCK;
  // Blocks that a reservation takes in all, its share of tree nodes included.
  BlockCount BlocksOf(SpaceCost cost) const REQUIRES_STORE_LOCK;

  // ---- Blocks ----
  BlockCount free_blocks() const REQUIRES_STORE_LOCK { return free_.free_blocks(); }
  BlockCount pending_blocks() const REQUIRES_STORE_LOCK { return pending_blocks_; }
  BlockCount prepared_blocks() const REQUIRES_STORE_LOCK { return free_.prepared_blocks(); }
  // The last allocations since more was prepared had to do with short runs.
  bool fragmented() const REQUIRES_STORE_LOCK { return fragmented_; }

  // Allocates, loading parts of the map as needed. kResourceExhausted: there is no such run.
  absl::StatusOr<Extent> Allocate(Lock& lock, const AllocationRequest& request) REQUIRES_STORE_LOCK;
  // A run at a multiple of the alignment and at least as long, or, if there is none, any run.
  absl::StatusOr<Extent> AllocateAlignedOrAnywhere(Lock& lock, BlockCount want_blocks,
                                                   BlockCount alignment_blocks) REQUIRES_STORE_LOCK;
  // An extent that no record ever named goes back at once. No I/O on it may be outstanding.
  absl::Status ReturnUnused(Extent extent) REQUIRES_STORE_LOCK { return free_.MarkFree(extent); }

  // Writes zeros to the next blocks ahead of use, so that later writes cost one I/O. It waits for another thread
  // that is at it, instead.
  enum class Prepared { kMore, kAllPrepared };
  absl::StatusOr<Prepared> PrepareMore(Lock& lock, BlockCount blocks) REQUIRES_STORE_LOCK;

  // ---- Reuse ----
  // The extent, mapped by that record (0: by a checkpoint), is no longer mapped: frees it when that is due.
  void FreeLater(Extent extent, Lsn mapped_by) REQUIRES_STORE_LOCK;
  // Frees what has become due.
  absl::Status ReleasePending() REQUIRES_STORE_LOCK;
  ReadPin PinRead(Extent extent) REQUIRES_STORE_LOCK {
    return ReadPin(this, reads_.insert(reads_.end(), extent));
  }
  bool ReadOutstanding(Extent extent) const REQUIRES_STORE_LOCK;

  // kInternal: names an invariant that does not hold: 4, those of the free space, and of 1 that nothing waits to be freed
  // which is free already.
  absl::Status CheckInvariants() const REQUIRES_STORE_LOCK;

  // ---- For recovery and checkpoints ----
  FreeSpace& free_space() { return free_; }
  const FreeSpace& free_space() const { return free_; }
  // Anything but the data area is never mapped: nothing may be read, written or freed there.
  absl::Status CheckPlace(Extent extent) const REQUIRES_STORE_LOCK;
  // Loads the parts of the map that the extent touches.
  absl::Status LoadGroups(Lock& lock, Extent extent) REQUIRES_STORE_LOCK;

 private:
  friend class Reservation;
  friend class ReadPin;
  struct PendingFree {
    Extent extent;
    Lsn mapped_by;
  };

  void Unreserve(SpaceCost cost) REQUIRES_STORE_LOCK;
  // Blocks kept for checkpoints, with that many entries more.
  BlockCount MetadataReserve(uint64_t extra_entries) const REQUIRES_STORE_LOCK;
  absl::Status LoadGroup(Lock& lock, uint64_t group) REQUIRES_STORE_LOCK;
  // Writes zeros to it and flushes.
  absl::Status WriteZeros(Lock& lock, Extent extent) REQUIRES_STORE_LOCK;

  IoPump& pump_;
  const VolumeState& state_ GUARDED_BY_STORE_LOCK;
  FreeSpace free_ GUARDED_BY_STORE_LOCK;
  SpaceCost reserved_ GUARDED_BY_STORE_LOCK;
  std::vector<PendingFree> pending_ GUARDED_BY_STORE_LOCK;
  BlockCount pending_blocks_ GUARDED_BY_STORE_LOCK;
  std::list<Extent> reads_ GUARDED_BY_STORE_LOCK;
  bool preparing_ GUARDED_BY_STORE_LOCK = false;
  bool fragmented_ GUARDED_BY_STORE_LOCK = false;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_SPACE_LEDGER_H_
