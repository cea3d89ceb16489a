// The first half of fsck --repair: reads what can be read of a damaged store, and decides what the repair
// keeps.
//
// Invariants
//  1. No two kept mappings share a block, and no kept mapping shares a block with a node of the old tree.
//     Where two claim a block, the first one keeps it, and a node of the tree comes before any mapping.
//  2. Every kept object has one name, and every kept name leads to a kept object.
//  3. An object is quarantined if something of it is lost or doubtful. It keeps what can be read, under a
//     name that says so. Nothing that can be read is thrown away except names that lead nowhere.
#ifndef UNTORN_INSPECT_SALVAGE_H_
#define UNTORN_INSPECT_SALVAGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "device/device.h"
#include "extent/delta.h"
#include "extent/log_reader.h"
#include "extent/superblock.h"
#include "extent/tree_packer.h"
#include "inspect/block_set.h"
#include "inspect/findings.h"
#include "inspect/lost_keys.h"
#include "inspect/progress.h"

namespace untorn::internal {

class Salvage {
 public:
  // All three must outlive this object. `progress` counts the tree nodes that are read, each of them three
  // times in all.
  Salvage(Device& device, const Superblock& superblock, Progress& progress)
      : device_(device), sb_(superblock), progress_(progress) {}

  // Reads the store and decides. Fails only if the device fails.
  absl::Status Read();

  // The log as far as its records count, and the newest epoch and generation in it.
  const LogTail& tail() const { return tail_; }
  const LogNewest& newest() const { return newest_; }
  uint64_t next_object() const { return next_object_; }
  // The blocks of the kept mappings.
  const BlockSet& used() const { return used_; }
  BlockNumber used_end() const { return used_end_; }
  // The blocks that the old store may refer to. They must stay as they are until the repaired store is
  // durable.
  const BlockSet& untouchable() const { return untouchable_; }
  // The block in which the old free-space map has each node (level, index), for the nodes that can be found.
  const absl::btree_map<std::pair<int, uint64_t>, BlockNumber>& map_slots() const { return map_slots_; }
  uint64_t nodes_lost() const { return nodes_lost_; }
  uint64_t quarantined() const { return quarantined_; }
  // Says in words what becomes of objects and names.
  const std::vector<std::string>& actions() const { return actions_; }
  uint64_t actions_total() const { return actions_total_; }

  // Writes every entry of the repaired tree, in key order. Reads the old tree's mappings once more.
  absl::Status WriteEntries(TreeLeafWriter& leaf);

 private:
  class NodeScan;
  class MappingScan;
  class MapScan;
  struct Object {
    bool recorded = false;  // the object has a readable record
    uint64_t size_bytes = 0;
    bool preallocated = false;
    std::string name;  // first the name in the record, later the name in the directory
    bool named = false;
    BlockRange last;    // the object's furthest mapping
    std::string doubt;  // the first thing that is wrong with the object; empty: nothing
    uint64_t doubts = 0;
  };
  using KeptFn = absl::FunctionRef<absl::Status(ObjectId, const Mapping&)>;

  // Says whether the extent may hold data: the file need not go on behind what is prepared.
  bool IsData(Extent extent) const {
    return sb_.geometry.InDataArea(extent) && extent.end() <= BlockAfterFirst(tail_.prepared_blocks);
  }
  absl::Status ReadLog();
  absl::Status ReadNodes();
  // Calls `kept` for all kept mappings, in order.
  absl::Status ForEachMapping(KeptFn kept);
  // Doubts the objects whose extents a later write may have overwritten. Only a damaged log leaves such
  // doubt.
  absl::Status DoubtLogExtents();
  void DoubtLostRanges();
  void DoubtLostRange(const LostKeys::Range& range, ObjectId id, Object& object);
  void CompleteRecords();
  void CompleteNames();
  void Quarantine();
  void Doubt(Object& object, const std::string& why);
  template <typename... Words>
  void Act(const Words&... words) {
    if (actions_.size() < kFindingsInFull) actions_.push_back(absl::StrCat(Word(words)...));
    ++actions_total_;
  }

  Device& device_;
  const Superblock& sb_;
  Progress& progress_;
  Delta delta_;
  LogTail tail_;
  LogNewest newest_;
  LostKeys lost_;
  uint64_t nodes_lost_ = 0, mapping_nodes_lost_ = 0;
  bool mappings_lost_ = false;
  std::vector<std::pair<ObjectId, std::string>> doubtful_;  // objects of the tree, and the reason
  BlockSet nodes_, used_, contested_, untouchable_;
  BlockNumber used_end_;
  uint64_t mappings_kept_ = 0;
  uint64_t next_object_ = 1;
  ObjectId first_of_log_ = ObjectId::kNone;  // this object and later ones were created after the checkpoint
  absl::btree_map<ObjectId, Object> objects_;
  absl::btree_map<std::string, ObjectId> names_;
  absl::btree_map<std::pair<int, uint64_t>, BlockNumber> map_slots_;
  uint64_t quarantined_ = 0;
  std::vector<std::string> actions_;
  uint64_t actions_total_ = 0;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_SALVAGE_H_
