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

// Says whether a record of any log epoch names a newer superblock. Here such records name segments, too.
bool Searcher::NamesNewerSuperblock(const State& s, const Superblock& superblock) const {
  std::vector<uint8_t> named;
  const auto visit = [&](const Record& r) {
    for (int i = 0; i < r.segment_count; ++i) {
      if (std::find(named.begin(), named.end(), r.segments[i]) == named.end()) named.push_back(r.segments[i]);
    }
    return r.generation > superblock.generation;
  };
  visit(records_[superblock.newest_record]);
  for (size_t n = 0; n < named.size(); ++n) {
    for (int i = 0; i < b_.segment_blocks; ++i) {
      const int block = BlockOf(named[n], i);
      const Content held = Read(s, block);
      if (IsRecord(held) && records_[held].block == block && visit(records_[held])) return true;
    }
  }
  return false;
}

Searcher::Recovered Searcher::Recover(const State& s) {
  Recovered out;
  out.superblock = NewestSuperblock(s);
  if (!out.superblock) {
    out.damage = "no superblock is readable";
    return out;
  }
  const Superblock& sb = *out.superblock;
  if (Holds(Rule::kNamesNewerSuperblock) && NamesNewerSuperblock(s, sb)) {
    out.damage = "a record names a newer superblock";
    return out;
  }
  std::memcpy(out.map, sb.map, sizeof out.map);
  if (Read(s, sb.newest_block) != sb.newest_record) {
    out.damage = "the record that the superblock names is not there";
    return out;
  }
  // The superblock claims the record that it names.
  out.claim = sb.newest;
  std::vector<uint8_t> named;
  const auto add = [&](Content number) {
    const Record& r = records_[number];
    if (std::find(out.found.begin(), out.found.end(), &r) != out.found.end()) return false;
    out.found.push_back(&r);
    out.claim = std::max<int>(out.claim, r.claim);
    for (int i = 0; i < r.segment_count; ++i) {
      if (std::find(named.begin(), named.end(), r.segments[i]) == named.end()) named.push_back(r.segments[i]);
    }
    return true;
  };
  add(sb.newest_record);
  // A segment is read from its end, until a record is found that is claimed: references lead to what is before it.
  for (bool more = true; more;) {
    more = false;
    for (size_t n = 0; n < named.size(); ++n) {
      const int segment = named[n];
      for (int i = b_.segment_blocks - 1; i >= 0; --i) {
        const int block = BlockOf(segment, i);
        const Content content = Read(s, block);
        if (!IsRecord(content) || records_[content].block != block) continue;
        const Record& r = records_[content];
        if (Holds(Rule::kEpochOfSuperblock) && r.epoch != sb.epoch) continue;
        // Older ones are of an earlier use of these blocks, or nobody needs them.
        if (Holds(Rule::kNotBeforeSuperblock) && r.lsn < sb.newest) continue;
        more |= add(content);
        if (!Holds(Rule::kScanToTheClaim) || r.lsn <= out.claim) break;
      }
    }
  }
  std::sort(out.found.begin(), out.found.end(), [](const Record* a, const Record* b) {
    return std::pair(a->lsn, a->epoch) > std::pair(b->lsn, b->epoch);
  });

  for (const Record* top : out.found) {
    out.chain.clear();
    bool whole = true;
    for (const Record* r = top; whole;) {
      out.chain.push_back(r);
      if (r->base <= sb.checkpoint) break;
      if (Read(s, r->base_block) == r->base_record) {
        r = &records_[r->base_record];
        continue;
      }
      whole = false;
      if (Holds(Rule::kVouch) && r->base <= out.claim) {
        out.damage = absl::StrCat("record ", int{r->base}, " is claimed and cannot be read");
        return out;
      }
    }
    if (whole) break;
    out.chain.clear();
  }
  if (out.chain.empty()) {
    out.damage = "no record is left";
    return out;
  }
  out.end = out.chain.front()->lsn;
  std::map<int, Entry> entries;  // by LSN: a record has one entry for each commit
  std::set<int> middles;         // of chains
  for (const Record* r : out.chain) {
    for (int i = 0; i < r->entry_count; ++i) entries[r->entries[i].lsn] = r->entries[i];
    if (!r->last_of_chain) middles.insert(r->lsn);
  }
  if (Holds(Rule::kCheckUnsettledData)) {
    bool open[kPages];
    for (int page = 0; page < kPages; ++page) open[page] = sb.map[page].open;
    for (const auto& [lsn, e] : entries) {
      if (lsn <= sb.checkpoint) continue;
      const bool excused = !Holds(Rule::kStrictBeyondClaim) && open[e.page];
      open[e.page] |= e.opens;
      if (!e.opens && lsn > out.claim && lsn <= out.end && !excused &&
          Read(s, e.block) != Data(e.page, e.version)) {
        out.end = lsn - 1;
        break;
      }
    }
  }
  while (Holds(Rule::kEndAtChainEnd) && middles.contains(out.end)) --out.end;
  if (Holds(Rule::kVouch) && out.claim > out.end) {
    out.damage = absl::StrCat("the log ends at ", out.end, ", and ", out.claim, " is claimed");
    return out;
  }
  for (const auto& [lsn, e] : entries) {
    if (lsn <= sb.checkpoint || lsn > out.end) continue;
    if (e.opens) {
      out.map[e.page].open = 1;
    } else {
      out.map[e.page] = {e.block, e.version, static_cast<uint8_t>(lsn), 0};
    }
  }
  return out;
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
  if (r.end < r.chain.front()->lsn) ++result_.dropped_commits;
  const Content in_use = Read(s, SlotInUse());
  if (!IsSuperblock(in_use) || &superblocks_[in_use] != r.superblock)
    std::swap(s.blocks[SlotInUse()], s.blocks[SpareSlot()]);
  if (Holds(Rule::kSlotsAgree) && Read(s, SlotInUse()) != Read(s, SpareSlot())) {
    SendSlot(s, SpareSlot(), *r.superblock, kAgree);
    s.mode = kAgreeSent;
    emit(s, Tell("superblock ", int{r.superblock->generation}, " goes to the other slot"));
    return;
  }
  BeginEpoch(s, r, 0, emit);
  if (!s.bad_places_left) return;
  --s.bad_places_left;
  BeginEpoch(s, r, 1, emit);
}

