#include "extent/space_ledger.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "extent/rules.h"
#include "extent/tree_merge.h"

namespace untorn {
namespace {

// kKeptForRelease are kept back so that removes and truncates work on a full store. Even removes and truncates leave
// kKeptAlways. Each remove or truncate has a few changes of the tree, and a truncate or a punched hole has edges to write.
constexpr BlockCount kKeptForRelease = 96;
constexpr BlockCount kKeptAlways = 16;
// A share of what is prepared is kept for overwrites besides. An overwrite of one block may cut a mapping of 64 blocks in
// three, and so make the tree larger for good: if all of them are cut, by 1.4 % of the data.
constexpr uint64_t kOverwriteShare = 32;
// Changes of the tree that one change reserves at most: for each block that it overwrites, if every block is of another
// object, and besides.
constexpr uint64_t kEntriesOfOverwrite = 5;
constexpr uint64_t kEntriesOfChange = 8;

constexpr BlockCount kLongRunAlignmentBlocks = 16;

BlockCount KeptForOverwrite(BlockCount prepared) { return BlockCount(prepared.value() / kOverwriteShare); }

}  // namespace

// ---- Reservations ----

void Reservation::Add(Reservation other) {
  if (other.empty()) return;
  UNTORN_CHECK(empty() || ledger_ == other.ledger_, "reservations of two stores are added");
  ledger_ = other.ledger_;
  cost_ += std::exchange(other.cost_, SpaceCost());
}

std::optional<Reservation> Reservation::TrySplit(SpaceCost part) {
  if (cost_.blocks < part.blocks || cost_.tree_entries < part.tree_entries) return std::nullopt;
  cost_.blocks -= part.blocks;
  cost_.tree_entries -= part.tree_entries;
  return Reservation(ledger_, part);
}

void Reservation::ReleaseBlocks(BlockCount blocks) {
  if (blocks == 0) return;
  UNTORN_CHECK(cost_.blocks >= blocks, "more blocks are released than are reserved");
  cost_.blocks -= blocks;
  ledger_->Unreserve({blocks, 0});
}

void Reservation::ReleaseEntries(uint64_t entries) {
  if (entries == 0) return;
  UNTORN_CHECK(cost_.tree_entries >= entries, "more entries are released than are reserved");
  cost_.tree_entries -= entries;
  ledger_->Unreserve({0, entries});
}

void Reservation::Release() {
  if (empty()) return;
  ledger_->Unreserve(std::exchange(cost_, SpaceCost()));
}

BlockCount SpaceLedger::MetadataReserve(uint64_t extra_entries) const {
  const uint64_t entries = reserved_.tree_entries + extra_entries + state_.active->tree_entries() +
                           (state_.frozen ? state_.frozen->tree_entries() : 0);
  const TreeRoot& tree = state_.superblock.tree;
  // The growth counts twice: once as new nodes, and once in the copy of the grown tree.
  return tree.node_count + 2 * TreeGrowthMax(tree, entries);
}

BlockCount SpaceLedger::KeptFromGrowth(BlockCount prepared) {
  return kKeptForRelease + KeptForOverwrite(prepared);
}

BlockCount SpaceLedger::OverwritableBlocks() const {
  const BlockCount kept =
      std::min(Untaken(FreeOfAll(), kKeptForRelease), KeptForOverwrite(prepared_blocks()));
  const TreeRoot& tree = state_.superblock.tree;
  uint64_t blocks = 0;
  // The greatest number that fits, bit by bit.
  for (uint64_t bit = std::bit_floor(kept.value()); bit > 0; bit /= 2) {
    const uint64_t entries = kEntriesOfOverwrite * (blocks + bit) + kEntriesOfChange;
    if (BlockCount(blocks + bit) + 2 * TreeGrowthMax(tree, entries) <= kept) blocks += bit;
  }
  return BlockCount(blocks);
}

BlockCount SpaceLedger::KeptFrom(SpaceFor use) const {
  if (use == SpaceFor::kGrowth) return KeptFromGrowth(prepared_blocks());
  return use == SpaceFor::kRelease ? kKeptAlways : kKeptForRelease;
}

std::optional<Reservation> SpaceLedger::TryReserve(SpaceCost cost, SpaceFor use) {
  UNTORN_CHECK(cost.blocks <= kStoreBlocksMax && cost.tree_entries <= kNumberMax, "a cost that no store has");
  if (free_.free_blocks() < PromisedWith(cost) + KeptFrom(use)) return std::nullopt;
  reserved_ += cost;
  has_reserved_ = true;
  return Reservation(this, cost);
}

bool SpaceLedger::CanGrowBy(SpaceCost cost, BlockCount more) const {
  return FreeOfAll() + more >= PromisedWith(cost) + KeptFromGrowth(prepared_blocks() + unprepared_blocks());
}

void SpaceLedger::Unreserve(SpaceCost cost) {
  UNTORN_CHECK(reserved_.blocks >= cost.blocks && reserved_.tree_entries >= cost.tree_entries,
               "more space is given back than was reserved");
  reserved_.blocks -= cost.blocks;
  reserved_.tree_entries -= cost.tree_entries;
}

BlockCount SpaceLedger::BlocksOf(SpaceCost cost) const {
  return cost.blocks + MetadataReserve(cost.tree_entries) - MetadataReserve(0);
}

BlockCount SpaceLedger::Untaken(BlockCount free, BlockCount kept) const {
  const BlockCount taken = PromisedBlocks() + kept;
  return free > taken ? free - taken : 0;
}

BlockCount SpaceLedger::SpareBlocks() const {
  return Untaken(free_.free_blocks(), KeptFromGrowth(prepared_blocks()));
}

BlockCount SpaceLedger::ReservableBlocks() const {
  // Blocks still to be prepared count, because the store prepares more before it refuses a write.
  return Untaken(FreeOfAll(), KeptFromGrowth(prepared_blocks() + unprepared_blocks()));
}

// ---- Blocks ----

absl::Status SpaceLedger::CheckPlace(Extent extent) const {
  if (state_.superblock.geometry.InDataArea(extent) && extent.end() <= free_.prepared_end()) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat("mapping tree: a mapping leads to blocks ", extent.start.value(),
                                          " to ", (extent.end() - 1).value(),
                                          ", outside the prepared data area"));
}

