// What durable log records changed since a checkpoint: an overlay over the mapping tree.
//
//     lookup:   active delta   ─ where it says nothing →   frozen delta (being checkpointed)   →   tree
//
// Invariants
//  1. A delta holds whole durable records only, applied in LSN order: so it can be frozen at any moment, and
//     a checkpoint of it never ends inside a transaction.
//  2. Mappings of one object do not overlap. A hole is kept as an entry: it hides what lies below. The counts of
//     entries, mapped blocks and names are exact.
//  3. A write into blocks that a layer below has mapped, unwritten, does not own them: the checkpoint that
//     drops the layer's mapping frees them. Everything else mapped here is owned.
//  4. An owned extent displaced inside one delta is reported at once: no checkpoint refers to it. What the
//     delta hides in the layers below is found when it is merged into the tree.
//
// Threading: guarded by the caller's mutex; a frozen delta does not change.
#ifndef UNTORN_EXTENT_DELTA_H_
#define UNTORN_EXTENT_DELTA_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "extent/log_format.h"
#include "extent/tree_merge.h"
#include "extent/types.h"

namespace untorn {

// Called with an extent that is no longer mapped, and the LSN of the record that had mapped it.
using DisplacedFn = absl::FunctionRef<void(Extent, Lsn mapped_by)>;

class Delta {
 public:
  // Applies one entry of the durable record (or the last record of the chain) `lsn`. DataLoss where it contradicts
  // an earlier one: it writes into blocks as reserved for it that are mapped otherwise here.
  absl::Status Apply(const LogEntry& entry, Lsn lsn, DisplacedFn displaced);

  // Calls `piece` for what this delta says of `range`, and `gap` for what it says nothing of, in order.
  void Visit(ObjectId object, BlockRange range, absl::FunctionRef<void(const Mapping&)> piece,
             absl::FunctionRef<void(BlockRange)> gap) const;

  // nullptr: says nothing. Otherwise the value, which may be "gone".
  const std::optional<Inode>* FindInode(ObjectId object) const;
  const std::optional<ObjectId>* FindName(const std::string& name) const;
  const absl::btree_map<std::string, std::optional<ObjectId>>& names() const { return names_; }
  const absl::btree_map<ObjectId, std::optional<Inode>>& inodes() const { return inodes_; }

  bool empty() const { return entries() == 0; }
  size_t entries() const { return mapping_count_ + inodes_.size() + names_.size(); }
  BlockCount mapped_blocks() const { return mapped_blocks_; }
  // As TreeGrowthMax counts them.
  uint64_t tree_entries() const { return entries() + names_set_ * (kTreeEntriesOfName - 1); }

  // The delta as sorted edits for MergeTree. The delta must outlive it and not change.
  std::unique_ptr<TreeEditSource> Edits() const;
  // Calls `extent` for every extent mapped here.
  void ForEachExtent(absl::FunctionRef<void(Extent)> extent) const;
  // Calls `mapping` for everything said here of mappings, holes too, in order of object and logical block.
  void ForEachMapping(absl::FunctionRef<void(ObjectId, const Mapping&, bool owned)> mapping) const;
  // kInternal: names an invariant that does not hold. It looks at every entry.
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

    bool has_extent() const { return state != MappingState::kHole; }
  };
  // What is said of one object's blocks, by the first block.
  using Object = absl::btree_map<ObjectBlock, Entry>;
  using Objects = absl::btree_map<ObjectId, Object>;

  static Mapping MakeMapping(const Object::value_type& v);
  // The first entry that reaches beyond `block`.
  template <typename Map>
  static auto FirstBeyond(Map& object, ObjectBlock block);
  absl::Status Replace(ObjectId object, const Mapping& mapping, bool keeps_extent, DisplacedFn displaced);
  // Replaces an entry of exactly the same range, which gives up its blocks.
  void ReplaceWhole(Entry& entry, const Mapping& mapping, DisplacedFn displaced);
  // The general case: `it` is the first entry that overlaps the range.
  absl::Status ReplaceOverlapping(Object& object, Object::iterator it, ObjectId id, Mapping mapping,
                                  bool keeps_extent, DisplacedFn displaced);
  void Put(Object& object, const Mapping& mapping, bool owned);

  Objects mappings_;
  size_t mapping_count_ = 0;  // entries of all objects
  BlockCount mapped_blocks_;
  absl::btree_map<ObjectId, std::optional<Inode>> inodes_;
  absl::btree_map<std::string, std::optional<ObjectId>> names_;
  uint64_t names_set_ = 0;  // those that are not gone
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_DELTA_H_