// The opening record goes to the next segment of the number `first`.
void Searcher::BeginEpoch(State s, const Recovered& r, int first, const Emit& emit) {
  s.superblock = *r.superblock;
  const Superblock& sb = s.superblock;
  s.epoch = Holds(Rule::kEpochOfItsOwn) ? ++s.epochs : static_cast<uint8_t>(sb.epoch + 1);
  std::memcpy(s.map, r.map, sizeof s.map);
  for (int page = 0; page < kPages; ++page) {
    s.newest[page] = s.map[page].version;
    s.known[page] = !s.map[page].open;
  }
  // The lowest record of the chain that holds the end. The opening record repeats what that record holds.
  const Record* holder = r.chain.front();
  for (const Record* record : r.chain) {
    if (record->base <= r.end) {
      holder = record;
      break;
    }
  }
  for (int n = 0; n < kLsnMax; ++n) s.commits[n].block = s.commits[n].page = kNone;
  for (auto it = r.chain.rbegin(); it != r.chain.rend(); ++it) {
    const Record& record = **it;
    for (int i = 0; i < record.entry_count; ++i) {
      const Entry& e = record.entries[i];
      if (e.lsn > r.end) continue;
      s.commits[e.lsn].page = e.page;
      s.commits[e.lsn].data_block = e.block;
      s.commits[e.lsn].version = e.version;
      s.commits[e.lsn].opens = e.opens;
      if (e.opens) s.opened_by[e.page] = e.lsn;
    }
    if (record.base > sb.checkpoint && record.base <= r.end) {
      Commit& base = s.commits[record.base];
      base.block = record.base_block;
      base.record = record.base_record;
      base.base = records_[record.base_record].base;
      base.epoch = records_[record.base_record].epoch;
    }
  }
  const int lsn = r.end + 1;
  for (int n = 1; n < lsn; ++n) {
    s.commits[n].state = kDurable;
    s.commits[n].last_of_chain = 1;
  }
  if (lsn + 1 >= kLsnMax) return;
  s.next = static_cast<uint8_t>(lsn);
  // The opening record goes to the first segment that the top calls a next one. Nothing of the log is there, even if this
  // superblock never counts.
  const Record& top = *r.chain.front();
  std::set<int> not_these;
  const auto take = [&](uint8_t* taken) {
    const auto segment = TakeSegment(s, not_these);
    if (segment) not_these.insert(*taken = static_cast<uint8_t>(*segment));
    return segment.has_value();
  };
  s.lanes[0] = {};
  if (Holds(Rule::kOpeningPlaceUnused)) {
    if (!Holds(Rule::kNameNextSegments)) return;
    s.lanes[0].segment = top.segments[top.segment_count - kNextSegments + first];
    not_these.insert(s.lanes[0].segment);
  } else if (!take(&s.lanes[0].segment)) {
    return;
  }
  for (int i = 1; i <= b_.lanes; ++i) {
    s.lanes[i] = {};
    if (!take(&s.lanes[i].segment)) return;
  }
  for (uint8_t& next : s.next_segments) {
    if (!take(&next)) return;
  }
  const int block = BlockOf(s.lanes[0].segment, 0);
  s.lanes[0].used = 1;
  s.lanes[0].last = static_cast<uint8_t>(lsn);
  s.turn = static_cast<uint8_t>(1 % b_.lanes);
  Commit& c = s.commits[lsn];
  c = {kDurable,
       static_cast<uint8_t>(block),
       holder->base,
       static_cast<uint8_t>(r.end),
       s.epoch,
       1,
       kNone,
       kNone,
       0,
       0,
       {},
       0};
  c.record = MakeRecord(s, lsn, block, holder->base, holder->base_block, holder->base_record);
  s.base = holder->base;
  s.next = static_cast<uint8_t>(lsn + 1);
  s.durable = static_cast<uint8_t>(lsn);
  s.settled = static_cast<uint8_t>(r.end);
  Superblock& next = s.next_superblock;
  next = sb;
  ++next.generation;
  next.epoch = s.epoch;
  next.newest = static_cast<uint8_t>(lsn);
  next.newest_block = static_cast<uint8_t>(block);
  next.newest_record = c.record;
  s.requests[s.request_count++] = {static_cast<uint8_t>(lsn),        kOpening, 0, 1, {c.record, 0},
                                   {static_cast<uint8_t>(block), 0}, {}};
  s.mode = kOpeningSent;
  if (!Holds(Rule::kOpeningRecordFirst)) {
    SendSuperblock(s);
    s.mode = kOpeningSuperblock;
  }
  emit(s, Tell("opens at ", r.end, " (claim ", r.claim, ", X", int{r.map[0].version}, " Y",
               int{r.map[1].version}, "); opening record ", lsn, " of epoch ", int{s.epoch}, " to block ",
               block));
}

}  // namespace untorn::protocol