absl::Status SpaceLedger::LoadGroup(Lock& lock, uint64_t group) {
  // Every read releases the lock, so each round asks again what is to be loaded.
  while (true) {
    // The store may have become smaller meanwhile.
    if (FirstBlockOf(group) >= free_.prepared_end()) return absl::OkStatus();
    const std::optional<FreeSpace::NodeAddress> at = free_.NextToLoad(group);
    if (!at) return absl::OkStatus();
    AlignedBuffer block(kBlockBytes);
    if (at->pointer) {
      IoRequest request;
      request.op = IoOp::kRead;
      request.offset_bytes = ByteOffset(at->pointer.block);
      request.iov = {{block.data(), kBlockBytes}};
      RETURN_IF_ERROR(pump_.Run(lock, &request));
    }
    RETURN_IF_ERROR(free_.LoadNode(*at, block.span(), state_.superblock.uuid));
    if (!leased_.empty() && at->level == 0) leased_.GroupLoaded(group);
  }
}

absl::Status SpaceLedger::LoadGroups(Lock& lock, Extent extent) {
  if (extent.count == 0) return absl::OkStatus();
  RETURN_IF_ERROR(CheckPlace(extent));
  const uint64_t last = GroupOf(extent.end() - 1);
  for (uint64_t g = GroupOf(extent.start); g <= last; ++g) RETURN_IF_ERROR(LoadGroup(lock, g));
  return absl::OkStatus();
}

absl::Status SpaceLedger::LoadMore(Lock& lock) {
  const std::optional<uint64_t> group = free_.UnloadedGroupWithSpace();
  return group ? LoadGroup(lock, *group) : absl::OkStatus();
}

