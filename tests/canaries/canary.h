// Stores that are deliberately broken, each by leaving out one rule that recovery relies on. The rules are predicates.
// extent_rules.cc and commit_rules.cc have them with a switch in each, and are linked in their place. The switches exist
// in the tests only.
#ifndef UNTORN_TESTS_CANARIES_CANARY_H_
#define UNTORN_TESTS_CANARIES_CANARY_H_

#include <atomic>

namespace untorn {

enum class Canary : int {
  kNone,
  kNoDataHash,           // recovery takes a record's word for its data
  kReuseUnsettled,       // freed extents are reused before their records are settled
  kReuseUnderRead,       // ... with a read of them outstanding
  kReuseLeased,          // ... although another process reads the checkpoint that uses them
  kOverwriteLeased,      // blocks are overwritten in place that another process reads
  kBelieveAfterLease,    // a process believes what it has read when its lease has ended
  kReplayFreesBase,      // replay frees blocks that the checkpoint uses
  kReuseUnderWrite,      // ... with a write in place outstanding
  kOverwriteClosed,      // an extent is overwritten in place that no record has opened
  kCloseUnderWrite,      // a mapping is closed with an overwrite of it in flight
  kExcuseNothing,        // what was open at a crash must match its checksum
  kClaimPastGap,         // a record counts as durable although one before it does not
  kPathByRange,          // each range of a transaction goes its own way
  kFlushTooEarly,        // the flush is sent before the writes it is to cover have completed
  kDurableCoversOthers,  // a write that is durable by itself is taken for a flush
  kOpenWithoutFlush,     // what a dead owner left in the disk's cache is built on
  kOpenWithoutEpoch,     // a dropped record of the log may chain on again
  kOneLane,              // a commit in a lane overwrites the lane record of the commit before it
  kPrepareWithoutFlush,  // records name prepared blocks before the file's length is durable
  kMoveUnchecked,        // what is moved gets a checksum of its own, whether it matches its old one or not
  kShortenFirst,         // a file is cut before the superblocks say that the store ends there
  kSuperblocksTogether,  // both slots are written at once
  kCanaries,
};

// The one that is active in this process.
extern std::atomic<Canary> active_canary;
inline bool Broken(Canary canary) { return active_canary.load(std::memory_order_relaxed) == canary; }

}  // namespace untorn

#endif  // UNTORN_TESTS_CANARIES_CANARY_H_
