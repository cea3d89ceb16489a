// The copy-on-write fork of the whole store: which blocks have content that is accepted but not durable, in
// which units, and the cache of block contents that goes with it.
//
// Invariants
//  1. Units of one epoch that share a block are joined when the later one is staged: pending units of one
//     epoch never overlap.
//  2. A pending unit with metadata changes of an object holds all pending changes of that object of its
//     epoch, and later ones join it: so whatever is durable of it brings all before it.
//  3. Joining never crosses a barrier: where a later epoch overwrites a block of a pending unit, that unit
//     keeps its version (Unit::detached).
//  4. A page with a pending or committing unit is never evicted; so a block that is being overwritten in
//     place is always read from memory.
//
// Does no I/O and knows no extents but those of preallocation. Threading: guarded by the store's mutex.
#ifndef UNTORN_COW_COW_FORK_H_
#define UNTORN_COW_COW_FORK_H_

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "cow/buffer_pool.h"
#include "cow/unit.h"
#include "extent/types.h"

namespace untorn {

class CowFork {
 public:
  struct PendingName {
    std::shared_ptr<ObjectState> object;  // nullptr: the name is gone
    Unit* unit = nullptr;
  };
  using UnitOrder = std::pair<uint64_t, uint64_t>;  // epoch, sequence

  BufferPool& pool() { return pool_; }

  // ---- Objects and names ----
  std::shared_ptr<ObjectState> FindObject(ObjectId id) const;
  std::shared_ptr<ObjectState> AddObject(const Inode& inode);
  // nullptr: nothing is pending for this name.
  const PendingName* FindName(const std::string& name) const;
  const absl::btree_map<std::string, PendingName>& names() const { return names_; }
  // Forgets objects that nothing refers to any more.
  void ForgetIdleObjects();

  // ---- Reading ----
  Page* FindPage(ObjectState& object, uint64_t block) const;
  // True if the block, which has no page, reads as zeros by a hole that is not durable yet.
  bool InPendingHole(const ObjectState& object, uint64_t block) const;
  // A page for content that is being read; nullptr if it has one already.
  Page* AddReading(ObjectState& object, uint64_t block, uint64_t token);
  // Gives the page its content, if it still waits for it.
  void FillRead(ObjectState& object, uint64_t block, uint64_t token, BufferRef buffer);

  // ---- Staging ----
  uint64_t epoch() const { return epoch_; }
  // Begins a new epoch if anything is pending or committing.
  void Barrier();
  // Blocks of the range that are not part of a pending unit of this epoch: those need space of their own.
  uint64_t BlocksToClaim(const ObjectState& object, BlockRange range) const;
  // A new pending unit.
  std::shared_ptr<Unit> NewUnit();
  // The pending unit of this epoch that an atomic change of these blocks belongs to: existing ones are joined,
  // to `unit` if that is given.
  std::shared_ptr<Unit> UnitForRange(const std::shared_ptr<ObjectState>& object, BlockRange range,
                                     std::shared_ptr<Unit> unit = nullptr);
  // ... that a metadata change of this object belongs to.
  std::shared_ptr<Unit> UnitForObject(const std::shared_ptr<ObjectState>& object);
  // ... that changes what this name refers to. `object` null: the name goes.
  void StageName(const std::shared_ptr<Unit>& unit, const std::string& name,
                 const std::shared_ptr<ObjectState>& object);
  // The pending unit of this epoch that holds this name, if there is one.
  std::shared_ptr<Unit> UnitOfName(const std::string& name) const;
  // The units that UnitForRange, UnitForObject and UnitOfName would join.
  using UnitSet = absl::flat_hash_set<Unit*>;
  void AddUnitsOfRange(const ObjectState& object, BlockRange range, UnitSet* units) const;
  void AddUnitsOfObject(const ObjectState& object, UnitSet* units) const;
  void AddUnitOfName(const std::string& name, UnitSet* units) const;
  // Makes `into` and `from` one unit; both pending, of one epoch. Returns it.
  std::shared_ptr<Unit> Join(std::shared_ptr<Unit> into, std::shared_ptr<Unit> from);
  ObjectChange& Change(Unit& unit, const std::shared_ptr<ObjectState>& object);
  // Puts new content of one block into the unit.
  void StageBlock(const std::shared_ptr<Unit>& unit, const std::shared_ptr<ObjectState>& object,
                  uint64_t block, BufferRef buffer);
  // The cheap case of an atomic write: one unit holds all these blocks already, and nothing but their content changes.
  // Puts `buffers` in their place, and what was there into `buffers`. nullptr, and nothing done, if it is not so.
  Unit* Restage(ObjectState& object, BlockRange range, std::span<BufferRef> buffers);
  // Fetches what Restage needs of these blocks, if they are few, into the processor's cache.
  void Prefetch(ObjectState& object, BlockRange range) const;
  // Makes the object at least this large.
  void StageGrowth(const std::shared_ptr<Unit>& unit, const std::shared_ptr<ObjectState>& object,
                   uint64_t size_bytes);
  // Makes the blocks read as zeros: drops their pages, takes them out of the unit (which holds all of the
  // object's pending changes of this epoch). Returns how many blocks it took out.
  uint64_t StageHole(const std::shared_ptr<Unit>& unit, const std::shared_ptr<ObjectState>& object,
                     BlockRange range);

