// How the model recovers, what recovery must find, and how a store is opened for writing.
#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "tests/protocol/log_searcher.h"

namespace untorn::protocol {

// Returns nullptr if no slot is readable.
const Superblock* Searcher::NewestSuperblock(const State& s) const {
  const Superblock* newest = nullptr;
  for (const int slot : {SlotInUse(), SpareSlot()}) {
    if (!IsSuperblock(Read(s, slot))) continue;
    const Superblock& superblock = superblocks_[Read(s, slot)];
    if (!newest || superblock.generation > newest->generation) newest = &superblock;
  }
  return newest;
}

// Returns the record of the ring at this position, or nullptr. A record of another round of the ring is none.
const Record* Searcher::RingRecord(const State& s, int position) const {
  const Content held = Read(s, RingBlock(position));
  if (!IsRecord(held)) return nullptr;
  const Record& r = records_[held];
  return r.in_ring && r.place == position ? &r : nullptr;
}

// Follows the ring from the checkpoint on.
void Searcher::Walk(const State& s, Recovered& r) const {
  const Superblock& sb = *r.superblock;
  Content previous = sb.previous;
  r.end = sb.checkpoint;
  r.position = sb.position;
  r.names = sb.names;
  r.claim = sb.durable;
  for (; r.position < sb.position + b_.ring_blocks; ++r.position) {
    const Record* record = RingRecord(s, r.position);
    if (!record || record->previous != previous || record->first > r.end + 1) break;
    if (!Holds(Rule::kFollowFolded) && record->lsn <= r.end) break;
    if (Holds(Rule::kEpochOfSuperblock) && record->lsn > sb.durable && record->epoch != sb.epoch) break;
    if (!Holds(Rule::kOldEpochsCount) && record->epoch != sb.epoch) break;
    r.ring.push_back(record);
    r.claim = std::max<int>(r.claim, record->claim);
    r.end = std::max<int>(r.end, record->lsn);
    r.names = record->names;
    previous = Read(s, RingBlock(r.position));
  }
}

// Looks at every block of the ring behind the end.
void Searcher::LookBehind(const State& s, Recovered& r) const {
  const Superblock& sb = *r.superblock;
  for (int position = r.position; position < sb.position + b_.ring_blocks; ++position) {
    const Record* record = RingRecord(s, position);
    if (!record || record->epoch != sb.epoch || record->lsn <= r.end) continue;
    r.behind.push_back(record);
    if (Holds(Rule::kNamesBehindEnd)) r.names |= record->names;
  }
}

void Searcher::LookAtLanes(const State& s, Recovered& r) const {
  for (int block = 0; block < BlockCount(); ++block) {
    const Content held = Read(s, block);
    if (!(r.names >> block / b_.extent_blocks & 1) || !IsRecord(held)) continue;
    const Record& record = records_[held];
    if (record.in_ring || record.place != block) continue;
    r.newest_epoch = std::max(r.newest_epoch, record.epoch);
    r.newest_generation = std::max(r.newest_generation, record.generation);
    if (Holds(Rule::kLaneRecordEpoch) && record.epoch != r.superblock->epoch) continue;
    if (Holds(Rule::kLaneRecordsClaim)) r.claim = std::max<int>(r.claim, record.claim);
    if (!r.top || std::pair(record.lsn, record.epoch) > std::pair(r.top->lsn, r.top->epoch)) r.top = &record;
  }
}

// Says whether any record in the ring or in a lane names a newer superblock or log epoch.
bool Searcher::NamesNewerSuperblock(const State& s, const Recovered& r) const {
  bool newer = r.newest_epoch > r.superblock->epoch || r.newest_generation > r.superblock->generation;
  for (int block = BlockCount(); block < SlotInUse(); ++block) {
    if (!IsRecord(Read(s, block))) continue;
    const Record& record = records_[Read(s, block)];
    newer |= record.epoch > r.superblock->epoch || record.generation > r.superblock->generation;
  }
  return newer && Holds(Rule::kNamesNewerSuperblock);
}

// The newest lane record goes on behind the ring. If something between is missing, the record claims it.
void Searcher::TakeTop(Recovered& r) const {
  if (r.top && r.top->lsn > r.end && r.top->first <= r.end + 1) {
    r.end = r.top->lsn;
  } else {
    r.top = nullptr;
  }
}

// What is claimed and missing is damage. What is claimed and there needs no comparison.
void Searcher::Vouch(Recovered& r) const {
  for (const Record* record : r.behind) r.claim = std::max<int>(r.claim, record->claim);
  if (r.claim <= r.end || !Holds(Rule::kVouch)) return;
  r.damage = absl::StrCat("the log ends at ", r.end, ", and ", r.claim, " is claimed");
}

// The first commit whose data is not there ends the log.
void Searcher::CompareData(const State& s, Recovered& r) const {
  std::vector<const Record*> records = r.ring;
  if (r.top) records.push_back(r.top);
  std::map<int, int> first;  // of the first record that holds the LSN
  for (const Record* record : records) {
    for (int i = 0; i < record->entry_count; ++i) {
      const Entry& e = record->entries[i];
      if (e.lsn <= r.superblock->checkpoint) continue;
      r.entries.insert({e.lsn, e});
      first.insert({e.lsn, record->first});
    }
  }
  bool open[kPages];
  for (int page = 0; page < kPages; ++page) open[page] = r.superblock->map[page].open;
  for (const auto& [lsn, e] : r.entries) {
    const bool excused = !Holds(Rule::kStrictBeyondClaim) && open[e.page];
    open[e.page] |= e.opens;
    if (e.opens || lsn <= r.claim || excused || Read(s, e.block) == Data(e.page, e.version)) continue;
    if (!Holds(Rule::kCheckUnsettledData)) break;
    r.end = (Holds(Rule::kEndInsideRecord) ? lsn : first[lsn]) - 1;
    break;
  }
  while (Holds(Rule::kEndAtChainEnd)) {
    const auto middle = std::find_if(r.ring.begin(), r.ring.end(), [&](const Record* record) {
      return record->lsn == r.end && !record->last_of_chain;
    });
    if (middle == r.ring.end()) break;
    --r.end;
  }
}

Searcher::Recovered Searcher::Recover(const State& s) const {
  Recovered r;
  r.superblock = NewestSuperblock(s);
  if (!r.superblock) {
    r.damage = "no superblock is readable";
    return r;
  }
  std::memcpy(r.map, r.superblock->map, sizeof r.map);
  Walk(s, r);
  LookBehind(s, r);
  LookAtLanes(s, r);
  if (NamesNewerSuperblock(s, r)) {
    r.damage = "a record names a newer superblock";
    return r;
  }
  if (!Holds(Rule::kLanesBeforeVouchers)) Vouch(r);
  TakeTop(r);
  Vouch(r);
  if (!r.damage.empty()) return r;
  CompareData(s, r);
  for (const auto& [lsn, e] : r.entries) {
    if (lsn > r.end) continue;
    if (e.opens) {
      r.map[e.page].open = 1;
    } else {
      r.map[e.page] = {e.block, e.version, static_cast<uint8_t>(lsn), 0};
    }
  }
  return r;
}

void Searcher::Judge(const State& s, const Recovered& r) {
  const bool lost = s.lost_left < b_.lost_slot_writes;
  // A write that the device has lost can be told from the first durable record on that names the superblock.
  if (lost && r.superblock && r.superblock->generation >= s.named) return;
  const bool slot_matters = s.slot_rot_left < b_.rotten_slots && !r.superblock;
  const bool rotten = s.rot_left < b_.rotten_blocks || lost || slot_matters;
  if (!r.damage.empty()) {
    ++result_.damage_found;
    if (!rotten) violation_ = absl::StrCat("false alarm: ", r.damage);
    return;
  }
  if ((r.map[0].version >= s.chain[0]) != (r.map[1].version >= s.chain[1])) {
    violation_ =
        absl::StrCat("half of a chain is there: X", int{r.map[0].version}, " and Y", int{r.map[1].version});
    return;
  }
  for (int page = 0; page < kPages; ++page) {
    const Mapping& m = r.map[page];
    const std::string name = page ? "Y" : "X";
    const int version = VersionFound(s, page, m);
    result_.adopted_blocks += version != m.version;
    if (m.block != kNone && Read(s, m.block) != Data(page, version)) {
      // Every read compares checksums, so the damage is told.
      if (lost && !m.open) {
        ++result_.damage_found;
        return;
      }
      violation_ = absl::StrCat(name, int{m.version}, " is mapped to block ", int{m.block}, ", which holds ",
                                Name(Read(s, m.block)));
      return;
    }
    // Damage to the last unsettled records cannot be told from a power cut (promise 9).
    const int least = rotten ? s.settled_version[page] : s.acknowledged[page];
    if (version < least) {
      violation_ = absl::StrCat(name, least, " was acknowledged, and recovery finds ", name, version);
      return;
    }
    if (s.dropped[page] >> version & 1) {
      violation_ = absl::StrCat(name, version, " had been dropped, and is back");
      return;
    }
  }
}

void Searcher::Open(const State& s0, const Emit& emit) {
  State s = s0;
  const Recovered r = Recover(s);
  Judge(s, r);
  if (!violation_.empty() || !r.damage.empty()) {
    s.mode = kDamaged;
    emit(s, Tell("recovery: ", r.damage));
    return;
  }
  // What recovery has seen may be in the disk's cache only.
  bool cached = false;
  for (int block = 0; block < DiskBlocks(); ++block) cached |= s.blocks[block].copies > 1;
  if (Holds(Rule::kOpenFlushesFirst) && cached && s.mode == kDown) {
    s.mode = kRecovered;
    emit(s, Tell("recovery finds ", r.end));
    return;
  }
  result_.dropped_commits += r.entries.upper_bound(r.end) != r.entries.end();
  const Content in_use = Read(s, SlotInUse());
  if (!IsSuperblock(in_use) || &superblocks_[in_use] != r.superblock)
    std::swap(s.blocks[SlotInUse()], s.blocks[SpareSlot()]);
  if (Holds(Rule::kSlotsAgree) && Read(s, SlotInUse()) != Read(s, SpareSlot())) {
    SendSlot(s, SpareSlot(), *r.superblock, kAgree);
    s.mode = kAgreeSent;
    emit(s, Tell("superblock ", int{r.superblock->generation}, " goes to the other slot"));
    return;
  }
  BeginEpoch(s, r, emit);
}

// The engine's memory, as the log says. All that was found is durable.
void Searcher::Rebuild(State& s, const Recovered& r) {
  s.superblock = *r.superblock;
  s.epoch = s.superblock.epoch;
  std::memcpy(s.map, r.map, sizeof s.map);
  for (int page = 0; page < kPages; ++page) {
    s.newest[page] = s.map[page].version;
    s.known[page] = !s.map[page].open;
  }
  for (Lane& lane : s.lanes) lane = {kNone, 0, 0, kNone};
  for (Commit& c : s.commits) c.block = c.page = kNone;
  for (int n = 1; n <= r.end; ++n) s.commits[n].state = kDurable, s.commits[n].last_of_chain = 1;
  for (const auto& [lsn, e] : r.entries) {
    if (lsn > r.end) continue;
    Commit& c = s.commits[lsn];
    c.page = e.page;
    c.data_block = e.block;
    c.version = e.version;
    c.opens = e.opens;
    if (e.opens) s.opened_by[e.page] = e.lsn;
  }
  s.position = s.superblock.position;
  s.previous = s.superblock.previous;
  for (const Record* record : r.ring) {
    if (record->lsn > r.end) break;
    s.previous = s.commits[record->lsn].record = records_.Number(*record);
    s.commits[record->lsn].position = ++s.position;
    s.in_ring = record->lsn;
  }
  s.durable = s.settled = s.settled_twice = static_cast<uint8_t>(r.end);
  s.next = static_cast<uint8_t>(r.end + 1);
}

// A fold makes up for what the ring does not hold. Then a superblock begins the new log epoch.
void Searcher::BeginEpoch(State s, const Recovered& r, const Emit& emit) {
  Rebuild(s, r);
  Superblock& next = s.next_superblock;
  next = s.superblock;
  ++next.generation;
  if (Holds(Rule::kNextEpoch)) ++next.epoch;
  next.durable = static_cast<uint8_t>(r.end);
  next.names = 0;
  const bool folds = FirstUnfolded(s) <= r.end && Holds(Rule::kOpeningFolds);
  if (folds) {
    if (s.position >= s.superblock.position + b_.ring_blocks) {
      violation_ = "the ring has no room for the fold of an opening";
      emit(s, "");
      return;
    }
    Request fold = {};
    fold.purpose = kOpeningFold;
    fold.durable_by_itself = 1;
    Append(s, MakeRingRecord(s, FirstUnfolded(s), r.end, r.end), fold);
    s.commits[r.end].record = s.previous;
    s.commits[r.end].position = s.position;
    s.requests[s.request_count++] = fold;
    s.mode = kFoldSent;
    ++result_.opening_folds;
  }
  if (!folds || !Holds(Rule::kFoldBeforeSuperblock)) {
    SendSuperblock(s);
    s.mode = kOpeningSuperblock;
  }
  emit(s, Tell("opens at ", r.end, " (claim ", r.claim, ", X", int{r.map[0].version}, " Y",
               int{r.map[1].version}, ")", folds ? ", with a fold" : ""));
}

}  // namespace untorn::protocol
