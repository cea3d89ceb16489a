// What can be read of a damaged store, put in order: the mappings, objects and names that a repair keeps, and what
// it does about the rest.
//
// Invariants
//  1. No two mappings that are kept share a block, and none shares one with a node of the old tree: of those that
//     did, all but the first lose it.
//  2. Every object that is kept has one name, and every name leads to an object that is kept.
//  3. An object of which something is lost or doubtful is quarantined: it keeps what there is under a name that
//     tells so. Nothing that can be read is thrown away, but names that lead nowhere.
#ifndef UNTORN_SALVAGE_H_
#define UNTORN_SALVAGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "device/device.h"
#include "extent/delta.h"
#include "extent/log_reader.h"
#include "extent/superblock.h"
#include "extent/tree_packer.h"
#include "untorn/block_set.h"
#include "untorn/fsck_report.h"
#include "untorn/fsck_tree.h"

namespace untorn::internal {

class Salvage {
 public:
  // Both must outlive it. `progress` is told of every tree node read; it is read three times in all.
  Salvage(Device& device, const Superblock& superblock, Progress& progress)
      : device_(device), sb_(superblock), progress_(progress) {}

  // Reads all of it and decides. An error only where the device fails.
  absl::Status Read();

  // The log as far as it counts, with the newest epoch and generation found in it.
  const LogTail& tail() const { return tail_; }
  const LogNewest& newest() const { return newest_; }
  uint64_t next_object() const { return next_object_; }
  // What the kept mappings use.
  const BlockSet& used() const { return used_; }
  uint64_t used_end() const { return used_end_; }
  // What must stay as it is until the repaired store is durable: everything that the old one may refer to.
  const BlockSet& untouchable() const { return untouchable_; }
  // The slots that the old free-space map has in use, as far as they can be told: (level, index) to block.
  const absl::btree_map<std::pair<int, uint64_t>, uint64_t>& map_slots() const { return map_slots_; }
  uint64_t nodes_lost() const { return nodes_lost_; }
  uint64_t quarantined() const { return quarantined_; }
  // What becomes of objects and names, in words.
  const std::vector<std::string>& actions() const { return actions_; }
  uint64_t actions_total() const { return actions_total_; }

  // Hands on every entry of the repaired tree, in key order; reads the old tree's mappings once more.
  absl::Status WriteEntries(TreeLeafWriter& leaf);

 private:
  class NodeScan;
  class MappingScan;
  class MapScan;
  struct Object {
    bool recorded = false;  // there is a record of it
    uint64_t size_bytes = 0;
    std::string name;  // as its record has it, then as the directory has it
    bool named = false;
    BlockRange last;    // its furthest mapping
    std::string doubt;  // what is wrong with it; empty: nothing
    uint64_t doubts = 0;
  };
  using KeptFn = absl::FunctionRef<absl::Status(ObjectId, const Mapping&)>;

  absl::Status ReadLog();
  absl::Status ReadNodes();
  // All mappings that are kept, in order.
  absl::Status ForEachMapping(KeptFn kept);
  // Where the log is damaged, its extents may have been given to others since.
  absl::Status DoubtLogExtents();
  void DoubtLostRanges();
  void DoubtLostRange(const LostKeys::Range& range, ObjectId id, Object& object);
  void CompleteRecords();
  void CompleteNames();
  void Quarantine();
  void Doubt(Object& object, const std::string& why);
  template <typename... Words>
  void Act(const Words&... words) {
    if (actions_.size() < kFindingsInFull) actions_.push_back(absl::StrCat(words...));
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
  std::vector<std::pair<ObjectId, std::string>> doubtful_;  // objects of the tree, and why
  BlockSet nodes_, used_, contested_, untouchable_;
  uint64_t used_end_ = 0;
  uint64_t mappings_kept_ = 0;
  uint64_t next_object_ = 1;
  ObjectId first_of_log_ = ObjectId::kNone;  // objects from this one on were made since the checkpoint
  absl::btree_map<ObjectId, Object> objects_;
  absl::btree_map<std::string, ObjectId> names_;
  absl::btree_map<std::pair<int, uint64_t>, uint64_t> map_slots_;
  uint64_t quarantined_ = 0;
  std::vector<std::string> actions_;
  uint64_t actions_total_ = 0;
};

}  // namespace untorn::internal

#endif  // UNTORN_SALVAGE_H_
