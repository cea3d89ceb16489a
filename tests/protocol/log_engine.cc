// What the engine of the model does: it makes records, sends and completes them, and makes checkpoints.
#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "tests/protocol/log_searcher.h"

namespace untorn::protocol {

bool Searcher::MayOverwrite(const State& s, int lsn) const {
  if (!Holds(Rule::kOverwriteRepeated)) return lsn <= s.durable;
  return Holds(Rule::kOverwriteTwiceRepeated) ? lsn < s.settled : lsn < s.durable;
}

bool Searcher::InUse(const State& s, int block) const {
  for (int page = 0; page < kPages; ++page) {
    if (s.map[page].block == block || s.superblock.map[page].block == block) return true;
    if (s.stage != kNoNext && s.next_superblock.map[page].block == block) return true;
  }
  for (int i = 0; i < s.displaced_count; ++i) {
    const Displaced& d = s.displaced[i];
    if (d.block != block) continue;
    if (Holds(Rule::kReuseSettledTwice) && d.mapped > s.settled_twice) return true;
    const int displaced = Holds(Rule::kDisplacedSettled) ? s.settled : s.durable;
    if (Holds(Rule::kReuseDisplaced) && d.displaced > displaced) return true;
  }
  for (int lsn = 1; lsn < s.next; ++lsn) {
    if (s.commits[lsn].block == block && Holds(Rule::kKeepRetired) && !MayOverwrite(s, lsn)) return true;
  }
  for (int i = 0; i < s.request_count; ++i) {
    for (int j = 0; j < s.requests[i].blocks; ++j) {
      if (s.requests[i].block[j] == block) return true;
    }
  }
  return false;
}

// Says whether a lane keeps the block for itself: its last record, and what it has not used.
bool Searcher::OfLane(const State& s, int block) const {
  for (const Lane& lane : s.lanes) {
    if (lane.next == block / b_.extent_blocks) return true;
    if (lane.extent == block / b_.extent_blocks && block % b_.extent_blocks >= lane.used - 1) return true;
  }
  return false;
}

// Returns the first extent of which no block is in use.
std::optional<int> Searcher::TakeExtent(const State& s) const {
  for (int extent = 0; extent < b_.extents; ++extent) {
    bool free = true;
    for (int i = 0; i < b_.extent_blocks && free; ++i) {
      free = !InUse(s, BlockOf(extent, i)) && !OfLane(s, BlockOf(extent, i));
    }
    if (free) return extent;
  }
  return std::nullopt;
}

// Returns a block for data that does not go to a lane.
std::optional<int> Searcher::DataBlock(const State& s) const {
  for (int block = 0; block < BlockCount(); ++block) {
    if (!OfLane(s, block) && !InUse(s, block)) return block;
  }
  return std::nullopt;
}

// Returns the extents that a lane may use: those that the last two writes of the ring name. All of them are durable,
// because the commit is alone. A superblock that counts stands for two writes.
Extents Searcher::MayUse(const State& s) const {
  Extents named = 0xffff;
  int writes = 0;
  for (int lsn = s.in_ring; lsn > 0; --lsn) {
    const Commit& c = s.commits[lsn];
    if (c.position <= s.superblock.position || !c.last_of_chain) continue;
    named &= records_[c.record].epoch == s.epoch ? records_[c.record].names : 0;
    if (++writes == (Holds(Rule::kExtentNamedTwice) ? 2 : 1)) return named;
  }
  return named & s.superblock.names;
}

// Returns false if the lane has no next extent that it may use.
bool Searcher::MoveLane(State& s, Lane& lane) const {
  if (!Holds(Rule::kExtentNamed) && lane.next == kNone) {
    lane.next = static_cast<uint8_t>(TakeExtent(s).value_or(kNone));
  }
  if (lane.next == kNone) return false;
  if (Holds(Rule::kExtentNamed) && !(MayUse(s) >> lane.next & 1)) return false;
  lane = {lane.next, 0, lane.last, kNone};
  return true;
}

bool Searcher::RingHasRoom(const State& s, int more) const {
  if (!Holds(Rule::kKeepRing)) return true;
  return s.position + more + Holds(Rule::kRoomForFold) <= s.superblock.position + b_.ring_blocks;
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

// Lane records repeat the commits from this one on.
int Searcher::FirstUnfolded(const State& s) const { return std::max(s.in_ring, s.superblock.checkpoint) + 1; }

Record Searcher::MakeRecord(const State& s, int first, int lsn, int claim) const {
  Record r;
  std::memset(&r, 0, sizeof r);
  r.epoch = s.epoch;
  r.first = static_cast<uint8_t>(first);
  r.lsn = static_cast<uint8_t>(lsn);
  r.claim = static_cast<uint8_t>(claim);
  r.generation = s.superblock.generation;
  r.last_of_chain = s.commits[lsn].last_of_chain;
  for (int n = first; n <= lsn; ++n) {
    const Commit& c = s.commits[n];
    if (c.page == kNone) continue;
    UNTORN_CHECK(r.entry_count < kEntriesMax, "a record has too many entries");
    r.entries[r.entry_count++] = {static_cast<uint8_t>(n), c.page, c.data_block, c.version, c.opens};
  }
  return r;
}

Record Searcher::MakeRingRecord(const State& s, int first, int lsn, int claim) const {
  Record r = MakeRecord(s, first, lsn, claim);
  r.in_ring = 1;
  r.place = s.position;
  r.previous = s.previous;
  for (const Lane& lane : s.lanes) {
    if (lane.extent != kNone) r.names = static_cast<Extents>(r.names | 1 << lane.extent);
    if (lane.next != kNone) r.names = static_cast<Extents>(r.names | 1 << lane.next);
  }
  return r;
}

// Adds the record to a write of the ring.
void Searcher::Append(State& s, const Record& record, Request& request) {
  const Content number = records_.Number(record);
  request.block[request.blocks] = static_cast<uint8_t>(RingBlock(s.position));
  request.content[request.blocks++] = number;
  s.previous = number;
  s.in_ring = record.lsn;
  ++s.position;
}

void Searcher::StartCommit(State& s, bool last_of_chain) const {
  Commit& c = s.commits[s.next];
  c = {kSent, static_cast<uint8_t>(Claim(s)), last_of_chain, kNone, kNone, 0, 0, kNone, 0, {}, 0};
}

// Returns the next version of the page. It may be one that a recovery has dropped.
uint8_t Searcher::Submit(State& s, int page) {
  const uint8_t version = ++s.submitted[page];
  s.dropped[page] &= ~(1u << version);
  return version;
}

bool Searcher::MapPage(State& s, int page, int block) const {
  Commit& c = s.commits[s.next];
  const uint8_t version = Submit(s, page);
  c.page = static_cast<uint8_t>(page);
  c.data_block = static_cast<uint8_t>(block);
  c.version = version;
  if (s.map[page].block != kNone) {
    if (s.displaced_count >= kDisplacedMax) return false;
    s.displaced[s.displaced_count++] = {s.map[page].block, s.map[page].lsn, s.next};
  }
  // The block may have been another's before.
  for (int i = 0; i < s.displaced_count; ++i) {
    if (s.displaced[i].block == block) s.displaced[i--] = s.displaced[--s.displaced_count];
  }
  for (int n = 1; n < s.next; ++n) {
    if (s.commits[n].block == block) s.commits[n].block = kNone;
  }
  s.map[page] = {static_cast<uint8_t>(block), version, s.next, 0};
  s.opened_by[page] = 0;
  s.newest[page] = version;
  s.known[page] = 1;
  --s.commits_left;
  return true;
}

void Searcher::OpenBlock(State& s, int page) const {
  Commit& c = s.commits[s.next];
  c.page = static_cast<uint8_t>(page);
  c.data_block = s.map[page].block;
  c.opens = 1;
  s.map[page].open = 1;
  s.opened_by[page] = s.next;
  --s.openings_left;
}

// Returns the block for the data of the lane's next record. The data goes over the last record, or to the next extent.
std::optional<int> Searcher::RoomInLane(State& s, Lane& lane) {
  const bool over = lane.used > 0 && MayOverwrite(s, lane.last);
  const int at = lane.used - over;
  if (lane.extent != kNone && at + 2 <= b_.extent_blocks) {
    result_.overwritten_records += over;
    return BlockOf(lane.extent, at);
  }
  if (!MoveLane(s, lane)) return std::nullopt;
  ++result_.lane_moves;
  return BlockOf(lane.extent, 0);
}

// Sends a commit that is alone to the lane whose record is the oldest. Its lane record lies behind the data. Returns
// false if there is no room.
bool Searcher::SendToLane(const State& s0, int page, const Emit& emit) {
  if (s0.next - s0.durable > (Holds(Rule::kAlone) ? 1 : b_.in_flight)) return false;
  // Nothing passes a write to the same block that is on its way.
  if (InPlaceInFlight(s0, page) || !MaySend(s0)) return false;
  State s = s0;
  const int lsn = s.next, first = Holds(Rule::kRepeatAll) ? FirstUnfolded(s) : lsn;
  if (lsn - first + 1 > b_.commits_in_record) return false;
  Lane& lane = *std::min_element(s.lanes, s.lanes + b_.lanes,
                                 [](const Lane& a, const Lane& b) { return a.last < b.last; });
  const auto block = RoomInLane(s, lane);
  if (!block) return false;
  StartCommit(s, true);
  if (!MapPage(s, page, *block)) return false;
  Commit& c = s.commits[lsn];
  c.block = static_cast<uint8_t>(*block + 1);
  lane.used = static_cast<uint8_t>(c.block % b_.extent_blocks + 1);
  lane.last = static_cast<uint8_t>(lsn);
  Record record = MakeRecord(s, first, lsn, c.claim);
  record.place = c.block;
  c.record = records_.Number(record);
  s.requests[s.request_count++] = {
      s.next, kCommit, 1, 2, {Data(page, c.version), c.record}, {c.data_block, c.block}, 0};
  ++s.next;
  emit(s, Tell("to a lane: ", lsn, " ", Name(Data(page, c.version)), " to block ", *block, ", repeats from ",
               first));
  return true;
}

// Each lane gets a next extent, and a fold makes up for what is in lanes only. Returns false if there is no room.
bool Searcher::BeginRingWrite(State& s, Request& request) {
  for (int i = 0; i < b_.lanes; ++i) {
    if (s.lanes[i].next == kNone) s.lanes[i].next = static_cast<uint8_t>(TakeExtent(s).value_or(kNone));
  }
  const int first = FirstUnfolded(s), last = s.next - 1;
  if (first > last || !Holds(Rule::kFoldFirst)) return true;
  if (!RingHasRoom(s, 2)) return false;
  Record fold = MakeRingRecord(s, first, last, Claim(s));
  if (!Holds(Rule::kFoldNames)) fold.names = 0;
  Append(s, fold, request);
  ++result_.folds;
  return true;
}

// Sends data to a block of its own, and a record to the ring. `request` may have a fold. Returns false if there is no
// room.
bool Searcher::SendRecord(State& s, int page, int open_page, bool last_of_chain, Request& request) {
  if (!RingHasRoom(s, 1) || !MaySend(s)) return false;
  StartCommit(s, last_of_chain);
  Commit& c = s.commits[s.next];
  if (page >= 0) {
    const auto block = DataBlock(s);
    if (!block || !MapPage(s, page, *block)) return false;
    request.block[request.blocks] = c.data_block;
    request.content[request.blocks++] = Data(page, c.version);
  } else if (open_page >= 0) {
    OpenBlock(s, open_page);
  }
  Append(s, MakeRingRecord(s, s.next, s.next, c.claim), request);
  c.record = s.previous;
  c.position = s.position;
  request.lsn = s.next++;
  s.requests[s.request_count++] = request;
  return true;
}

void Searcher::SendToRing(const State& s0, int page, const Emit& emit, int open_page) {
  const bool alone = s0.durable + 1 == s0.next;
  if (s0.next - 1 - s0.durable >= b_.in_flight) return;
  if (page >= 0 && InPlaceInFlight(s0, page)) return;
  State s = s0;
  Request request = {};
  request.purpose = kCommit;
  // A commit without data is one write.
  request.durable_by_itself = alone && page < 0;
  if (!BeginRingWrite(s, request)) return;
  const bool folds = request.blocks > 0;
  if (!SendRecord(s, page, open_page, true, request)) return;
  if (page < 0 && open_page < 0) --s.settling_left;
  const Commit& c = s.commits[s.next - 1];
  emit(s, Tell("to the ring: ", folds ? "fold, " : "", int{request.lsn},
               page >= 0 ? absl::StrCat(" ", Name(Data(page, c.version)), " to block ", int{c.data_block})
               : open_page >= 0 ? absl::StrCat(" opens ", open_page ? "Y" : "X")
                                : " (no data)",
               ", at position ", c.position - 1, ", claim ", int{c.claim}));
}

// Both pages, in two records that count only together.
void Searcher::SendChain(const State& s0, const Emit& emit) {
  if (s0.next - s0.durable >= b_.in_flight) return;
  State s = s0;
  const int first = s.next;
  Request requests[kPages] = {};
  if (!BeginRingWrite(s, requests[0])) return;
  s.commits_left = static_cast<uint8_t>(s.commits_left + kPages);
  for (int page = 0; page < kPages; ++page) {
    requests[page].purpose = kCommit;
    if (!SendRecord(s, page, -1, page + 1 == kPages, requests[page])) return;
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

// The store is short of space. The last records are kept until two newer commits are durable.
void Searcher::GiveLanesBack(const State& s0, const Emit& emit) {
  State s = s0;
  for (Lane& lane : s.lanes) lane = {kNone, 0, 0, kNone};
  if (std::memcmp(s.lanes, s0.lanes, sizeof s.lanes) == 0) return;
  --s.giving_back_left;
  emit(s, Tell("all lanes are given back"));
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
  Settle(s);
}

void Searcher::Settle(State& s) {
  for (int n = 1; n <= s.settled; ++n) {
    const Commit& c = s.commits[n];
    if (c.page != kNone && !c.opens)
      s.settled_version[c.page] = std::max(s.settled_version[c.page], c.version);
  }
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
  const uint8_t version = Submit(s, page);
  Request& request = s.requests[s.request_count++];
  request = {static_cast<uint8_t>(page), kInPlace, 1, 1, {Data(page, version)}, {s.map[page].block}, 0};
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
  } else if (request.purpose == kOpeningFold) {
    if (s.mode == kFoldSent) {
      SendSuperblock(s);
      s.mode = kOpeningSuperblock;
    }
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
  bool dirty = s0.mode == kRecovered;
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
  if (s.mode == kRecovered) {
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
    // The log goes on behind the last record of the ring.
    if (c.position > sb.position) {
      sb.position = c.position;
      sb.previous = c.record;
      sb.names = Holds(Rule::kNameExtents) ? records_[c.record].names : 0;
    }
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
  emit(s, Tell("checkpoint ", int{sb.checkpoint}, " begins, position ", int{sb.position}));
}

// The tree is written. The superblock claims what is durable now.
void Searcher::EndCheckpoint(const State& s0, const Emit& emit) {
  if (s0.request_count >= kRequestsMax) return;
  State s = s0;
  int durable = s.durable;
  while (Holds(Rule::kClaimChainEnds) && !s.commits[durable].last_of_chain) --durable;
  if (!Holds(Rule::kNameDurableRecord)) durable = s.next - 1;
  Superblock& sb = s.next_superblock;
  ++sb.generation;
  sb.epoch = s.epoch;
  sb.durable = static_cast<uint8_t>(durable);
  SendSuperblock(s);
  emit(s, Tell("superblock ", int{sb.generation}, " claims ", durable));
}

void Searcher::SendSlot(State& s, int slot, const Superblock& superblock, Purpose purpose) {
  UNTORN_CHECK(s.request_count < kRequestsMax, "no room for the request of a slot");
  s.requests[s.request_count++] = {
      superblock.generation,        purpose, 1, 1, {superblocks_.Number(superblock)},
      {static_cast<uint8_t>(slot)}, 0};
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
  s.epoch = s.superblock.epoch;
  // A superblock is there twice.
  s.settled = std::max(s.settled, s.superblock.durable);
  s.settled_twice = std::max(s.settled_twice, s.superblock.durable);
  Settle(s);
  if (s.mode != kOpeningSuperblock) return;
  // From here on callers see what recovery has found.
  for (int page = 0; page < kPages; ++page) {
    const int found = VersionFound(s, page, s.map[page]);
    for (int v = found + 1; v <= s.submitted[page]; ++v) s.dropped[page] |= 1u << v;
    s.acknowledged[page] = s.settled_version[page] = static_cast<uint8_t>(found);
    if (!b_.retries) continue;
    s.submitted[page] = static_cast<uint8_t>(found);
    s.chain[page] = std::min(s.chain[page], s.submitted[page]);
  }
  s.mode = kRunning;
}

}  // namespace untorn::protocol