absl::StatusOr<Extent> SpaceLedger::Allocate(Lock& lock, const AllocationRequest& request) {
  UNTORN_CHECK(request.min_blocks > 0 && request.alignment_blocks > 0, "an allocation of nothing");
  UNTORN_CHECK(request.min_blocks <= request.want_blocks, "an allocation of more than is wanted");
  absl::Status unreadable;  // of a part of the map: the loaded parts then have to do
  while (true) {
    if (std::optional<Extent> extent =
            free_.Allocate(request.want_blocks, request.min_blocks, request.alignment_blocks,
                           request.enough_blocks, /*settle=*/!unreadable.ok())) {
      UNTORN_CHECK(extent->count >= request.min_blocks && extent->count <= request.want_blocks &&
                       extent->start % request.alignment_blocks == 0,
                   "an allocation that was not asked for");
      UNTORN_CHECK(CheckPlace(*extent).ok() && extent->end() <= free_.prepared_end(),
                   "an allocation outside the prepared data area");
      fragmented_ |= extent->count < std::min(request.want_blocks, kContiguousBlocks);
      return *extent;
    }
    RETURN_IF_ERROR(unreadable);
    // The loaded groups have no run that is long enough, so one more group is loaded.
    const std::optional<uint64_t> group = request.may_load ? free_.UnloadedGroupWithSpace() : std::nullopt;
    if (!group) {
      return absl::ResourceExhaustedError(absl::StrCat("no free run of ", request.min_blocks.value(),
                                                       " blocks at a multiple of ",
                                                       request.alignment_blocks.value()));
    }
    unreadable = LoadGroup(lock, *group);
  }
}

absl::StatusOr<Extent> SpaceLedger::AllocateNextOf(Lock& lock, BlockCount rest) {
  const BlockCount alignment = std::min(kLongRunAlignmentBlocks, BlockCount(std::bit_floor(rest.value())));
  absl::StatusOr<Extent> aligned = Allocate(lock, {.want_blocks = rest,
                                                   .min_blocks = alignment,
                                                   .alignment_blocks = alignment,
                                                   .enough_blocks = alignment});
  if (!absl::IsResourceExhausted(aligned.status())) return aligned;
  return Allocate(lock, {.want_blocks = rest});
}

absl::Status SpaceLedger::WriteZeros(Lock& lock, Extent extent) {
  UNTORN_CHECK(extent.count > 0 && !free_.Allocatable(extent.start),
               "zeros go to blocks that others may take");
  UNTORN_CHECK(extent.end() <= state_.end(), "zeros beyond the store");
  // One thread prepares at a time, so one thread extends the device.
  if (extent.end() > free_.prepared_end()) {
    const Unlocked unlocked(lock);
    RETURN_IF_ERROR(pump_.device().Extend(ByteOffset(extent.end())));
  }
  // The writes go one after another, so a commit on its way waits for one of them at most.
  for (BlockNumber at = extent.start; at < extent.end();) {
    const BlockCount count = std::min(extent.end() - at, BlocksFor(kZeroBytes));
    IoRequest write;
    write.op = IoOp::kWrite;
    write.optional = write.zeros = true;
    write.offset_bytes = ByteOffset(at);
    write.iov = {{const_cast<std::byte*>(Zeros()), Bytes(count)}};
    RETURN_IF_ERROR(pump_.Run(lock, &write));
    at += count;
  }
  if (!PreparingFlushes()) return absl::OkStatus();
  IoRequest flush;
  flush.op = IoOp::kFlush;
  const absl::Status flushed = pump_.Run(lock, &flush);
  // A flush that fails is never "no space", because what the flush covered may be lost.
  return absl::IsResourceExhausted(flushed) ? absl::InternalError(flushed.message()) : flushed;
}

std::optional<Extent> SpaceLedger::TakeLog(BlockCount blocks) {
  // What the log has had comes back.
  if (SpareBlocks() < blocks) return std::nullopt;
  // Loading more of the map would release the lock, and others could take what is spare.
  return free_.Allocate(blocks, blocks, kHeadBlocks, BlockCount::Max(), /*settle=*/true);
}

