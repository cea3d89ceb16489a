// The batch selector chooses which pending change sets go with the next commit.
#ifndef UNTORN_WRITEBACK_BATCH_SELECTOR_H_
#define UNTORN_WRITEBACK_BATCH_SELECTOR_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "cow/change_set.h"
#include "cow/cow_fork.h"

namespace untorn {

enum class Take {
  kWanted,  // the sets that somebody waits for
  kOldest,  // the oldest sets
};

// Holds the change sets that somebody waits for and that are still pending.
class WantedSets {
 public:
  void Add(const ChangeSetRef& set) { sets_.push_back(set); }
  // Forgets the sets that are no longer pending, and sorts the others by barrier epoch and sequence. Must be
  // called before sets().
  void Refresh();
  bool empty() const { return sets_.empty(); }
  std::span<const ChangeSetRef> sets() const { return sets_; }

 private:
  std::vector<ChangeSetRef> sets_;
};

// Returns what may go with the next commit, in the order in which the sets have to become durable. kWanted
// takes the wanted sets, and all sets of earlier barrier epochs. kOldest stops at twice `blocks_max` blocks.
ChangeSetRefs Candidates(Take take, const WantedSets& wanted, const CowFork& fork, BlockCount blocks_max);

struct BatchLimits {
  BlockCount data_blocks;
  BlockCount log_blocks;
};
struct Batch {
  ChangeSetRefs sets;
  bool full = false;  // the limits kept a candidate out
};
// Takes candidates, in order, as far as the limits go. The first candidate is taken whatever its size is. A
// candidate that must wait holds back all candidates of later barrier epochs. The function is pure.
Batch SelectBatch(std::span<const ChangeSetRef> candidates, const BatchLimits& limits,
                  absl::FunctionRef<bool(const ChangeSet&)> must_wait);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_BATCH_SELECTOR_H_
