// Keeps account of every block: reserved for accepted changes, allocated, pending free, or free.
//
// Invariants
//  1. A displaced extent is allocatable only under four conditions. Two claims settle the record that mapped
//     the extent. The record that displaced the extent is settled. No read of the extent is outstanding. No
//     durable checkpoint refers to the extent, and no leased one.
//  2. The prepared free blocks suffice for all that is reserved, and for the checkpoints of all changes that
//     are reserved or in the deltas. The free blocks also suffice for one more copy of the tree as those
//     changes leave the tree. The exception is a store that recovery has left fuller than that; nothing more
//     is then reserved.
//  3. What is reserved is the sum of the reservations that exist.
//  4. pending_blocks() is the sum of the pending frees.
//
// Threading: the volume's mutex guards the ledger. Methods that take the lock release it while they do I/O.
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
#include "extent/leased_blocks.h"
#include "extent/volume_state.h"

namespace untorn {

// Says what a change takes: blocks for its data, and changes of the tree as TreeGrowthMax counts them.
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

// Says what a change does to the space in use, and so how much of what is kept back the change may take. What is kept is
// for a full store: so it can always be emptied, and written to where it has been written before.
enum class SpaceFor {
  kGrowth,  // takes blocks: nothing of what is kept
  kOverwrite,  // gives back as many blocks as it takes, once it is in a checkpoint: all but what is kept for kRelease
  kRelease,  // gives blocks back: nearly all
};

// Asks for a run of at least `min_blocks` and at most `want_blocks`, at a multiple of the alignment. The
// allocation takes the first run behind the last allocation that has `enough_blocks`, else the longest run
// that it finds.
struct AllocationRequest {
  BlockCount want_blocks = 1;
  BlockCount min_blocks = 1;
  BlockCount alignment_blocks = 1;
  BlockCount enough_blocks = BlockCount::Max();
  bool may_load = true;  // parts of the map that are not in memory
};

class SpaceLedger;

// Holds space that is promised to an accepted change. The destructor gives back what is left. A reservation
// that is not empty must be destroyed with the store's lock held.
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

  // Takes over what `other` holds. Both reservations must be of one ledger.
  void Add(Reservation other);
  // Splits a part off. Returns nullopt if the reservation holds less than `part`.
  std::optional<Reservation> TrySplit(SpaceCost part);
  // Give up what has been used, or is not needed.
  void ReleaseBlocks(BlockCount blocks) REQUIRES_STORE_LOCK;
  void ReleaseEntries(uint64_t entries) REQUIRES_STORE_LOCK;
  void Release() REQUIRES_STORE_LOCK;

 private:
  friend class SpaceLedger;
  Reservation(SpaceLedger* ledger, SpaceCost cost) : ledger_(ledger), cost_(cost) {}

  SpaceLedger* ledger_ = nullptr;
  SpaceCost cost_;
};

