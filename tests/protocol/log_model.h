// A small model of the log of format 2 (docs/format-2.md), and a search of all of its states.
//
// The model has a disk of a few blocks, two pages, and an engine that commits versions of the pages. The disk keeps what
// was not flushed in any combination, and tears blocks. The search tries every order of completions, flushes,
// checkpoints, power cuts and kills within the bounds. After each recovery it compares what recovery found with
// what was acknowledged.
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
  kOverwriteTwiceRepeated,   // a record is overwritten only when two newer durable records repeat it
  kOverwriteRepeated,        // a record is overwritten only when one newer durable record repeats it
  kKeepBases,                // a base is not overwritten before a checkpoint covers it
  kKeepWhatSuperblockNames,  // the record that a superblock names is not overwritten
  kSlotsInTurn,              // one slot of the superblock is durable before the other is sent
  kCountsInBothSlots,        // the engine relies on a superblock only when both slots hold it
  kOpenFlushesFirst,         // opening flushes what it has read before it writes anything
  kSlotsAgree,               // opening makes both slots the same before it writes anything else
  kNamesNewerSuperblock,     // a record of any log epoch that names a newer superblock is damage
  kNameDurableRecord,        // a superblock names a record that is durable
  kEpochOfSuperblock,        // a record counts as found only if it is of the superblock's log epoch
  kEpochOfItsOwn,            // every attempt to open has a log epoch of its own
  kOpeningRecordFirst,       // opening makes a record of the new log epoch durable before the superblock
  kOpeningPlaceUnused,       // the opening record overwrites no record of the log
  kVouch,                    // an unreadable base that a found record claims is damage
  kNameNextSegments,         // a record names the next two segments
  kOneMoveForEachBase,       // after the second move of a lane since its base a record has a new base
  kKeepFirstNext,            // the first next segment is never replaced
  kNotBeforeSuperblock,      // a record counts as found only if it is not older than the superblock's
  kScanToTheClaim,           // a segment is read from its end to a record that is claimed
  kCheckUnsettledData,       // the data of a commit beyond the claim is compared
  kDurableIsNoFlush,         // a write that is durable by itself makes no other write durable
  kClaimPrefix,              // a claim covers only what is durable with everything before it
  kClaimChainEnds,           // a claim, a checkpoint and a superblock name only the ends of chains
  kEndAtChainEnd,            // the log ends at the end of a chain
  kReuseSettled,             // an extent is reused only when the commit that mapped it is settled
  kSettledTwice,             // such a commit is settled by two records, or by a superblock
  kReuseDisplaced,           // an extent is reused only when the commit that displaced it is durable
  kDisplacedSettled,         // ... and settled
  kInPlaceSettled,  // a block is overwritten in place only when two claims settle the commit that mapped it
  kInPlaceOpened,   // ... and when a record that is settled has opened the block
  kCloseInMemory,   // what a checkpoint closes needs a new opening from the moment the checkpoint begins
  kCarryWhatIsFlushed,  // a checkpoint carries no checksum of a block with an overwrite in flight
  kCloseWhatIsKnown,    // after a crash a block is closed only when it was read
  kStrictBeyondClaim,   // data beyond the claim is compared, also in a block that was open
  kCount,
};
const char* RuleName(Rule rule);

struct Bounds {
  int lanes = 3;
  int segments = 8;
  int segment_blocks = 3;
  int commits = 5;    // of one page
  int chains = 0;     // commits of both pages in two records
  int in_flight = 1;  // records on their way at a time
  int settling = 0;   // records without data
  int openings = 0;   // ... that open a block
  int in_place = 0;   // overwrites in place
  int checkpoints = 1;
  int power_cuts = 1;
  int kills = 0;
  int rotten_blocks = 0;     // records that rot at a power cut
  int rotten_slots = 0;      // slots of the superblock that rot at a power cut
  int replacing = 0;         // records that replace the second next segment
  int bad_places = 0;        // openings that cannot write the first next segment
  int lost_slot_writes = 0;  // writes of a slot that complete, and change nothing
  int commits_in_record = 3;
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
  uint64_t base_changes = 0;
  uint64_t damage_found = 0;
  uint64_t dropped_commits = 0;
  uint64_t in_place_writes = 0;
  uint64_t adopted_blocks = 0;  // a recovery took the device's word
  uint64_t closed_blocks = 0;
};

SearchResult Search(const Bounds& bounds, const std::set<Rule>& dropped);

}  // namespace untorn::protocol

#endif  // UNTORN_TESTS_PROTOCOL_LOG_MODEL_H_
