#include "tests/canaries/hunt.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/explore/campaign.h"
#include "tests/explore/workloads.h"

namespace untorn {
namespace {

constexpr size_t kImages = 32;
constexpr uint64_t kFaultyOps = 12;
constexpr char kDamaged[] = "does not match its checksum";

std::optional<std::string> HuntOnce(const CanaryCase& canary, uint64_t seed, uint64_t nth_op) {
  uint64_t scenario = 0;
  while (Scenarios()[scenario].name != std::string(canary.situation)) ++scenario;
  Exploration exploration = ScenarioExploration(scenario, seed, kImages);
  exploration.options.lies = canary.lies;
  if (canary.fault) {
    exploration.options.faults = {*canary.fault};
    exploration.options.faults.front().first = nth_op;
  }
  StateSet states;
  active_canary = canary.canary;
  const std::optional<Violation> violation =
      Explorer(exploration.options, &states).Run(*exploration.base, exploration.steps);
  active_canary = Canary::kNone;
  const auto says = [&](const char* text) { return violation->what.find(text) != std::string::npos; };
  if (!violation || std::none_of(canary.found_as.begin(), canary.found_as.end(), says)) return std::nullopt;
  return absl::StrCat(canary.situation, ", seed ", seed, ": ", violation->what, ", at ", violation->where);
}

// The first of the operations from `first` to `last` that is caught, if the disk has its fault in it.
std::optional<std::string> HuntFor(const CanaryCase& canary, uint64_t seeds, uint64_t first, uint64_t last) {
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    for (uint64_t nth = first; nth <= last; ++nth) {
      if (auto caught = HuntOnce(canary, seed, nth)) return caught;
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<CanaryCase> AllCanaries() {
  return {
      {.name = "NoDataHash",
       .situation = "two commits in flight",
       .what = "recovery takes a record's word for its data",
       .found_as = {kDamaged},
       .canary = Canary::kNoDataHash},
      {.name = "ReuseUnsettled",
       .situation = "an extent that is mapped and freed by one record",
       .what = "freed extents are reused before the record that mapped them is settled",
       .found_as = {"has changed, but no op touched it"},
       .canary = Canary::kReuseUnsettled},
      {.name = "ReuseUnderRead",
       .situation = "a read that outlives its blocks",
       .what = "freed extents are reused with a read of them outstanding",
       .found_as = {"returned what the range never held"},
       .canary = Canary::kReuseUnderRead},
      {.name = "ReuseLeased",
       .situation = "another process reads blocks that are displaced",
       .what = "blocks are reused although another process reads the checkpoint that uses them",
       .found_as = {"another process reads"},
       .canary = Canary::kReuseLeased},
      {.name = "OverwriteLeased",
       .situation = "another process reads blocks that go in place",
       .what = "blocks are overwritten in place that another process reads",
       .found_as = {"another process reads"},
       .canary = Canary::kOverwriteLeased},
      {.name = "BelieveAfterLease",
       .situation = "another process reads a state that has to go",
       .what = "a process believes what it has read when its lease has ended",
       .found_as = {"another process reads"},
       .canary = Canary::kBelieveAfterLease},
      {.name = "ReplayFreesBase",
       .situation = "blocks that are written and displaced while a checkpoint is made",
       .what = "replay frees blocks that the checkpoint has taken for nodes",
       .found_as = {"are partly free already", "are partly in use already", "DATA_LOSS: tree node"},
       .canary = Canary::kReplayFreesBase},
      {.name = "ReuseUnderWrite",
       .situation = "a write in place that outlives what came after it",
       .what = "freed extents are reused with a write in place outstanding",
       .found_as = {"has changed, but no op touched it", kDamaged},
       .canary = Canary::kReuseUnderWrite},
      {.name = "OverwriteClosed",
       .situation = "rewritten again and again until in place",
       .what = "blocks are overwritten in place that no record has opened",
       .found_as = {kDamaged},
       .canary = Canary::kOverwriteClosed},
      {.name = "CloseUnderWrite",
       .situation = "checkpoints with a write in place under way",
       .what = "a mapping is closed with an overwrite of it in flight",
       .found_as = {kDamaged},
       .canary = Canary::kCloseUnderWrite},
      {.name = "ExcuseNothing",
       .situation = "a write in place and a record in flight",
       .what = "what was open at a crash must match its checksum",
       .found_as = {kDamaged},
       .canary = Canary::kExcuseNothing},
      {.name = "ClaimPastGap",
       .situation = "a record that is there before the one before it",
       .what = "a record counts as durable although one before it does not",
       .found_as = {"which was reported durable"},
       .canary = Canary::kClaimPastGap},
      {.name = "PathByRange",
       .situation = "a transaction over what could go in place",
       .what = "each range of a transaction goes its own way",
       .found_as = {"must hold op 0 (tx {"},
       .canary = Canary::kPathByRange},
      {.name = "FlushTooEarly",
       .situation = "a write in place and a record in flight",
       .what = "the flush is sent before the writes it is to cover have completed",
       .found_as = {"which was reported durable"},
       .canary = Canary::kFlushTooEarly},
      {.name = "DurableCoversOthers",
       .situation = "a durable write that completes while others are flushed",
       .what = "a write that is durable by itself is taken for a flush",
       .found_as = {"which was reported durable"},
       .canary = Canary::kDurableCoversOthers},
      {.name = "OpenWithoutFlush",
       .situation = "two commits in flight",
       .what = "opening builds on what a dead owner left in the disk's cache",
       .found_as = {"the log is known to be durable up to record"},
       .canary = Canary::kOpenWithoutFlush},
      {.name = "OpenWithoutEpoch",
       .situation = "a dropped transaction whose bytes are written again",
       .what = "opening begins no new epoch of the log",
       .found_as = {"has changed, but no op touched it"},
       .canary = Canary::kOpenWithoutEpoch},
      {.name = "OneLane",
       .situation = "commits in lanes, and a fold beside one that is in flight",
       .what = "a commit in a lane overwrites the lane record of the commit before it",
       .found_as = {"which was reported durable", "is unreadable, but"},
       .canary = Canary::kOneLane},
      {.name = "PrepareWithoutFlush",
       .situation = "a store that grows into another group, and is resized",
       .what = "records name prepared blocks before the length of the file is durable",
       .found_as = {"cut short"},
       .canary = Canary::kPrepareWithoutFlush},
      {.name = "ShortenFirst",
       .situation = "a store that is trimmed, with data and nodes in the way",
       .what = "a file is cut before the superblocks say that the store ends there",
       .found_as = {"cut short"},
       .canary = Canary::kShortenFirst},
      {.name = "MoveUnchecked",
       .situation = "a store that is trimmed, with data and nodes in the way",
       .what = "what a read returns wrong is moved, with a checksum that makes it valid",
       .found_as = {"has changed, but no op touched it"},
       .canary = Canary::kMoveUnchecked,
       .fault = SimulatedFault{.kind = SimulatedFault::kBitFlip, .op = IoOp::kRead}},
      {.name = "SuperblocksTogether",
       .situation = "freed extents come back",
       .what = "both superblock slots are written at once",
       .found_as = {"no usable superblock"},
       .canary = Canary::kSuperblocksTogether},
      {.name = "DiskIgnoresFlush",
       .situation = "two commits in flight",
       .what = "the disk ignores flush",
       .found_as = {"no usable superblock"},
       .lies = {.ignore_flush = true}},
      {.name = "DiskTearsAtomicWrites",
       .situation = "a write in place and a record in flight",
       .what = "the disk tears the atomic writes that it promised to keep whole",
       .found_as = {"which were being written at a power cut"},
       .lies = {.tear_atomic = true}},
      {.name = "DiskLosesWrites",
       .situation = "checkpoints between records",
       .what = "the disk acknowledges a write and never does it",
       .found_as = {"which was reported durable", "DATA_LOSS: tree node", "fsck of what the cut left",
                    "has changed, but no op touched it"},
       .fault = SimulatedFault{.kind = SimulatedFault::kLostWrite}},
      {.name = "DiskMisdirectsWrites",
       .situation = "checkpoints between records",
       .what = "the disk writes to another place",
       .found_as = {"which was reported durable", "DATA_LOSS: tree node", "fsck of what the cut left",
                    "has changed, but no op touched it"},
       .fault = SimulatedFault{.kind = SimulatedFault::kMisdirectedWrite}},
  };
}

std::optional<std::string> Hunt(const CanaryCase& canary, uint64_t seeds) {
  if (!canary.fault) return HuntFor(canary, seeds, 1, 1);
  if (canary.canary != Canary::kNone) return HuntFor(canary, seeds, 1, kFaultyOps);
  std::optional<std::string> first;
  for (uint64_t nth = 1; nth <= kFaultyOps; ++nth) {
    std::optional<std::string> caught = HuntFor(canary, seeds, nth, nth);
    if (!caught) return std::nullopt;
    if (!first) first = absl::StrCat("each of the first ", kFaultyOps, "; ", *caught);
  }
  return first;
}

}  // namespace untorn
