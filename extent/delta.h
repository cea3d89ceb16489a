// Holds what durable log records changed since a checkpoint, as an overlay over the mapping tree.
//
//     lookup:   active delta   ─ where it says nothing →   frozen delta (being checkpointed)   →   tree
//
// Invariants
//  1. A delta holds whole durable chains only, applied in the order of their LSNs. So a delta can be frozen
//     at any moment, and a checkpoint never ends inside a transaction.
//  2. Mappings of one object do not overlap. A hole is kept as an entry, because a hole hides what lies
//     below. The counts of entries, mapped blocks and names are exact.
//  3. A delta owns the blocks that it maps, except blocks that a layer below maps already: data went into
//     unwritten blocks, or blocks were opened, closed or overwritten in place. The checkpoint that drops the
//     lower layer's mapping frees such blocks.
//  4. If an owned extent is displaced inside one delta, the extent is reported at once, because no
//     checkpoint refers to it. What the delta hides in the layers below is found when the delta is merged
//     into the tree.
//
// Threading: the caller's mutex guards a delta. A frozen delta does not change.
#ifndef UNTORN_EXTENT_DELTA_H_
#define UNTORN_EXTENT_DELTA_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "extent/log_format.h"
#include "extent/tree_merge.h"
#include "extent/types.h"

namespace untorn {

// Takes an extent that is no longer mapped, and the LSN of the record that had mapped the extent.
using DisplacedFn = absl::FunctionRef<void(Extent, Lsn mapped_by)>;

class Delta {
 public:
  // Applies one entry of a durable record. `lsn` is the LSN of the last record of the chain. Returns
  // kDataLoss if the entry writes into unwritten blocks, or opens written ones, but the delta maps those blocks
  // otherwise.
  absl::Status Apply(const LogEntry& entry, Lsn lsn, DisplacedFn displaced);
  // Notes the checksums of a written mapping that keeps its place, and whether the mapping is open. No record
  // says so: the data was overwritten in place, or the blocks are closed. The mapping must be that of this delta
  // or of the layers below.
  void Note(ObjectId object, const Mapping& mapping);

  // Calls `piece` for what the delta says of `range`, and `gap` for the parts of which the delta says
  // nothing. The calls are in the order of the blocks.
  void Visit(ObjectId object, BlockRange range, absl::FunctionRef<void(const Mapping&)> piece,
             absl::FunctionRef<void(BlockRange)> gap) const;

  // Both return nullptr if the delta says nothing of the object or name. A value of nullopt means that the
  // object or name is gone.
  const std::optional<Inode>* FindInode(ObjectId object) const;
  const std::optional<ObjectId>* FindName(const std::string& name) const;
  const absl::btree_map<std::string, std::optional<ObjectId>>& names() const { return names_; }
  const absl::btree_map<ObjectId, std::optional<Inode>>& inodes() const { return inodes_; }

  bool empty() const { return entries() == 0; }
  size_t entries() const { return mapping_count_ + inodes_.size() + names_.size(); }
  // Counts the blocks that the delta maps and owns.
  BlockCount mapped_blocks() const { return mapped_blocks_; }
  // Counts the entries as TreeGrowthMax does.
  uint64_t tree_entries() const {
    return entries() + checksum_entries_ + names_set_ * (kTreeEntriesOfName - 1);
  }

  // Returns the delta as sorted edits for MergeTree. While the edits are in use, the delta must live and not
  // change.
  std::unique_ptr<TreeEditSource> Edits() const;
  // Calls `extent` for every extent that the delta maps.
  void ForEachExtent(absl::FunctionRef<void(Extent)> extent) const;
  // Calls `mapping` for every mapping and every hole of the delta, in the order of object and logical block.
  void ForEachMapping(absl::FunctionRef<void(ObjectId, const Mapping&, bool owned)> mapping) const;
  // Returns kInternal and names the invariant, if an invariant does not hold. The check looks at every
  // entry.
  absl::Status CheckInvariants() const;

 private:
  class EditSource;
  struct Entry {
    BlockCount count;
    BlockNumber physical;
    Lsn lsn;
    MappingState state = MappingState::kHole;
    uint8_t unsettled_rewrites = 0;
    bool owned = true;
    LogEpoch opened;
    Lsn opened_by;
    BlockChecksums checksums;  // of written blocks

    bool has_extent() const { return state != MappingState::kHole; }
    bool owns_extent() const { return has_extent() && owned; }
    uint64_t checksum_entries() const {
      return state == MappingState::kWritten ? TreeEntriesOfBlocks(count) - 1 : 0;
    }
  };
  // Holds what the delta says of one object, by the first block of each range. A node of the map has room for many pointers
  // and for few entries, so a map of entries would be deep.
  using Object = absl::btree_map<ObjectBlock, std::unique_ptr<Entry>>;
  using Objects = absl::btree_map<ObjectId, Object>;
  // Holds a mapping that was taken out of the delta.
  struct Piece {
    Piece(const Mapping& m, bool is_owned)
        : without_checksums(m), checksums(m.checksums.Copy(m.logical.count)), owned(is_owned) {}
    Mapping mapping() const {
      Mapping m = without_checksums;
      m.checksums = checksums.empty() ? ChecksumsRef() : ChecksumsRef(checksums);
      return m;
    }
    Mapping without_checksums;
    BlockChecksums checksums;
    bool owned;
  };
  using Pieces = absl::InlinedVector<Piece, 2>;

  static Mapping MakeMapping(const Object::value_type& v);
  static void Fill(Entry& entry, const Mapping& mapping, bool owned);
  // Returns the first entry that ends behind `block`.
  template <typename Map>
  static auto FirstBeyond(Map& object, ObjectBlock block);
  // Maps the blocks anew.
  void Replace(ObjectId object, const Mapping& mapping, DisplacedFn displaced);
  // Replaces an entry of exactly the same range. The entry gives up its blocks.
  void ReplaceWhole(Entry& entry, const Mapping& mapping, DisplacedFn displaced);
  // Applies a mapping that keeps its place. The blocks were mapped there before, as `before`.
  absl::Status Keep(ObjectId object, const Mapping& mapping, MappingState before);
  // Takes out what the delta says of `range`, in order. What sticks out of the range stays.
  Pieces TakeOut(Object& object, BlockRange range);
  void Put(Object& object, const Mapping& mapping, bool owned);
  // As above. `before` is the first entry behind the mapping.
  void Put(Object& object, Object::iterator before, const Mapping& mapping, bool owned);
  void CountIn(const Entry& entry);
  void CountOut(const Entry& entry);

  Objects mappings_;
  size_t mapping_count_ = 0;  // entries of all objects
  BlockCount mapped_blocks_;
  uint64_t checksum_entries_ = 0;
  absl::btree_map<ObjectId, std::optional<Inode>> inodes_;
  absl::btree_map<std::string, std::optional<ObjectId>> names_;
  uint64_t names_set_ = 0;  // names that are not gone
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_DELTA_H_