absl::Status SpaceLedger::MoveLog(Lock& lock, Extent from, Extent to) {
  RETURN_IF_ERROR(LoadGroup(lock, GroupOf(from.start)));
  RETURN_IF_ERROR(LoadGroup(lock, GroupOf(to.start)));
  RETURN_IF_ERROR(free_.SetBase(to));
  free_.MoveLog(to);
  return free_.ClearBase(from);
}

absl::StatusOr<SpaceLedger::Prepared> SpaceLedger::PrepareMore(Lock& lock, BlockCount blocks) {
  UNTORN_CHECK(blocks > 0, "no blocks are to be prepared");
  // What others need goes before a smaller store.
  if (withdrawn()) {
    RestoreWithdrawn();
    return Prepared::kMore;
  }
  // Prepared blocks have no gaps, so one thread prepares at a time.
  if (preparing_) {
    pump_.Wait(lock, [&]() REQUIRES_STORE_LOCK { return !preparing_; });
    return Prepared::kMore;
  }
  const BlockNumber start = free_.prepared_end();
  Extent more{start, std::min(state_.end() - start, blocks)};
  if (Geometry::EndsInHead(BlocksBefore(more.end()))) more.count += kHeadBlocks - more.end() % kGroupBlocks;
  if (more.count == 0) return Prepared::kAllPrepared;
  preparing_ = true;
  // A block device that has grown needs no zeros.
  const absl::Status written =
      pump_.device().info().needs_preparing ? WriteZeros(lock, more) : absl::OkStatus();
  UNTORN_CHECK(free_.prepared_end() == more.start, "two prepare at once");
  preparing_ = false;
  pump_.Notify();
  RETURN_IF_ERROR(written);
  // The zeros are durable, so the blocks may be allocated.
  free_.SetPrepared(free_.prepared_blocks() + more.count);
  fragmented_ = false;
  // The groups are loaded ahead of need. Whoever needs a group that cannot be read gets the error.
  for (uint64_t g = GroupOf(more.start); g <= GroupOf(more.end() - 1); ++g) LoadGroup(lock, g).IgnoreError();
  return Prepared::kMore;
}

// ---- A store that becomes smaller ----

absl::Status SpaceLedger::Withdraw(Lock& lock, BlockNumber end) {
  UNTORN_CHECK(!withdrawn(), "two withdraw at once");
  // What is moved needs room in the other groups, and a part of the map that cannot be read must be known before anything
  // changes. Loading releases the lock, and others may prepare more meanwhile.
  for (uint64_t group = 0;;) {
    pump_.Wait(lock, [&]() REQUIRES_STORE_LOCK { return !preparing_; });
    if (group > GroupOf(free_.prepared_end() - 1)) break;
    RETURN_IF_ERROR(LoadGroup(lock, group));
    ++group;
  }
  UNTORN_CHECK(end < free_.prepared_end(), "nothing is withdrawn");
  free_.Withdraw(end);
  absl::Status fits = CheckFits(free_.WithdrawnInUse());
  if (!fits.ok()) RestoreWithdrawn();
  return fits;
}

absl::Status SpaceLedger::CheckFits(BlockCount more) const {
  const BlockCount needed = PromisedBlocks() + kKeptForRelease + more;
  const BlockCount free = free_.free_blocks();
  if (free >= needed) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("the store does not fit ", ByteOffset(free_.usable_end()),
                                                   " bytes: ", Bytes(needed - free),
                                                   " bytes more are in use"));
}

bool SpaceLedger::PendingUnderRead(BlockNumber from) const {
  return std::any_of(pending_.begin(), pending_.end(), [&](const PendingFree& p) REQUIRES_STORE_LOCK {
    return p.extent.end() > from && ReadOutstanding(p.extent);
  });
}

void SpaceLedger::DropWithdrawn() {
  free_.DropWithdrawn();
  fragmented_ = false;
}

void SpaceLedger::HoldPreparing() {
  UNTORN_CHECK(!preparing_, "preparing is held while blocks are prepared");
  preparing_ = true;
}

