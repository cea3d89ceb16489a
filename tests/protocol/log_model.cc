#include "tests/protocol/log_model.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <type_traits>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace untorn::protocol {
namespace {

constexpr int kBlocksMax = 24, kSegmentsMax = 12, kLanesMax = 3, kNextSegments = 2, kRequestsMax = 3;
constexpr int kLsnMax = 16, kPages = 2, kEntriesMax = 6, kCopiesMax = 4, kDisplacedMax = 10;
constexpr uint8_t kNone = 0xff;

// What a block holds: nothing, a torn write, a version of a page, or a record.
using Content = uint16_t;
constexpr Content kBlank = 0, kTorn = 1, kFirstData = 2, kVersionsMax = 32, kFirstRecord = 128;
Content Data(int page, int version) {
  return static_cast<Content>(kFirstData + page * kVersionsMax + version);
}
bool IsRecord(Content content) { return content >= kFirstRecord; }

struct Entry {
  uint8_t lsn, page, block, version;
};

struct Record {
  uint8_t epoch, lsn, block, claim, base, base_block;
  Content base_record;
  uint8_t segment_count, entry_count, last_of_chain;
  uint8_t segments[kLanesMax + 1 + kNextSegments];
  Entry entries[kEntriesMax];  // of the commits after the base, up to this one
};

// The records that were ever made. Equal records have equal numbers, so a number stands for a checksum.
class Records {
 public:
  Content Number(const Record& record) {
    std::array<char, sizeof(Record)> bytes;
    std::memcpy(bytes.data(), &record, sizeof(Record));
    auto [it, fresh] = numbers_.insert({bytes, static_cast<Content>(kFirstRecord + records_.size())});
    if (fresh) {
      UNTORN_CHECK(records_.size() < 65000, "the search makes too many different records");
      records_.push_back(record);
    }
    return it->second;
  }
  const Record& operator[](Content number) const { return records_[number - kFirstRecord]; }

 private:
  std::map<std::array<char, sizeof(Record)>, Content> numbers_;
  std::deque<Record> records_;  // a reference stays valid
};

// The contents that a power cut may leave in a block, oldest first. The newest is what a read returns.
struct Block {
  uint8_t copies;
  Content copy[kCopiesMax];
};
enum Purpose : uint8_t { kCommit, kOpening };
struct Request {
  uint8_t lsn, purpose, durable_by_itself, blocks;
  uint8_t block[2];
  Content content[2];
};
struct Mapping {
  uint8_t block, version, lsn;
};
// Written whole: design.md says how two slots do that.
struct Superblock {
  uint8_t epoch, checkpoint, newest, newest_block;
  Content newest_record;
  Mapping map[kPages];
};
enum RecordState : uint8_t { kUnsent, kSent, kCompleted, kDurable };
// What the engine knows of one LSN.
struct Commit {
  uint8_t state, block, base, claim, epoch;  // block: of the record, or kNone if it was given up
  uint8_t last_of_chain;
  Content record;
  uint8_t page, data_block, version;
};
struct Displaced {
  uint8_t block, mapped, displaced;
};
struct Lane {
  uint8_t segment, used, last;  // blocks used, LSN of the last record in it or 0
};
enum Mode : uint8_t { kRunning, kDown, kDamaged, kOpeningSent, kOpeningCompleted, kOpeningSuperblockSent };

struct State {
  Block blocks[kBlocksMax];
  Request requests[kRequestsMax];
  Superblock superblock, next_superblock;
  uint8_t superblock_sent, request_count, mode;
  // The engine's memory.
  uint8_t epoch, next, durable, settled, settled_twice, base, turn, moves,
      displaced_count;  // moves of lanes since the base
  // The last is no lane: it takes the records of commits that are not alone.
  Lane lanes[kLanesMax + 1];
  uint8_t next_segments[kNextSegments];
  Commit commits[kLsnMax];
  Mapping map[kPages];
  Displaced displaced[kDisplacedMax];
  // What the search knows, and the engine does not.
  uint8_t submitted[kPages], acknowledged[kPages], settled_version[kPages], chain[kPages], epochs;
  uint32_t dropped[kPages];  // bit v: recovery has said that version v is not there
  uint8_t commits_left, chains_left, settling_left, checkpoints_left, cuts_left, kills_left, rot_left;
};
static_assert(std::is_trivially_copyable_v<State>);

class Searcher {
 public:
  Searcher(const Bounds& bounds, const std::set<Rule>& dropped) : b_(bounds), dropped_(dropped) {
    UNTORN_CHECK(bounds.segments * bounds.segment_blocks <= kBlocksMax, "too many blocks");
    UNTORN_CHECK(bounds.segments <= kSegmentsMax && bounds.lanes <= kLanesMax, "too many segments");
    UNTORN_CHECK(bounds.commits_in_record + 1 < kEntriesMax, "a record has too many entries");
  }
  SearchResult Run();