// Stands for a device read of an extent that is outstanding. The extent is not reused while the pin lives. A
// pin must be destroyed with the lock held.
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
  // `state` and `pump` must outlive the ledger. At first, the blocks in use are those that the superblock of
  // `state` counts, without what the log adds.
  SpaceLedger(IoPump& pump, const VolumeState& state) : pump_(pump), state_(state), free_(state.superblock) {}
  SpaceLedger(const SpaceLedger&) = delete;

  // ---- Reservations ----
  // Returns nullopt if there is not that much space.
  std::optional<Reservation> TryReserve(SpaceCost cost, SpaceFor use) REQUIRES_STORE_LOCK;
  SpaceCost reserved() const REQUIRES_STORE_LOCK { return reserved_; }
  // Counts the blocks that one change can surely overwrite on a full store, wherever the blocks lie. The rest of what is
  // kept for overwrites is for the tree.
  BlockCount OverwritableBlocks() const REQUIRES_STORE_LOCK;
  // Counts the blocks that growth leaves to releases and overwrites once so many blocks are prepared.
  static BlockCount KeptFromGrowth(BlockCount prepared);
  // Says whether there is space for such a growth if `more` blocks come back, and all blocks are prepared.
  bool CanGrowBy(SpaceCost cost, BlockCount more) const REQUIRES_STORE_LOCK;
  // Counts the blocks that writes could reserve for growth, including blocks that are still to be prepared.
  BlockCount ReservableBlocks() const REQUIRES_STORE_LOCK;
  // Counts the blocks that accepted changes and their checkpoints may take.
  BlockCount PromisedBlocks() const REQUIRES_STORE_LOCK { return reserved_.blocks + MetadataReserve(0); }
  // Counts the prepared free blocks that are promised to nobody, and that growth may take.
  BlockCount SpareBlocks() const REQUIRES_STORE_LOCK;
  // Counts the blocks that a reservation takes in all, its share of tree nodes included.
  BlockCount BlocksOf(SpaceCost cost) const REQUIRES_STORE_LOCK;

  // ---- Blocks ----
  BlockCount free_blocks() const REQUIRES_STORE_LOCK { return free_.free_blocks(); }
  BlockCount pending_blocks() const REQUIRES_STORE_LOCK { return pending_blocks_; }
  BlockCount prepared_blocks() const REQUIRES_STORE_LOCK { return free_.prepared_blocks(); }
  // Counts the blocks that can still be prepared.
  BlockCount unprepared_blocks() const REQUIRES_STORE_LOCK { return state_.end() - free_.prepared_end(); }
  // Returns where blocks to be allocated end. Withdrawn blocks lie behind.
  BlockNumber usable_end() const REQUIRES_STORE_LOCK { return free_.usable_end(); }
  // Says whether an allocation had to do with a short run since more blocks were prepared.
  bool fragmented() const REQUIRES_STORE_LOCK { return fragmented_; }

  // Allocates a run, and loads parts of the map as needed. Returns kResourceExhausted if there is no such
  // run. Keeps the lock if nothing may be loaded.
  absl::StatusOr<Extent> Allocate(Lock& lock, const AllocationRequest& request) REQUIRES_STORE_LOCK;
  // Allocates the next run for a long range. The run begins at a multiple of 64 KiB, or of what a shorter rest allows, and is
  // at least as long. If there is none, the call allocates any run.
  absl::StatusOr<Extent> AllocateNextOf(Lock& lock, BlockCount rest) REQUIRES_STORE_LOCK;
  // Gives back, at once, an extent that no record ever named. No I/O on the extent may be outstanding.
  absl::Status ReturnUnused(Extent extent) REQUIRES_STORE_LOCK { return free_.MarkFree(extent); }

  // Takes a run for the log. Returns nullopt if there is no such run in memory, or if it is promised to others.
  std::optional<Extent> TakeLog(BlockCount blocks) REQUIRES_STORE_LOCK;
  // Writes zeros to the extent, and flushes.
  absl::Status WriteZeros(Lock& lock, Extent extent) REQUIRES_STORE_LOCK;
  // Changes the base bits for a log that moves, as a checkpoint's changes. Takes the log's new place as fixed.
  absl::Status MoveLog(Lock& lock, Extent from, Extent to) REQUIRES_STORE_LOCK;

  // Writes zeros to the next blocks ahead of use, so that later writes cost one I/O. If another thread is
  // preparing already, the call waits for that thread instead.
  enum class Prepared { kMore, kAllPrepared };
  absl::StatusOr<Prepared> PrepareMore(Lock& lock, BlockCount blocks) REQUIRES_STORE_LOCK;

  // ---- A store that becomes smaller ----
  // Withdraws the prepared blocks from `end` on (FreeSpace::Withdraw), and loads all of the map before. PrepareMore() makes
  // them usable again.
  //  kResourceExhausted  what is in use there, and what is promised, has no room before `end`
  absl::Status Withdraw(Lock& lock, BlockNumber end) REQUIRES_STORE_LOCK;
  void RestoreWithdrawn() REQUIRES_STORE_LOCK { free_.RestoreWithdrawn(); }
  // Returns kResourceExhausted if the usable blocks are too few for what is promised and `more` blocks.
  absl::Status CheckFits(BlockCount more) const REQUIRES_STORE_LOCK;
  // Says whether a displaced extent that ends behind `from` waits for a read.
  bool PendingUnderRead(BlockNumber from) const REQUIRES_STORE_LOCK;
  bool withdrawn() const REQUIRES_STORE_LOCK { return free_.withdrawn(); }
  // Makes the withdrawn blocks unprepared.
  void DropWithdrawn() REQUIRES_STORE_LOCK;
  // Keeps others from preparing blocks, which must not be under way. The file may be cut then.
  void HoldPreparing() REQUIRES_STORE_LOCK;
  void EndHold() REQUIRES_STORE_LOCK;

  // ---- Reuse ----
  // Frees an extent that is no longer mapped, or makes a pending free of it until MayReuse() allows that. The records are
  // the one that had mapped the extent, and the one that displaced it. Both are 0 if a checkpoint displaced the extent.
  absl::Status Free(Extent extent, Lsn mapped_by, Lsn displaced_by) REQUIRES_STORE_LOCK;
  // Frees the pending frees that MayReuse() allows.
  absl::Status ReleasePending() REQUIRES_STORE_LOCK;
  ReadPin PinRead(Extent extent) REQUIRES_STORE_LOCK {
    return ReadPin(this, reads_.insert(reads_.end(), extent));
  }
  bool ReadOutstanding(Extent extent) const REQUIRES_STORE_LOCK;
  // Says whether the blocks of the extent may be overwritten in place. A reader could get half of each version.
  bool MayOverwrite(Extent extent) const REQUIRES_STORE_LOCK;

  // ---- Other processes that read ----
  // From the first call on, MayOverwrite() says no, until EndAdmission().
  void BeginAdmission() REQUIRES_STORE_LOCK { admits_ = true; }
  void EndAdmission() REQUIRES_STORE_LOCK { admits_ = false; }
  bool admits() const REQUIRES_STORE_LOCK { return admits_; }
  // Protects the blocks of the last durable checkpoint, and gives them up.
  void BeginLease(Generation checkpoint) REQUIRES_STORE_LOCK { leased_.Begin(checkpoint); }
  absl::Status EndLease(Generation checkpoint) REQUIRES_STORE_LOCK;
  // Says whether invariant 2 does not hold, and leases keep blocks. They must then be ended.
  bool LeasesKeepTooMuch() const REQUIRES_STORE_LOCK {
    return leased_.kept() > 0 && free_.free_blocks() < PromisedBlocks();
  }
  // Counts the blocks that only leases keep.
  BlockCount leased_blocks() const REQUIRES_STORE_LOCK { return leased_.kept(); }

  // Returns kInternal and names the invariant, if an invariant does not hold. Checks invariant 2,
  // invariant 4, and those of the free space. Of invariant 1, the call checks that no pending free is free
  // already. Invariant 3 holds because only TryReserve() and TrySplit() make reservations.
  absl::Status CheckInvariants() const REQUIRES_STORE_LOCK;

  // ---- For recovery and checkpoints ----
  FreeSpace& free_space() { return free_; }
  const FreeSpace& free_space() const { return free_; }
  // Returns kDataLoss unless the extent lies in the data area, and is prepared. Nothing else is ever mapped, so nothing
  // else may be read, written or freed.
  absl::Status CheckPlace(Extent extent) const REQUIRES_STORE_LOCK;
  // True if a part of the map that may have free blocks is not in memory.
  bool CanLoadMore() const REQUIRES_STORE_LOCK { return free_.UnloadedGroupWithSpace().has_value(); }
  // Loads such a part.
  absl::Status LoadMore(Lock& lock) REQUIRES_STORE_LOCK;
  // Loads the root of the map, for FreeSpace::Resize().
  absl::Status LoadRoot(Lock& lock) REQUIRES_STORE_LOCK { return LoadGroup(lock, 0); }
  // True while a thread prepares blocks.
  bool preparing() const REQUIRES_STORE_LOCK { return preparing_; }
  // Loads the parts of the map that the extent touches.
  absl::Status LoadGroups(Lock& lock, Extent extent) REQUIRES_STORE_LOCK;

 private:
  friend class Reservation;
  friend class ReadPin;
  struct PendingFree {
    Extent extent;
    Lsn mapped_by;
    Lsn displaced_by;
  };

  bool IsDue(const PendingFree& free) const REQUIRES_STORE_LOCK;
  // Frees an extent that MayReuse() allows, but for what leases keep.
  absl::Status Release(Extent extent) REQUIRES_STORE_LOCK;
  absl::Status MarkFree(Extent extent) REQUIRES_STORE_LOCK;
  void Unreserve(SpaceCost cost) REQUIRES_STORE_LOCK;
  // Returns what is left of so many free blocks besides all that is promised and kept.
  BlockCount Untaken(BlockCount free, BlockCount kept) const REQUIRES_STORE_LOCK;
  // Counts the blocks that such a change must leave.
  BlockCount KeptFrom(SpaceFor use) const REQUIRES_STORE_LOCK;
  // Counts the blocks that are promised once the cost is reserved.
  BlockCount PromisedWith(SpaceCost cost) const REQUIRES_STORE_LOCK {
    return reserved_.blocks + cost.blocks + MetadataReserve(cost.tree_entries);
  }
  // Counts the free blocks, with those that are still to be prepared.
  BlockCount FreeOfAll() const REQUIRES_STORE_LOCK {
    return free_.free_blocks() + free_.WithdrawnFree() + unprepared_blocks();
  }
  // Counts the blocks that are kept for checkpoints, with that many changes of the tree more.
  BlockCount MetadataReserve(uint64_t extra_entries) const REQUIRES_STORE_LOCK;
  absl::Status LoadGroup(Lock& lock, uint64_t group) REQUIRES_STORE_LOCK;

  IoPump& pump_;
  const VolumeState& state_ GUARDED_BY_STORE_LOCK;
  FreeSpace free_ GUARDED_BY_STORE_LOCK;
  SpaceCost reserved_ GUARDED_BY_STORE_LOCK;
  std::vector<PendingFree> pending_ GUARDED_BY_STORE_LOCK;
  BlockCount pending_blocks_ GUARDED_BY_STORE_LOCK;
  std::list<Extent> reads_ GUARDED_BY_STORE_LOCK;
  LeasedBlocks leased_ GUARDED_BY_STORE_LOCK{free_};
  bool admits_ GUARDED_BY_STORE_LOCK = false;
  bool preparing_ GUARDED_BY_STORE_LOCK = false;
  bool fragmented_ GUARDED_BY_STORE_LOCK = false;
  bool has_reserved_ GUARDED_BY_STORE_LOCK = false;  // invariant 2 has no exception any more
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_SPACE_LEDGER_H_