void SpaceLedger::EndHold() {
  preparing_ = false;
  pump_.Notify();
}

// ---- Reuse ----

void ReadPin::Unpin() {
  if (SpaceLedger* const ledger = std::exchange(ledger_, nullptr)) ledger->reads_.erase(at_);
}

bool SpaceLedger::ReadOutstanding(Extent extent) const {
  return std::any_of(reads_.begin(), reads_.end(),
                     [&](const Extent& r) { return r.start < extent.end() && extent.start < r.end(); });
}

bool SpaceLedger::MayOverwrite(Extent extent) const {
  return !ReadOutstanding(extent) && MayOverwriteLeased(admits_ || leased_.Uses(extent));
}

absl::Status SpaceLedger::EndLease(Generation checkpoint) {
  absl::Status status;
  leased_.End(checkpoint, [&](Extent run) REQUIRES_STORE_LOCK { status.Update(MarkFree(run)); });
  pump_.Notify();
  return status;
}

bool SpaceLedger::IsDue(const PendingFree& free) const {
  return MayReuse(free.mapped_by, free.displaced_by, state_.settled, ReadOutstanding(free.extent));
}

absl::Status SpaceLedger::Release(Extent extent) {
  if (leased_.empty()) return MarkFree(extent);
  absl::Status status;
  status.Update(leased_.Keep(extent, [&](Extent run) REQUIRES_STORE_LOCK { status.Update(MarkFree(run)); }));
  return status;
}

absl::Status SpaceLedger::MarkFree(Extent extent) {
  absl::Status status = free_.MarkFree(extent);
  free_.SetCursor(CursorAfterFree(free_.cursor(), extent));
  return status;
}

absl::Status SpaceLedger::Free(Extent extent, Lsn mapped_by, Lsn displaced_by) {
  UNTORN_CHECK(extent.count > 0 && CheckPlace(extent).ok(), "what is freed is outside the data area");
  UNTORN_CHECK(mapped_by <= displaced_by, "a mapping is displaced before it is made");
  UNTORN_CHECK(displaced_by <= state_.durable_lsn, "a record displaces a mapping, and is not durable");
  const PendingFree free{extent, mapped_by, displaced_by};
  if (IsDue(free)) return Release(extent);
  pending_.push_back(free);
  pending_blocks_ += extent.count;
  return absl::OkStatus();
}

absl::Status SpaceLedger::ReleasePending() {
  absl::Status status;
  std::erase_if(pending_, [&](const PendingFree& p) REQUIRES_STORE_LOCK {
    if (!IsDue(p)) return false;
    UNTORN_CHECK(pending_blocks_ >= p.extent.count, "more is freed than was pending");
    pending_blocks_ -= p.extent.count;
    status.Update(Release(p.extent));
    return true;
  });
  UNTORN_CHECK(pending_.empty() == (pending_blocks_ == 0),
               "invariant 4: the pending frees are counted wrong");
  return status;
}

absl::Status SpaceLedger::CheckInvariants() const {
  BlockCount pending;
  for (const PendingFree& p : pending_) {
    pending += p.extent.count;
    for (BlockNumber block = p.extent.start; block < p.extent.end(); ++block) {
      if (free_.Allocatable(block)) {
        return absl::InternalError(absl::StrCat("space ledger, invariant 1: block ", block.value(),
                                                " waits to be freed, and is allocatable"));
      }
    }
  }
  if (pending != pending_blocks_) {
    return absl::InternalError(absl::StrCat("space ledger, invariant 4: ", pending.value(),
                                            " blocks wait to be freed, ", pending_blocks_.value(),
                                            " are counted"));
  }
  // A checkpoint that is under way has taken a part of what is kept for it.
  const BlockCount kept = PromisedBlocks();
  if (has_reserved_ && !state_.frozen && free_.free_blocks() < kept) {
    return absl::InternalError(absl::StrCat("space ledger, invariant 2: ", free_.free_blocks().value(),
                                            " blocks are free, ", kept.value(), " are promised"));
  }
  return free_.CheckInvariants();
}

}  // namespace untorn