  // ---- Committing ----
  const absl::btree_map<UnitOrder, std::shared_ptr<Unit>>& pending() const { return pending_; }
  std::shared_ptr<Unit> Shared(const Unit* unit) const;
  // True if something is committing that has to be durable before this unit is sent.
  bool MustWait(const Unit& unit) const;
  // Freezes a pending unit: its content moves to Unit::frozen.
  void Freeze(const std::shared_ptr<Unit>& unit);
  // The unit is durable.
  void Complete(const std::shared_ptr<Unit>& unit);
  // Makes a frozen unit, of one range within the durable size of its object, pending again, as the older part of
  // whatever overlaps it now.
  void Unfreeze(const std::shared_ptr<Unit>& unit);
  uint64_t committing_units() const { return committing_units_; }
  // Drops clean pages of blocks whose mapping was changed behind the cache.
  void DropClean(ObjectState& object, BlockRange range);

  // ---- Memory ----
  uint64_t dirty_blocks() const { return dirty_blocks_; }  // pending and committing
  uint64_t page_memory_bytes() const { return pool_.bytes_in_use() + chunk_count_ * sizeof(Chunk); }
  // Evicts clean pages, longest unused first, until memory is at most `limit_bytes` or none is left.
  void Evict(uint64_t limit_bytes);

 private:
  Page& GetPage(ObjectState& object, uint64_t block);
  Unit* PendingWith(const ObjectState& object, uint64_t block, uint64_t epoch, const Unit* except) const;
  Chunk* FindChunk(ObjectState& object, uint64_t block) const;
  // The blocks of the range that have a page, in order.
  std::vector<uint64_t> BlocksWithPages(const ObjectState& object, BlockRange range) const;
  void DropPage(ObjectState& object, uint64_t block);
  void EraseChunkIfUnused(Chunk* chunk);
  void Detach(Page& page, ObjectState& object, uint64_t block);
  void NotePending(Unit* unit, ObjectState& object);

  BufferPool pool_;
  uint64_t epoch_ = 0;
  uint64_t next_sequence_ = 1;
  uint64_t dirty_blocks_ = 0;
  uint64_t committing_units_ = 0;
  uint64_t chunk_count_ = 0;
  absl::btree_map<UnitOrder, std::shared_ptr<Unit>> pending_;
  absl::btree_map<std::string, PendingName> names_;
  std::list<Chunk*> chunks_;  // eviction order
  std::list<Chunk*>::iterator hand_ = chunks_.end();
  absl::flat_hash_map<ObjectId, std::shared_ptr<ObjectState>> objects_;
};

}  // namespace untorn

#endif  // UNTORN_COW_COW_FORK_H_
