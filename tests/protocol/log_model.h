// A small model of the log of format 2 (docs/format-2.md), and a search of all of its states.
//
// The model has a disk of a few blocks, two pages, and an engine that commits versions of the pages. Records go to the
// ring of the log, or to lanes at its end. The disk keeps what was not flushed in any combination, and tears blocks. The
// search tries every order of completions, flushes, checkpoints, power cuts and kills within the bounds. After each
// recovery it compares what recovery found with what was acknowledged.
//
// Every rule of the protocol can be dropped. A dropped rule has to lead to a violation: otherwise the rule is not
// needed, or the model does not see why it is.
#ifndef UNTORN_TESTS_PROTOCOL_LOG_MODEL_H_
#define UNTORN_TESTS_PROTOCOL_LOG_MODEL_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace untorn::protocol {

enum class Rule {
  // Lanes.
  kAlone,                   // a commit goes to a lane only if no other commit is in flight
  kOverwriteTwiceRepeated,  // a lane record is overwritten only when two newer commits are durable
  kOverwriteRepeated,       // a lane record is overwritten only when one newer commit is durable
  kKeepRetired,             // the last record of an extent is kept until two newer commits are durable
  kRepeatAll,               // a lane record repeats all that neither the ring nor the checkpoint holds
  kExtentNamed,             // a lane uses an extent only if the last write of the ring names it
  kExtentNamedTwice,        // ... and the one before names it, too
  kNameExtents,             // a superblock names the extents that the last record of the ring names
  // The ring.
  kFoldFirst,     // a fold comes before a record of the ring if there are unfolded commits
  kFoldNames,     // a fold names extents, too
  kKeepRing,      // no record behind the checkpoint that counts is overwritten
  kRoomForFold,   // one block of the ring is left for the fold of an opening
  kFollowFolded,  // a record follows also if recovery has all of it
  // Opening.
  kOpenFlushesFirst,      // opening flushes what it has read before it writes anything
  kSlotsAgree,            // opening makes both slots the same before it writes anything else
  kOpeningFolds,          // opening makes a fold of what the ring does not hold
  kFoldBeforeSuperblock,  // the fold is durable before the superblock of the new log epoch
  kNextEpoch,             // opening begins a new log epoch
  // Recovery.
  kEpochOfSuperblock,     // beyond the superblock's durable LSN a record of another log epoch ends the log
  kOldEpochsCount,        // ... and up to it such a record counts
  kLaneRecordEpoch,       // a lane record counts only if it is of the superblock's log epoch
  kNamesBehindEnd,        // records behind the end of the log name extents, too
  kLanesBeforeVouchers,   // recovery looks at the lanes before it looks for vouchers
  kVouch,                 // what is missing is damage if something that was found claims it
  kLaneRecordsClaim,      // a lane record claims all before its own
  kNamesNewerSuperblock,  // a record that names a newer superblock or log epoch is damage
  kCheckUnsettledData,    // the data of a commit beyond the claim is compared
  kStrictBeyondClaim,     // ... also in a block that was open
  kEndInsideRecord,       // the log may end inside a record that repeats
  kEndAtChainEnd,         // the log ends at the end of a chain
  // Superblocks.
  kSlotsInTurn,        // one slot of the superblock is durable before the other is sent
  kCountsInBothSlots,  // the engine relies on a superblock only when both slots hold it
  kNameDurableRecord,  // a superblock claims only what is durable
  // Claims, reuse, and writes in place.
  kDurableIsNoFlush,   // a write that is durable by itself makes no other write durable
  kClaimPrefix,        // a claim covers only what is durable with everything before it
  kClaimChainEnds,     // a claim, a checkpoint and a superblock name only the ends of chains
  kReuseSettledTwice,  // a block is reused only when two claims settle the commit that mapped it
  kReuseDisplaced,     // ... and when the commit that displaced it is durable
  kDisplacedSettled,   // ... and settled
  kInPlaceSettled,  // a block is overwritten in place only when two claims settle the commit that mapped it
  kInPlaceOpened,   // ... and when a record that is settled has opened the block
  kCloseInMemory,   // what a checkpoint closes needs a new opening from the moment the checkpoint begins
  kCarryWhatIsFlushed,  // a checkpoint carries no checksum of a block with an overwrite in flight
  kCloseWhatIsKnown,    // after a crash a block is closed only when it was read
  kCount,
};
const char* RuleName(Rule rule);

struct Bounds {
  int lanes = 3;
  int extents = 8;
  int extent_blocks = 3;
  int ring_blocks = 6;
  int commits = 5;      // of one page
  int large = 0;        // ... that go to the ring though they are alone
  int chains = 0;       // commits of both pages in two records
  int in_flight = 1;    // records on their way at a time
  int settling = 0;     // records without data
  int openings = 0;     // ... that open a block
  int in_place = 0;     // overwrites in place
  int giving_back = 0;  // times that all lanes are given back
  int checkpoints = 1;
  int power_cuts = 1;
  int kills = 0;
  int rotten_blocks = 0;       // records that rot at a power cut
  int rotten_slots = 0;        // slots of the superblock that rot at a power cut
  int lost_slot_writes = 0;    // writes of a slot that complete, and change nothing
  int commits_in_record = 4;   // that a lane record can hold
  bool retries = false;        // after a crash the same versions are written again
  bool named_at_first = true;  // the first superblock names extents
  uint64_t states_max = 20'000'000;
};

struct SearchResult {
  uint64_t states = 0;
  bool exhausted = false;
  std::string violation;           // empty if there is none
  std::vector<std::string> trace;  // the steps that lead to the violation
  // How often it happened on the way, so that a test can tell that the search reached what it is about.
  uint64_t overwritten_records = 0;
  uint64_t lane_moves = 0;
  uint64_t folds = 0;
  uint64_t opening_folds = 0;
  uint64_t damage_found = 0;
  uint64_t dropped_commits = 0;
  uint64_t in_place_writes = 0;
  uint64_t adopted_blocks = 0;  // a recovery took the device's word
  uint64_t closed_blocks = 0;
};

SearchResult Search(const Bounds& bounds, const std::set<Rule>& dropped);

}  // namespace untorn::protocol

#endif  // UNTORN_TESTS_PROTOCOL_LOG_MODEL_H_
