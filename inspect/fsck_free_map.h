// The part of fsck that compares the free-space map with the blocks in use.
#ifndef UNTORN_INSPECT_FSCK_FREE_MAP_H_
#define UNTORN_INSPECT_FSCK_FREE_MAP_H_

#include <cstdint>

#include "inspect/block_set.h"
#include "inspect/findings.h"
#include "inspect/progress.h"
#include "inspect/walk_free_map.h"

namespace untorn::internal {

// Compares the map bit by bit with `base`, the blocks that the checkpoint has in use. `leaks` says whether
// all of these blocks are known; only then can a block be called leaked.
class FreeMapCheck : public FreeMapVisitor {
 public:
  FreeMapCheck(const Superblock& superblock, const BlockSet& base, bool leaks, FsckResult& result,
               Progress& progress)
      : sb_(superblock),
        base_(base),
        leaks_(leaks),
        findings_(result),
        progress_(progress),
        marked_free_(
            findings_, FindingCode::kUsedMarkedFree,
            ": in use by the checkpoint, but free in the free-space map: a new write could overwrite "
            "them"),
        leaked_(findings_, FindingCode::kLeak, ": in use in the free-space map, but nothing uses them") {}

  void Table(const FreeMapNode&, BlockCount) override { progress_.Add(1); }
  void Bitmap(const FreeMapNode& node, const BlockSet::Words& bits, BlockCount used) override;
  void Null(const FreeMapNode& node) override;
  void Damaged(const FreeMapNode& node, const absl::Status& why) override;
  void WrongCount(const FreeMapNode& node, BlockCount said, BlockCount used) override;

  // Is called after the walk.
  void Finish();

 private:
  void Compare(uint64_t group, const BlockSet::Words& on_disk);

  const Superblock& sb_;
  const BlockSet& base_;
  const bool leaks_;
  Findings findings_;
  Progress& progress_;
  RunFindings marked_free_, leaked_;
  BlockCount used_;
  bool damaged_ = false;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_FSCK_FREE_MAP_H_