 private:
  using Emit = std::function<void(const State&, const std::string&)>;
  bool Holds(Rule rule) const { return !dropped_.contains(rule); }
  int BlockOf(int segment, int index) const { return segment * b_.segment_blocks + index; }
  int BlockCount() const { return b_.segments * b_.segment_blocks; }
  static Content Read(const State& s, int block) { return s.blocks[block].copy[s.blocks[block].copies - 1]; }
  std::string Name(Content content) const;

  State Initial();
  void Successors(const State& s, const Emit& emit);
  void CutPower(const State& s, const Emit& emit);
  void Kill(const State& s, const Emit& emit);
  void CompleteRequest(const State& s, int index, const Emit& emit);
  void CompleteSuperblock(const State& s, const Emit& emit);
  void Flush(const State& s, const Emit& emit);
  void SendAlone(const State& s, int page, const Emit& emit);
  void SendWithOthers(const State& s, int page, const Emit& emit);
  void SendChain(const State& s, const Emit& emit);
  void BeginCheckpoint(const State& s, const Emit& emit);
  void Open(const State& s, const Emit& emit);

  // The engine's rules.
  bool MayOverwrite(const State& s, int lsn) const;
  bool InUse(const State& s, int block) const;
  bool NamedSegment(const State& s, int segment) const;
  std::optional<int> TakeSegment(const State& s, const std::set<int>& not_these) const;
  bool MoveLane(State& s, Lane& lane);
  std::optional<int> DataBlock(const State& s) const;
  bool Map(State& s, int lsn, int page, int block) const;
  int Claim(const State& s) const;
  void StartRecord(State& s, int block, int base, bool last_of_chain);
  bool FinishRecord(State& s, bool durable_by_itself);
  Content MakeRecord(const State& s, int lsn, int block, int base, int base_block, Content base_record);
  void Advance(State& s) const;

  struct Recovered {
    std::string damage;  // empty if there is none
    int end = 0;
    std::vector<const Record*> chain;  // from the top down
    std::vector<const Record*> found;
    int claim = 0;
    Mapping map[kPages];
  };
  Recovered Recover(const State& s);
  void Judge(const State& s, const Recovered& r, bool rotten);
  void Forget(State& s) const;
  static void Canonical(State& s);

