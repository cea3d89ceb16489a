// What the engine of the model does: it makes records, sends and completes them, and makes checkpoints.
#include <algorithm>
#include <cstring>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "tests/protocol/log_searcher.h"

namespace untorn::protocol {

bool Searcher::MayOverwrite(const State& s, int lsn) const {
  const Commit& old = s.commits[lsn];
  if (old.state != kDurable) return false;
  if (Holds(Rule::kKeepWhatSuperblockNames)) {
    if (s.superblock.newest == lsn || (s.stage >= kFirstSlot && s.next_superblock.newest == lsn))
      return false;
  }
  int repeated = 0;
  for (int newer = lsn + 1; newer < s.next; ++newer) {
    const Commit& c = s.commits[newer];
    if (c.state != kDurable || c.epoch != s.epoch) continue;
    if (!Holds(Rule::kKeepBases) || c.base <= old.base) ++repeated;
  }
  if (!Holds(Rule::kOverwriteRepeated)) return true;
  return repeated >= (Holds(Rule::kOverwriteTwiceRepeated) ? 2 : 1);
}

bool Searcher::InUse(const State& s, int block) const {
  for (int page = 0; page < kPages; ++page) {
    if (s.map[page].block == block || s.superblock.map[page].block == block) return true;
    if (s.stage != kNoNext && s.next_superblock.map[page].block == block) return true;
  }
  for (int i = 0; i < s.displaced_count; ++i) {
    const Displaced& d = s.displaced[i];
    if (d.block != block) continue;
    const int settled = Holds(Rule::kSettledTwice) ? s.settled_twice : s.settled;
    if (Holds(Rule::kReuseSettled) && d.mapped > settled) return true;
    const int displaced = Holds(Rule::kDisplacedSettled) ? s.settled : s.durable;
    if (Holds(Rule::kReuseDisplaced) && d.displaced > displaced) return true;
  }
  for (int lsn = 1; lsn < s.next; ++lsn) {
    if (s.commits[lsn].block == block) return true;
  }
  for (int i = 0; i < s.request_count; ++i) {
    for (int j = 0; j < s.requests[i].blocks; ++j) {
      if (s.requests[i].block[j] == block) return true;
    }
  }
  return false;
}

bool Searcher::NamedSegment(const State& s, int segment) const {
  for (int i = 0; i <= b_.lanes; ++i) {
    if (s.lanes[i].segment == segment) return true;
  }
  return s.next_segments[0] == segment || s.next_segments[1] == segment;
}

// Returns the first segment of which no block is in use.
std::optional<int> Searcher::TakeSegment(const State& s, const std::set<int>& not_these) const {
  for (int segment = 0; segment < b_.segments; ++segment) {
    bool free = !not_these.contains(segment);
    for (int i = 0; i < b_.segment_blocks && free; ++i) free = !InUse(s, BlockOf(segment, i));
    if (free) return segment;
  }
  return std::nullopt;
}

// Returns a block for data that does not go to a lane.
std::optional<int> Searcher::DataBlock(const State& s) const {
  for (int block = 0; block < BlockCount(); ++block) {
    if (!NamedSegment(s, block / b_.segment_blocks) && !InUse(s, block)) return block;
  }
  return std::nullopt;
}

Content Searcher::MakeRecord(const State& s, int lsn, int block, int base, int base_block,
                             Content base_record) {
  Record r;
  std::memset(&r, 0, sizeof r);
  r.epoch = s.epoch;
  r.generation = s.superblock.generation;
  r.lsn = static_cast<uint8_t>(lsn);
  r.block = static_cast<uint8_t>(block);
  r.claim = s.commits[lsn].claim;
  r.base = static_cast<uint8_t>(base);
  r.base_block = static_cast<uint8_t>(base_block);
  r.base_record = base_record;
  r.last_of_chain = s.commits[lsn].last_of_chain;
  for (int i = 0; i <= b_.lanes; ++i) r.segments[r.segment_count++] = s.lanes[i].segment;
  if (Holds(Rule::kNameNextSegments)) {
    for (const uint8_t next : s.next_segments) r.segments[r.segment_count++] = next;
  }
  for (int n = base + 1; n <= lsn; ++n) {
    const Commit& c = s.commits[n];
    if (c.page == kNone) continue;
    UNTORN_CHECK(r.entry_count < kEntriesMax, "a record has too many entries");
    r.entries[r.entry_count++] = {static_cast<uint8_t>(n), c.page, c.data_block, c.version, c.opens};
  }
  return records_.Number(r);
}

void Searcher::Advance(State& s) const {
  while (s.durable + 1 < s.next && s.commits[s.durable + 1].state == kDurable) {
    const Commit& c = s.commits[++s.durable];
    s.named = std::max(s.named, records_[c.record].generation);
    // Claims never become less, so the record before claims no more than this one.
    s.settled_twice = std::max(s.settled_twice, s.settled);
    s.settled = std::max(s.settled, c.claim);
    if (!c.last_of_chain) continue;
    for (int n = s.durable; n > 0 && (n == s.durable || !s.commits[n].last_of_chain); --n) {
      const Commit& part = s.commits[n];
      if (part.page != kNone && !part.opens)
        s.acknowledged[part.page] = std::max(s.acknowledged[part.page], part.version);
    }
  }
  for (int n = 1; n <= s.settled; ++n) {
    const Commit& c = s.commits[n];
    if (c.page != kNone && !c.opens)
      s.settled_version[c.page] = std::max(s.settled_version[c.page], c.version);
  }
}

int Searcher::Claim(const State& s) const {
  int claim = s.durable;
  if (!Holds(Rule::kClaimPrefix)) {
    for (int n = 1; n < s.next; ++n) {
      if (s.commits[n].state == kDurable) claim = std::max(claim, n);
    }
  }
  while (Holds(Rule::kClaimChainEnds) && claim > 0 && !s.commits[claim].last_of_chain) --claim;
  return claim;
}

std::optional<int> Searcher::TakeUnnamed(const State& s) const {
  std::set<int> named;
  for (int segment = 0; segment < b_.segments; ++segment) {
    if (NamedSegment(s, segment)) named.insert(segment);
  }
  return TakeSegment(s, named);
}

// The next record names another segment as the second next one. The replaced segment is given back at once. All segments
// of the model are equally long. The design asks for more: a replacement counts as a move, and a block is kept.
bool Searcher::ReplaceNext(State& s) const {
  const auto taken = TakeUnnamed(s);
  if (!taken) return false;
  s.next_segments[Holds(Rule::kKeepFirstNext) ? 1 : 0] = static_cast<uint8_t>(*taken);
  --s.replacing_left;
  return true;
}

// The lane goes on in the next segment, and one more segment is taken. Returns false if there is none.
bool Searcher::MoveLane(State& s, Lane& lane) {
  const auto taken = TakeUnnamed(s);
  if (!taken) return false;
  lane = {s.next_segments[0], 0, 0};
  s.next_segments[0] = s.next_segments[1];
  s.next_segments[1] = static_cast<uint8_t>(*taken);
  ++result_.lane_moves;
  return true;
}

bool Searcher::Map(State& s, int lsn, int page, int block) const {
  Commit& c = s.commits[lsn];
  const uint8_t version = ++s.submitted[page];
  c.page = static_cast<uint8_t>(page);
  c.data_block = static_cast<uint8_t>(block);
  c.version = version;
  if (s.map[page].block != kNone) {
    if (s.displaced_count >= kDisplacedMax) return false;
    s.displaced[s.displaced_count++] = {s.map[page].block, s.map[page].lsn, static_cast<uint8_t>(lsn)};
  }
  // The block may have been another's before.
  for (int i = 0; i < s.displaced_count; ++i) {
    if (s.displaced[i].block == block) s.displaced[i--] = s.displaced[--s.displaced_count];
  }
  s.map[page] = {static_cast<uint8_t>(block), version, static_cast<uint8_t>(lsn), 0};
  s.opened_by[page] = 0;
  s.newest[page] = version;
  s.known[page] = 1;
  return true;
}

void Searcher::StartRecord(State& s, int block, int base, bool last_of_chain) {
  const uint8_t claim = static_cast<uint8_t>(Claim(s));
  s.commits[s.next] = {kSent,
                       static_cast<uint8_t>(block),
                       static_cast<uint8_t>(base),
                       claim,
                       s.epoch,
                       last_of_chain,
                       kNone,
                       kNone,
                       0,
                       0,
                       {},
                       0};
}

// Makes the record, which is the next one, and sends it together with its data.
bool Searcher::FinishRecord(State& s, bool durable_by_itself) {
  Commit& c = s.commits[s.next];
  const Commit& base = s.commits[c.base];
  // A base whose block is gone cannot be named.
  if (c.base > s.superblock.checkpoint && base.block == kNone) return false;
  if (s.request_count >= kRequestsMax || s.next + 1 >= kLsnMax) return false;
  c.record = MakeRecord(s, s.next, c.block, c.base, base.block, base.record);
  Request& request = s.requests[s.request_count++];
  request = {s.next, kCommit, durable_by_itself, 0, {}, {}, {}};
  if (c.page != kNone && !c.opens) {
    request.block[request.blocks] = c.data_block;
    request.content[request.blocks++] = Data(c.page, c.version);
  }
  request.block[request.blocks] = c.block;
  request.content[request.blocks++] = c.record;
  s.base = c.base;
  ++s.next;
  return true;
}

// A commit that is alone: its record lies behind its data, and repeats what the records before it say.
void Searcher::SendAlone(const State& s0, int page, const Emit& emit, int open_page, bool replace) {
  if (s0.durable + 1 != s0.next || s0.next + 1 >= kLsnMax) return;
  // Nothing passes a write to the same block that is on its way.
  if (page >= 0 && InPlaceInFlight(s0, page)) return;
  State s = s0;
  const int lsn = s.next;
  int base = s.base, repeated = 0;
  for (int n = base + 1; n < lsn; ++n) repeated += s.commits[n].page != kNone;
  bool new_base = repeated + 1 > b_.commits_in_record;

  Lane& lane = s.lanes[s.turn];
  const int needed = page >= 0 ? 2 : 1;
  int at = lane.used, overwritten = 0;
  if (lane.last != 0 && s.commits[lane.last].block != kNone && MayOverwrite(s, lane.last)) {
    overwritten = lane.last;
    --at;
  }
  if (replace && !ReplaceNext(s)) return;
  bool moved = false;
  if (needed > b_.segment_blocks) return;
  if (at + needed > b_.segment_blocks) {
    if (replace || !MoveLane(s, lane)) return;
    at = overwritten = 0;
    moved = true;
  }
  // So a record lies in a segment that its base names, and that the base of its base names too.
  if (Holds(Rule::kOneMoveForEachBase) && moved && s.moves > 0) new_base = true;
  if (new_base) {
    base = lsn - 1;
    s.moves = 0;
  }
  s.moves = static_cast<uint8_t>(s.moves + moved);
  const int first = BlockOf(lane.segment, at);
  StartRecord(s, first + needed - 1, base, true);
  if (overwritten) s.commits[overwritten].block = kNone;
  if (page >= 0) {
    if (!Map(s, lsn, page, first)) return;
    --s.commits_left;
  } else if (open_page >= 0) {
    OpenBlock(s, lsn, open_page);
  } else {
    --s.settling_left;
  }
  lane.used = static_cast<uint8_t>(at + needed);
  lane.last = static_cast<uint8_t>(lsn);
  s.turn = static_cast<uint8_t>((s.turn + 1) % b_.lanes);
  if (!FinishRecord(s, true)) return;
  result_.overwritten_records += overwritten != 0;
  result_.base_changes += new_base;
  emit(s, Tell("alone: ", lsn,
               open_page >= 0 ? absl::StrCat(" opens ", open_page ? "Y" : "X")
               : page < 0     ? " (no data)"
                              : absl::StrCat(" ", Name(Data(page, s.submitted[page]))),
               " to block ", first, ", base ", base, ", claim ", int{s.commits[lsn].claim},
               overwritten ? absl::StrCat(", over record ", overwritten) : "",
               replace ? ", replaces a next segment"
               : moved ? ", lane moved"
                       : ""));
}

void Searcher::OpenBlock(State& s, int lsn, int page) const {
  Commit& c = s.commits[lsn];
  c.page = static_cast<uint8_t>(page);
  c.data_block = s.map[page].block;
  c.opens = 1;
  s.map[page].open = 1;
  s.opened_by[page] = static_cast<uint8_t>(lsn);
  --s.openings_left;
}

// Sends a version of the page to a block of its own, or opens a block, and the record behind the records before it. The
// record repeats nothing. Returns false if there is no place.
bool Searcher::SendApart(State& s, int page, bool last_of_chain, int open_page) {
  Lane& records = s.lanes[b_.lanes];
  s.moves = 0;
  if (records.used == b_.segment_blocks) {
    if (!MoveLane(s, records)) return false;
    s.moves = 1;
  }
  const auto block = DataBlock(s);
  if (!block && page >= 0) return false;
  const int lsn = s.next;
  StartRecord(s, BlockOf(records.segment, records.used), lsn - 1, last_of_chain);
  if (open_page >= 0) {
    OpenBlock(s, lsn, open_page);
  } else if (!Map(s, lsn, page, *block)) {
    return false;
  }
  ++records.used;
  records.last = static_cast<uint8_t>(lsn);
  return FinishRecord(s, false);
}

// Other commits may be on their way.
void Searcher::SendWithOthers(const State& s0, int page, const Emit& emit, int open_page) {
  if (s0.next - 1 - s0.durable >= b_.in_flight) return;
  if (page >= 0 && InPlaceInFlight(s0, page)) return;
  State s = s0;
  const int lsn = s.next;
  if (!SendApart(s, page, true, open_page)) return;
  if (open_page >= 0) {
    emit(s, Tell("with others: ", lsn, " opens ", open_page ? "Y" : "X", ", record to block ",
                 int{s.commits[lsn].block}, ", claim ", int{s.commits[lsn].claim}));
    return;
  }
  --s.commits_left;
  emit(s, Tell("with others: ", lsn, " ", Name(Data(page, s.submitted[page])), " to block ",
               int{s.commits[lsn].data_block}, ", record to block ", int{s.commits[lsn].block}, ", claim ",
               int{s.commits[lsn].claim}));
}

// Both pages, in two records that count only together.
void Searcher::SendChain(const State& s0, const Emit& emit) {
  if (s0.next - s0.durable >= b_.in_flight) return;
  State s = s0;
  const int first = s.next;
  for (int page = 0; page < kPages; ++page) {
    if (!SendApart(s, page, page + 1 == kPages)) return;
  }
  // What displaces or maps an extent is the end of the chain.
  const uint8_t last = static_cast<uint8_t>(s.next - 1);
  for (Mapping& m : s.map) {
    if (m.lsn == first) m.lsn = last;
  }
  for (int i = 0; i < s.displaced_count; ++i) {
    if (s.displaced[i].displaced == first) s.displaced[i].displaced = last;
  }
  --s.chains_left;
  for (int page = 0; page < kPages; ++page) s.chain[page] = s.submitted[page];
  emit(s, Tell("chain ", first, "-", int{last}, " X", int{s.submitted[0]}, " Y", int{s.submitted[1]}));
}

bool Searcher::InPlaceInFlight(const State& s, int page) const {
  for (int i = 0; i < s.request_count; ++i) {
    if (s.requests[i].purpose == kInPlace && s.requests[i].lsn == page) return true;
  }
  return false;
}

bool Searcher::MayOverwriteInPlace(const State& s, int page) const {
  const Mapping& m = s.map[page];
  if (m.block == kNone || m.lsn > s.durable || InPlaceInFlight(s, page)) return false;
  if (Holds(Rule::kInPlaceSettled) && m.lsn > s.settled_twice) return false;
  return !Holds(Rule::kInPlaceOpened) || (m.open && s.opened_by[page] <= s.settled);
}

void Searcher::OverwriteInPlace(const State& s0, int page, const Emit& emit) {
  if (!MayOverwriteInPlace(s0, page) || s0.request_count >= kRequestsMax) return;
  State s = s0;
  --s.in_place_left;
  const uint8_t version = ++s.submitted[page];
  Request& request = s.requests[s.request_count++];
  request = {static_cast<uint8_t>(page), kInPlace, 1, 1, {Data(page, version), 0},
             {s.map[page].block, 0},     {}};
  ++result_.in_place_writes;
  emit(s, Tell("in place: ", Name(Data(page, version)), " to block ", int{s.map[page].block}));
}

// A read of a block whose bit was read as set takes the device's word for its checksum.
void Searcher::ReadPage(const State& s0, int page, const Emit& emit) {
  if (s0.map[page].block == kNone || s0.known[page] || InPlaceInFlight(s0, page)) return;
  State s = s0;
  s.newest[page] = static_cast<uint8_t>(Read(s, s.map[page].block) - Data(page, 0));
  s.known[page] = 1;
  emit(s, Tell(page ? "Y" : "X", " is read"));
}

bool Searcher::MayClose(const State& s, int page) const {
  if (Holds(Rule::kCarryWhatIsFlushed) && InPlaceInFlight(s, page)) return false;
  return s.known[page] || !Holds(Rule::kCloseWhatIsKnown);
}

void Searcher::CompleteRequest(const State& s0, int index, const Emit& emit) {
  State s = s0;
  const Request request = s.requests[index];
  s.requests[index] = s.requests[--s.request_count];
  if (request.purpose == kSlot && s.lost_left) {
    State lost = s;
    --lost.lost_left;
    CompleteSlot(lost, emit);
  }
  for (int i = 0; i < request.blocks; ++i) {
    Block& block = s.blocks[request.block[i]];
    if (request.durable_by_itself) block.copies = block.atomic = 0;
    if (block.copies == kCopiesMax) return;
    block.copy[block.copies++] = request.content[i];
  }
  if (request.purpose == kSlot) {
    CompleteSlot(s, emit);
    return;
  }
  if (request.purpose == kAgree) {
    s.mode = kFlushed;
  } else if (request.purpose == kOpening) {
    if (s.mode == kOpeningSent) s.mode = kOpeningCompleted;
  } else if (request.purpose == kInPlace) {
    const int page = request.lsn;
    const uint8_t version = static_cast<uint8_t>(request.content[0] - Data(page, 0));
    s.newest[page] = version;
    s.acknowledged[page] = s.settled_version[page] = version;
    emit(s, Tell(Name(request.content[0]), " is in place"));
    return;
  } else {
    s.commits[request.lsn].state = request.durable_by_itself ? kDurable : kCompleted;
    if (request.durable_by_itself && !Holds(Rule::kDurableIsNoFlush)) {
      for (int n = 1; n < s.next; ++n) {
        if (s.commits[n].state == kCompleted) s.commits[n].state = kDurable;
      }
    }
    Advance(s);
  }
  emit(s, Tell("write of ", int{request.lsn}, " completes; durable ", int{s.durable}));
}

void Searcher::Flush(const State& s0, const Emit& emit) {
  bool dirty = s0.mode == kRecovered || s0.mode == kOpeningCompleted;
  for (int n = 1; n < s0.next; ++n) dirty |= s0.commits[n].state == kCompleted;
  if (!dirty) return;
  State s = s0;
  for (Block& block : s.blocks) {
    block.copy[0] = block.copy[block.copies - 1];
    block.copies = 1;
    block.atomic = 0;
  }
  for (int n = 1; n < s.next; ++n) {
    if (s.commits[n].state == kCompleted) s.commits[n].state = kDurable;
  }
  if (s.mode == kOpeningCompleted) {
    SendSuperblock(s);
    s.mode = kOpeningSuperblock;
  } else if (s.mode == kRecovered) {
    s.mode = kFlushed;
  } else {
    Advance(s);
  }
  emit(s, Tell("flush; durable ", int{s.durable}));
}

void Searcher::BeginCheckpoint(const State& s0, const Emit& emit) {
  int durable = s0.durable;
  while (Holds(Rule::kClaimChainEnds) && durable > 0 && !s0.commits[durable].last_of_chain) --durable;
  if (durable <= s0.superblock.checkpoint) return;
  State s = s0;
  --s.checkpoints_left;
  Superblock& sb = s.next_superblock;
  sb = s.superblock;
  for (int n = sb.checkpoint + 1; n <= durable; ++n) {
    const Commit& c = s.commits[n];
    if (c.page == kNone) continue;
    if (c.opens) {
      sb.map[c.page].open = 1;
    } else {
      sb.map[c.page] = {c.data_block, c.version, 0, 0};
    }
  }
  for (int page = 0; page < kPages; ++page) {
    Mapping& m = sb.map[page];
    // The newest checksum belongs to a mapping. A newer mapping knows nothing of this one.
    if (!m.open || s.map[page].block != m.block || s.map[page].lsn > durable || s.opened_by[page] > durable)
      continue;
    if (!MayClose(s, page)) continue;
    m.version = s.newest[page];
    m.open = 0;
    if (Holds(Rule::kCloseInMemory)) s.map[page].open = 0;
    ++result_.closed_blocks;
  }
  sb.checkpoint = static_cast<uint8_t>(durable);
  s.stage = kFrozen;
  emit(s, Tell("checkpoint ", int{sb.checkpoint}, " begins"));
}

// The tree is written. The superblock names the newest record that is durable now.
void Searcher::EndCheckpoint(const State& s0, const Emit& emit) {
  int newest = s0.durable;
  while (Holds(Rule::kClaimChainEnds) && !s0.commits[newest].last_of_chain) --newest;
  if (!Holds(Rule::kNameDurableRecord)) newest = s0.next - 1;
  if (s0.commits[newest].block == kNone) return;
  State s = s0;
  Superblock& sb = s.next_superblock;
  ++sb.generation;
  sb.epoch = s.epoch;
  sb.newest = static_cast<uint8_t>(newest);
  sb.newest_block = s.commits[newest].block;
  sb.newest_record = s.commits[newest].record;
  SendSuperblock(s);
  emit(s, Tell("superblock ", int{sb.generation}, " names record ", newest));
}

void Searcher::SendSlot(State& s, int slot, const Superblock& superblock, Purpose purpose) {
  UNTORN_CHECK(s.request_count < kRequestsMax, "no room for the request of a slot");
  s.requests[s.request_count++] = {
      superblock.generation,           purpose, 1, 1, {superblocks_.Number(superblock), 0},
      {static_cast<uint8_t>(slot), 0}, {}};
}

void Searcher::SendSuperblock(State& s) {
  SendSlot(s, SpareSlot(), s.next_superblock);
  if (!Holds(Rule::kSlotsInTurn)) SendSlot(s, SlotInUse(), s.next_superblock);
  s.stage = kFirstSlot;
}

void Searcher::CompleteSlot(const State& s0, const Emit& emit) {
  State s = s0;
  const std::string what =
      Tell("superblock ", int{s.next_superblock.generation}, " of epoch ", int{s.next_superblock.epoch});
  const bool last = s.stage == kSecondSlot;
  if (last || !Holds(Rule::kCountsInBothSlots)) Count(s);
  s.stage = last ? kNoNext : kSecondSlot;
  if (!last && Holds(Rule::kSlotsInTurn)) SendSlot(s, SlotInUse(), s.next_superblock);
  emit(s, Tell(what, last ? " counts" : " is in a slot"));
}

// From here on the engine relies on the next superblock.
void Searcher::Count(State& s) const {
  s.superblock = s.next_superblock;
  for (int n = 1; n <= s.superblock.checkpoint; ++n) {
    if (n != s.superblock.newest) s.commits[n].block = kNone;
  }
  // A superblock is there twice.
  s.settled = std::max(s.settled, s.superblock.newest);
  s.settled_twice = std::max(s.settled_twice, s.superblock.newest);
  if (s.mode != kOpeningSuperblock) return;
  // From here on callers see what recovery has found.
  for (int page = 0; page < kPages; ++page) {
    const int found = VersionFound(s, page, s.map[page]);
    for (int v = found + 1; v <= s.submitted[page]; ++v) s.dropped[page] |= 1u << v;
    s.acknowledged[page] = s.settled_version[page] = static_cast<uint8_t>(found);
  }
  s.mode = kRunning;
}

}  // namespace untorn::protocol
