// Selecting: which pending change sets go with the next commit.
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
  kWanted,  // what somebody waits for
  kOldest,  // what is old
};

// The change sets that somebody waits for and that are still pending.
class WantedSets {
 public:
  void Add(const ChangeSetRef& set) { sets_.push_back(set); }
  // Forgets those that are no longer pending; sorts the others by barrier epoch and sequence.
  void Refresh();
  bool empty() const { return sets_.empty(); }
  // After Refresh().
  std::span<const ChangeSetRef> sets() const { return sets_; }

 private:
  std::vector<ChangeSetRef> sets_;
};

// What may go with the next commit, in the order in which it has to become durable. With what is wanted comes all that
// earlier barriers put before it. Of what is old, not much more than `blocks_max`.
ChangeSetRefs Candidates(Take take, const WantedSets& wanted, const CowFork& fork, BlockCount blocks_max);

struct BatchLimits {
  BlockCount data_blocks;
  BlockCount log_blocks;
};
struct Batch {
  ChangeSetRefs sets;
  bool full = false;  // there was more, which the limits kept out
};
// Takes candidates, in order, as far as the limits go; the first one whatever its size. One that must wait holds back all
// of later barrier epochs. A pure function of its arguments.
Batch SelectBatch(std::span<const ChangeSetRef> candidates, const BatchLimits& limits,
                  absl::FunctionRef<bool(const ChangeSet&)> must_wait);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_BATCH_SELECTOR_H_