  const Bounds b_;
  const std::set<Rule> dropped_;
  Records records_;
  SearchResult result_;
  std::string violation_;
};

std::string Searcher::Name(Content content) const {
  if (content == kBlank) return "-";
  if (content == kTorn) return "torn";
  if (IsRecord(content))
    return absl::StrCat("R", int{records_[content].lsn}, "e", int{records_[content].epoch});
  const int data = content - kFirstData;
  return absl::StrCat(data / kVersionsMax ? "Y" : "X", data % kVersionsMax);
}

// Makes states equal that differ only in what nobody will read.
void Searcher::Canonical(State& s) {
  std::sort(s.requests, s.requests + s.request_count,
            [](const Request& a, const Request& b) { return std::memcmp(&a, &b, sizeof a) < 0; });
  std::memset(s.requests + s.request_count, 0, sizeof(Request) * (kRequestsMax - s.request_count));
  for (Block& block : s.blocks) {
    for (int i = block.copies; i < kCopiesMax; ++i) block.copy[i] = 0;
  }
  const bool opening = s.mode == kOpeningSent || s.mode == kOpeningCompleted;
  if (!s.superblock_sent && !opening) std::memset(&s.next_superblock, 0, sizeof s.next_superblock);
  std::memset(s.displaced + s.displaced_count, 0, sizeof(Displaced) * (kDisplacedMax - s.displaced_count));
}

// ---- The engine ----

bool Searcher::MayOverwrite(const State& s, int lsn) const {
  const Commit& old = s.commits[lsn];
  if (old.state != kDurable) return false;
  if (Holds(Rule::kKeepWhatSuperblockNames)) {
    if (s.superblock.newest == lsn || (s.superblock_sent && s.next_superblock.newest == lsn)) return false;
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
    if (s.superblock_sent && s.next_superblock.map[page].block == block) return true;
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
    r.entries[r.entry_count++] = {static_cast<uint8_t>(n), c.page, c.data_block, c.version};
  }
  return records_.Number(r);
}

void Searcher::Advance(State& s) const {
  while (s.durable + 1 < s.next && s.commits[s.durable + 1].state == kDurable) {
    const Commit& c = s.commits[++s.durable];
    // Claims never become less, so the record before claims no more than this one.
    s.settled_twice = std::max(s.settled_twice, s.settled);
    s.settled = std::max(s.settled, c.claim);
    if (!c.last_of_chain) continue;
    for (int n = s.durable; n > 0 && (n == s.durable || !s.commits[n].last_of_chain); --n) {
      const Commit& part = s.commits[n];
      if (part.page != kNone) s.acknowledged[part.page] = std::max(s.acknowledged[part.page], part.version);
    }
  }
  for (int n = 1; n <= s.settled; ++n) {
    const Commit& c = s.commits[n];
    if (c.page != kNone) s.settled_version[c.page] = std::max(s.settled_version[c.page], c.version);
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

// The lane goes on in the next segment, and one more segment is taken. Returns false if there is none.
bool Searcher::MoveLane(State& s, Lane& lane) {
  std::set<int> named;
  for (int segment = 0; segment < b_.segments; ++segment) {
    if (NamedSegment(s, segment)) named.insert(segment);
  }
  const auto taken = TakeSegment(s, named);
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
  s.map[page] = {static_cast<uint8_t>(block), version, static_cast<uint8_t>(lsn)};
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
                       0,
                       kNone,
                       kNone,
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
  request = {s.next, kCommit, durable_by_itself, 0, {}, {}};
  if (c.page != kNone) {
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
void Searcher::SendAlone(const State& s0, int page, const Emit& emit) {
  if (s0.durable + 1 != s0.next || s0.next + 1 >= kLsnMax) return;
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
  bool moved = false;
  if (needed > b_.segment_blocks) return;
  if (at + needed > b_.segment_blocks) {
    if (!MoveLane(s, lane)) return;
    at = overwritten = 0;
    moved = true;
    // So a record lies in a segment that its base names, and that the base of its base names too.
    if (Holds(Rule::kOneMoveForEachBase) && s.moves > 0) new_base = true;
  }
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
  } else {
    --s.settling_left;
  }
  lane.used = static_cast<uint8_t>(at + needed);
  lane.last = static_cast<uint8_t>(lsn);
  s.turn = static_cast<uint8_t>((s.turn + 1) % b_.lanes);
  if (!FinishRecord(s, true)) return;
  result_.overwritten_records += overwritten != 0;
  result_.base_changes += new_base;
  emit(s, absl::StrCat("alone: ", lsn,
                       page < 0 ? " (no data)" : absl::StrCat(" ", Name(Data(page, s.submitted[page]))),
                       " to block ", first, ", base ", base, ", claim ", int{s.commits[lsn].claim},
                       overwritten ? absl::StrCat(", over record ", overwritten) : "",
                       moved ? ", lane moved" : ""));
}

// Other commits may be on their way. The record goes behind the records before it, and repeats nothing.
void Searcher::SendWithOthers(const State& s0, int page, const Emit& emit) {
  if (s0.next - 1 - s0.durable >= b_.in_flight) return;
  State s = s0;
  Lane& records = s.lanes[b_.lanes];
  s.moves = 0;
  if (records.used == b_.segment_blocks) {
    if (!MoveLane(s, records)) return;
    s.moves = 1;
  }
  const auto block = DataBlock(s);
  if (!block) return;
  const int lsn = s.next;
  StartRecord(s, BlockOf(records.segment, records.used), lsn - 1, true);
  if (!Map(s, lsn, page, *block)) return;
  ++records.used;
  records.last = static_cast<uint8_t>(lsn);
  --s.commits_left;
  if (!FinishRecord(s, false)) return;
  emit(s,
       absl::StrCat("with others: ", lsn, " ", Name(Data(page, s.submitted[page])), " to block ", *block,
                    ", record to block ", int{s.commits[lsn].block}, ", claim ", int{s.commits[lsn].claim}));
}

// Both pages, in two records that count only together.
void Searcher::SendChain(const State& s0, const Emit& emit) {
  if (s0.next - s0.durable >= b_.in_flight) return;
  State s = s0;
  const int first = s.next;
  for (int page = 0; page < kPages; ++page) {
    Lane& records = s.lanes[b_.lanes];
    s.moves = 0;
    if (records.used == b_.segment_blocks) {
      if (!MoveLane(s, records)) return;
      s.moves = 1;
    }
    const auto block = DataBlock(s);
    if (!block) return;
    const int lsn = s.next;
    StartRecord(s, BlockOf(records.segment, records.used), lsn - 1, page + 1 == kPages);
    if (!Map(s, lsn, page, *block)) return;
    ++records.used;
    records.last = static_cast<uint8_t>(lsn);
    if (!FinishRecord(s, false)) return;
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
  emit(s,
       absl::StrCat("chain ", first, "-", int{last}, " X", int{s.submitted[0]}, " Y", int{s.submitted[1]}));
}

void Searcher::CompleteRequest(const State& s0, int index, const Emit& emit) {
  State s = s0;
  const Request request = s.requests[index];
  s.requests[index] = s.requests[--s.request_count];
  for (int i = 0; i < request.blocks; ++i) {
    Block& block = s.blocks[request.block[i]];
    if (request.durable_by_itself) block.copies = 0;
    if (block.copies == kCopiesMax) return;
    block.copy[block.copies++] = request.content[i];
  }
  if (request.purpose == kOpening) {
    s.mode = kOpeningCompleted;
  } else {
    s.commits[request.lsn].state = request.durable_by_itself ? kDurable : kCompleted;
    if (request.durable_by_itself && !Holds(Rule::kDurableIsNoFlush)) {
      for (int n = 1; n < s.next; ++n) {
        if (s.commits[n].state == kCompleted) s.commits[n].state = kDurable;
      }
    }
    Advance(s);
  }
  emit(s, absl::StrCat("write of ", int{request.lsn}, " completes; durable ", int{s.durable}));
}

void Searcher::Flush(const State& s0, const Emit& emit) {
  bool dirty = s0.mode == kOpeningCompleted;
  for (int n = 1; n < s0.next; ++n) dirty |= s0.commits[n].state == kCompleted;
  if (!dirty) return;
  State s = s0;
  for (Block& block : s.blocks) {
    block.copy[0] = block.copy[block.copies - 1];
    block.copies = 1;
  }
  for (int n = 1; n < s.next; ++n) {
    if (s.commits[n].state == kCompleted) s.commits[n].state = kDurable;
  }
  if (s.mode == kOpeningCompleted) {
    s.superblock_sent = 1;
    s.mode = kOpeningSuperblockSent;
  } else {
    Advance(s);
  }
  emit(s, absl::StrCat("flush; durable ", int{s.durable}));
}

void Searcher::BeginCheckpoint(const State& s0, const Emit& emit) {
  int durable = s0.durable;
  while (Holds(Rule::kClaimChainEnds) && durable > 0 && !s0.commits[durable].last_of_chain) --durable;
  if (durable <= s0.superblock.checkpoint) return;
  const int newest = Holds(Rule::kNameDurableRecord) ? durable : s0.next - 1;
  if (s0.commits[newest].block == kNone) return;
  State s = s0;
  --s.checkpoints_left;
  Superblock& sb = s.next_superblock;
  sb = s.superblock;
  sb.epoch = s.epoch;
  sb.newest = static_cast<uint8_t>(newest);
  sb.newest_block = s.commits[newest].block;
  sb.newest_record = s.commits[newest].record;
  for (int n = sb.checkpoint + 1; n <= durable; ++n) {
    const Commit& c = s.commits[n];
    if (c.page != kNone) sb.map[c.page] = {c.data_block, c.version, 0};
  }
  sb.checkpoint = static_cast<uint8_t>(durable);
  s.superblock_sent = 1;
  emit(s, absl::StrCat("checkpoint ", int{sb.checkpoint}, " names record ", newest));
}

void Searcher::CompleteSuperblock(const State& s0, const Emit& emit) {
  State s = s0;
  s.superblock = s.next_superblock;
  s.superblock_sent = 0;
  for (int n = 1; n <= s.superblock.checkpoint; ++n) {
    if (n != s.superblock.newest) s.commits[n].block = kNone;
  }
  // A superblock is there twice.
  s.settled = std::max(s.settled, s.superblock.newest);
  s.settled_twice = std::max(s.settled_twice, s.superblock.newest);
  if (s.mode == kOpeningSuperblockSent) {
    // From here on callers see what recovery has found.
    for (int page = 0; page < kPages; ++page) {
      for (int v = s.map[page].version + 1; v <= s.submitted[page]; ++v) s.dropped[page] |= 1u << v;
      s.acknowledged[page] = s.settled_version[page] = s.map[page].version;
    }
    s.mode = kRunning;
  }
  emit(s, absl::StrCat("superblock of epoch ", int{s.superblock.epoch}, " counts"));
}

// ---- Crashes ----

void Searcher::Forget(State& s) const {
  s.mode = kDown;
  s.request_count = s.superblock_sent = 0;
  s.epoch = s.next = s.durable = s.settled = s.settled_twice = s.base = s.turn = s.displaced_count = 0;
  std::memset(s.lanes, 0, sizeof s.lanes);
  std::memset(s.next_segments, 0, sizeof s.next_segments);
  std::memset(s.commits, 0, sizeof s.commits);
  std::memset(s.map, 0, sizeof s.map);
}

void Searcher::CutPower(const State& s0, const Emit& emit) {
  std::vector<int> open;
  std::vector<std::vector<Content>> choices;
  for (int block = 0; block < BlockCount(); ++block) {
    std::set<Content> may(s0.blocks[block].copy, s0.blocks[block].copy + s0.blocks[block].copies);
    bool torn = may.size() > 1;
    for (int i = 0; i < s0.request_count; ++i) {
      for (int j = 0; j < s0.requests[i].blocks; ++j) {
        if (s0.requests[i].block[j] == block) may.insert(s0.requests[i].content[j]), torn = true;
      }
    }
    if (torn) may.insert(kTorn);
    if (may.size() < 2) continue;
    open.push_back(block);
    choices.emplace_back(may.begin(), may.end());
  }
  for (int with_superblock = 0; with_superblock <= s0.superblock_sent; ++with_superblock) {
    std::vector<size_t> pick(open.size(), 0);
    while (true) {
      State s = s0;
      --s.cuts_left;
      if (with_superblock) s.superblock = s.next_superblock;
      std::string what = absl::StrCat("POWER CUT; superblock ", with_superblock ? "new" : "old");
      for (int block = 0; block < BlockCount(); ++block) {
        s.blocks[block].copy[0] = Read(s, block);
        s.blocks[block].copies = 1;
      }
      for (size_t i = 0; i < open.size(); ++i) {
        s.blocks[open[i]].copy[0] = choices[i][pick[i]];
        absl::StrAppend(&what, " ", open[i], "=", Name(choices[i][pick[i]]));
      }
      Forget(s);
      emit(s, what);
      for (int block = 0; s.rot_left && block < BlockCount(); ++block) {
        if (!IsRecord(Read(s, block))) continue;
        State rotten = s;
        --rotten.rot_left;
        rotten.blocks[block].copy[0] = kTorn;
        emit(rotten, absl::StrCat(what, "; ROT of ", Name(Read(s, block)), " in block ", block));
      }
      size_t i = 0;
      while (i < pick.size() && ++pick[i] == choices[i].size()) pick[i++] = 0;
      if (i == pick.size()) break;
    }
  }
}

// The disk's cache survives. Each block that is on its way lands, or does not.
void Searcher::Kill(const State& s0, const Emit& emit) {
  std::vector<std::pair<int, Content>> landing;
  for (int i = 0; i < s0.request_count; ++i) {
    for (int j = 0; j < s0.requests[i].blocks; ++j) {
      landing.push_back({s0.requests[i].block[j], s0.requests[i].content[j]});
    }
  }
  for (int with_superblock = 0; with_superblock <= s0.superblock_sent; ++with_superblock) {
    for (uint32_t which = 0; which < (1u << landing.size()); ++which) {
      State s = s0;
      --s.kills_left;
      if (with_superblock) s.superblock = s.next_superblock;
      bool fits = true;
      std::string what = absl::StrCat("KILL; superblock ", with_superblock ? "new" : "old");
      for (size_t i = 0; i < landing.size(); ++i) {
        if (!(which >> i & 1)) continue;
        Block& block = s.blocks[landing[i].first];
        if (block.copies == kCopiesMax)
          fits = false;
        else
          block.copy[block.copies++] = landing[i].second;
        absl::StrAppend(&what, " ", landing[i].first, "=", Name(landing[i].second));
      }
      if (!fits) continue;
      Forget(s);
      emit(s, what);
    }
  }
}

// ---- Recovery ----

Searcher::Recovered Searcher::Recover(const State& s) {
  Recovered out;
  const Superblock& sb = s.superblock;
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
  std::map<int, Entry> entries;
  std::set<int> middles;  // of chains
  for (const Record* r : out.chain) {
    for (int i = 0; i < r->entry_count; ++i) entries[r->entries[i].lsn] = r->entries[i];
    if (!r->last_of_chain) middles.insert(r->lsn);
  }
  if (Holds(Rule::kCheckUnsettledData)) {
    for (const auto& [lsn, e] : entries) {
      if (lsn > out.claim && lsn <= out.end && lsn > sb.checkpoint &&
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
    if (lsn > sb.checkpoint && lsn <= out.end) {
      out.map[e.page] = {e.block, e.version, static_cast<uint8_t>(lsn)};
    }
  }
  return out;
}

void Searcher::Judge(const State& s, const Recovered& r, bool rotten) {
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
    if (m.block != kNone && Read(s, m.block) != Data(page, m.version)) {
      violation_ = absl::StrCat(name, int{m.version}, " is mapped to block ", int{m.block}, ", which holds ",
                                Name(Read(s, m.block)));
      return;
    }
    // Damage to the last unsettled records cannot be told from a power cut (promise 9).
    const int least = rotten ? s.settled_version[page] : s.acknowledged[page];
    if (m.version < least) {
      violation_ = absl::StrCat(name, least, " was acknowledged, and recovery finds ", name, int{m.version});
      return;
    }
    if (s.dropped[page] >> m.version & 1) {
      violation_ = absl::StrCat(name, int{m.version}, " had been dropped, and is back");
      return;
    }
  }
}

void Searcher::Open(const State& s0, const Emit& emit) {
  State s = s0;
  const Recovered r = Recover(s);
  Judge(s, r, s.rot_left < b_.rotten_blocks);
  if (!violation_.empty() || !r.damage.empty()) {
    s.mode = kDamaged;
    emit(s, absl::StrCat("recovery: ", r.damage));
    return;
  }
  if (r.end < r.chain.front()->lsn) ++result_.dropped_commits;
  const Superblock& sb = s.superblock;
  s.epoch = Holds(Rule::kEpochOfItsOwn) ? ++s.epochs : static_cast<uint8_t>(sb.epoch + 1);
  std::memcpy(s.map, r.map, sizeof s.map);
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
    s.lanes[0].segment = top.segments[top.segment_count - kNextSegments];
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
       0,
       kNone,
       kNone,
       0};
  c.record = MakeRecord(s, lsn, block, holder->base, holder->base_block, holder->base_record);
  s.base = holder->base;
  s.next = static_cast<uint8_t>(lsn + 1);
  s.durable = static_cast<uint8_t>(lsn);
  s.settled = static_cast<uint8_t>(r.end);
  Superblock& next = s.next_superblock;
  next = sb;
  next.epoch = s.epoch;
  next.newest = static_cast<uint8_t>(lsn);
  next.newest_block = static_cast<uint8_t>(block);
  next.newest_record = c.record;
  s.requests[s.request_count++] = {static_cast<uint8_t>(lsn),        kOpening,     0, 1,
                                   {static_cast<uint8_t>(block), 0}, {c.record, 0}};
  s.mode = kOpeningSent;
  if (!Holds(Rule::kOpeningRecordFirst)) {
    s.superblock_sent = 1;
    s.mode = kOpeningSuperblockSent;
  }
  emit(s, absl::StrCat("opens at ", r.end, " (claim ", r.claim, ", X", int{r.map[0].version}, " Y",
                       int{r.map[1].version}, "); opening record ", lsn, " of epoch ", int{s.epoch},
                       " to block ", block));
}

// ---- The search ----

State Searcher::Initial() {
  State s;
  std::memset(&s, 0, sizeof s);
  for (int i = 0; i < BlockCount(); ++i) s.blocks[i].copies = 1;
  for (int n = 0; n < kLsnMax; ++n) s.commits[n].block = s.commits[n].page = kNone;
  s.epoch = s.epochs = 1;
  for (int i = 0; i <= b_.lanes; ++i) s.lanes[i] = {static_cast<uint8_t>(i), 0, 0};
  for (int i = 0; i < kNextSegments; ++i) s.next_segments[i] = static_cast<uint8_t>(b_.lanes + 1 + i);
  for (int page = 0; page < kPages; ++page) s.map[page] = s.superblock.map[page] = {kNone, 0, 0};
  // A new store has one record, which its superblock names.
  s.commits[1] = {kDurable, 0, 0, 0, 1, 1, 0, kNone, kNone, 0};
  s.lanes[0].used = 1;
  s.lanes[0].last = 1;
  s.turn = static_cast<uint8_t>(1 % b_.lanes);
  s.commits[1].record = MakeRecord(s, 1, 0, 0, 0, 0);
  s.blocks[0].copy[0] = s.commits[1].record;
  s.next = 2;
  s.durable = s.settled = s.settled_twice = 1;
  s.superblock.epoch = 1;
  s.superblock.newest = 1;
  s.superblock.newest_record = s.commits[1].record;
  s.commits_left = static_cast<uint8_t>(b_.commits);
  s.chains_left = static_cast<uint8_t>(b_.chains);
  s.settling_left = static_cast<uint8_t>(b_.settling);
  s.checkpoints_left = static_cast<uint8_t>(b_.checkpoints);
  s.cuts_left = static_cast<uint8_t>(b_.power_cuts);
  s.kills_left = static_cast<uint8_t>(b_.kills);
  s.rot_left = static_cast<uint8_t>(b_.rotten_blocks);
  return s;
}

void Searcher::Successors(const State& s, const Emit& emit) {
  if (s.mode == kDamaged) return;
  if (s.cuts_left && s.mode != kDown) CutPower(s, emit);
  if (s.kills_left && s.mode != kDown) Kill(s, emit);
  if (s.mode == kDown) {
    Open(s, emit);
    return;
  }
  for (int i = 0; i < s.request_count; ++i) CompleteRequest(s, i, emit);
  if (s.superblock_sent) CompleteSuperblock(s, emit);
  if (s.mode == kOpeningCompleted) {
    Flush(s, emit);
    return;
  }
  if (s.mode != kRunning) return;
  Flush(s, emit);
  if (s.checkpoints_left && !s.superblock_sent) BeginCheckpoint(s, emit);
  if (s.commits_left) {
    // The pages are alike, so Y is written only after X.
    for (int page = 0; page <= (s.submitted[0] > 0); ++page) {
      SendAlone(s, page, emit);
      if (b_.in_flight > 1) SendWithOthers(s, page, emit);
    }
  }
  if (s.chains_left) SendChain(s, emit);
  if (s.settling_left) SendAlone(s, -1, emit);
}

struct Fingerprint {
  uint64_t a, b;
  bool operator==(const Fingerprint&) const = default;
};
struct FingerprintHash {
  size_t operator()(const Fingerprint& f) const { return f.a; }
};
Fingerprint FingerprintOf(const State& s) {
  static_assert(sizeof(State) % 4 == 0);
  const auto* bytes = reinterpret_cast<const unsigned char*>(&s);
  uint64_t a = 0x9e3779b97f4a7c15, b = 0xc2b2ae3d27d4eb4f;
  for (size_t i = 0; i < sizeof s; i += 4) {
    uint32_t word;
    std::memcpy(&word, bytes + i, 4);
    a = (a ^ word) * 0xff51afd7ed558ccd;
    a ^= a >> 32;
    b = (b + word) * 0xc4ceb9fe1a85ec53;
    b ^= b >> 29;
  }
  return {a, b};
}

SearchResult Searcher::Run() {
  // A state is found again by the numbers of the choices that lead to it.
  struct Node {
    uint32_t parent, choice;
  };
  std::vector<Node> nodes{{0, 0}};
  std::unordered_set<Fingerprint, FingerprintHash> seen;
  std::vector<std::pair<State, uint32_t>> frontier, next;
  State initial = Initial();
  Canonical(initial);
  seen.insert(FingerprintOf(initial));
  frontier.push_back({initial, 0});
  const auto trace = [&](uint32_t node) {
    std::vector<uint32_t> choices;
    for (; node != 0; node = nodes[node].parent) choices.push_back(nodes[node].choice);
    violation_.clear();
    State s = initial;
    for (auto it = choices.rbegin(); it != choices.rend(); ++it) {
      uint32_t choice = 0;
      State chosen;
      std::string step;
      Successors(s, [&](const State& to, const std::string& what) {
        if (choice++ == *it) chosen = to, step = what;
      });
      Canonical(chosen);
      s = chosen;
      result_.trace.push_back(step);
    }
  };
  while (!frontier.empty() && result_.violation.empty()) {
    for (const auto& [s, node] : frontier) {
      uint32_t choice = 0;
      Successors(s, [&](const State& to, const std::string& what) {
        const uint32_t mine = choice++;
        if (!result_.violation.empty()) return;
        if (!violation_.empty()) {
          result_.violation = violation_;
          trace(node);
          result_.trace.push_back(what);
          return;
        }
        State canonical = to;
        Canonical(canonical);
        if (!seen.insert(FingerprintOf(canonical)).second) return;
        nodes.push_back({node, mine});
        next.push_back({canonical, static_cast<uint32_t>(nodes.size() - 1)});
      });
      if (!result_.violation.empty()) break;
      if (seen.size() > b_.states_max) break;
    }
    result_.states = seen.size();
    if (seen.size() > b_.states_max) return result_;
    frontier.swap(next);
    next.clear();
  }
  result_.states = seen.size();
  result_.exhausted = result_.violation.empty();
  return result_;
}

}  // namespace

const char* RuleName(Rule rule) {
  switch (rule) {
    case Rule::kOverwriteTwiceRepeated:
      return "overwrite-twice-repeated";
    case Rule::kOverwriteRepeated:
      return "overwrite-repeated";
    case Rule::kKeepBases:
      return "keep-bases";
    case Rule::kKeepWhatSuperblockNames:
      return "keep-what-superblock-names";
    case Rule::kNameDurableRecord:
      return "name-durable-record";
    case Rule::kEpochOfSuperblock:
      return "epoch-of-superblock";
    case Rule::kEpochOfItsOwn:
      return "epoch-of-its-own";
    case Rule::kOpeningRecordFirst:
      return "opening-record-first";
    case Rule::kOpeningPlaceUnused:
      return "opening-place-unused";
    case Rule::kVouch:
      return "vouch";
    case Rule::kNameNextSegments:
      return "name-next-segments";
    case Rule::kOneMoveForEachBase:
      return "one-move-for-each-base";
    case Rule::kNotBeforeSuperblock:
      return "not-before-superblock";
    case Rule::kScanToTheClaim:
      return "scan-to-the-claim";
    case Rule::kCheckUnsettledData:
      return "check-unsettled-data";
    case Rule::kDurableIsNoFlush:
      return "durable-is-no-flush";
    case Rule::kClaimPrefix:
      return "claim-prefix";
    case Rule::kClaimChainEnds:
      return "claim-chain-ends";
    case Rule::kEndAtChainEnd:
      return "end-at-chain-end";
    case Rule::kReuseSettled:
      return "reuse-settled";
    case Rule::kSettledTwice:
      return "settled-twice";
    case Rule::kReuseDisplaced:
      return "reuse-displaced";
    case Rule::kDisplacedSettled:
      return "displaced-settled";
    case Rule::kCount:
      break;
  }
  return "?";
}

SearchResult Search(const Bounds& bounds, const std::set<Rule>& dropped) {
  return Searcher(bounds, dropped).Run();
}

}  // namespace untorn::protocol
