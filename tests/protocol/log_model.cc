#include "tests/protocol/log_model.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <iterator>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "tests/protocol/log_searcher.h"

namespace untorn::protocol {

std::string Searcher::Name(Content content) const {
  if (content == kBlank) return "-";
  if (content == kTorn) return "torn";
  if (IsRecord(content)) {
    const Record& r = records_[content];
    return absl::StrCat(r.in_ring ? "R" : "T", int{r.first}, "-", int{r.lsn}, "e", int{r.epoch});
  }
  if (IsSuperblock(content))
    return absl::StrCat("S", int{superblocks_[content].generation}, "e", int{superblocks_[content].epoch});
  const int data = content - kFirstData;
  return absl::StrCat(data / kVersionsMax ? "Y" : "X", data % kVersionsMax);
}

std::string Searcher::BlockName(int block) const {
  if (block < BlockCount()) return absl::StrCat(block);
  if (block < SlotInUse()) return absl::StrCat("ring ", block - BlockCount());
  return block == SlotInUse() ? "slot" : "spare slot";
}

// Makes states equal that differ only in what nobody will read.
void Searcher::Canonical(State& s) {
  std::sort(s.requests, s.requests + s.request_count,
            [](const Request& a, const Request& b) { return std::memcmp(&a, &b, sizeof a) < 0; });
  std::memset(s.requests + s.request_count, 0, sizeof(Request) * (kRequestsMax - s.request_count));
  for (Block& block : s.blocks) {
    for (int i = block.copies; i < kCopiesMax; ++i) block.copy[i] = 0;
  }
  if (s.stage == kNoNext && s.mode != kFoldSent) std::memset(&s.next_superblock, 0, sizeof s.next_superblock);
  std::memset(s.displaced + s.displaced_count, 0, sizeof(Displaced) * (kDisplacedMax - s.displaced_count));
}

State Searcher::Initial() {
  State s;
  std::memset(&s, 0, sizeof s);
  for (int i = 0; i < DiskBlocks(); ++i) s.blocks[i].copies = 1;
  for (Commit& c : s.commits) c.block = c.page = kNone;
  for (Lane& lane : s.lanes) lane = {kNone, 0, 0, kNone};
  for (int page = 0; page < kPages; ++page) s.map[page] = s.superblock.map[page] = {kNone, 0, 0, 0};
  s.epoch = s.next = s.superblock.generation = s.superblock.epoch = 1;
  if (b_.named_at_first) {
    for (int i = 0; i < b_.lanes; ++i) {
      s.lanes[i].next = static_cast<uint8_t>(i);
      s.superblock.names = static_cast<Extents>(s.superblock.names | 1 << i);
    }
  }
  s.blocks[SlotInUse()].copy[0] = s.blocks[SpareSlot()].copy[0] = superblocks_.Number(s.superblock);
  s.commits_left = static_cast<uint8_t>(b_.commits);
  s.chains_left = static_cast<uint8_t>(b_.chains);
  s.settling_left = static_cast<uint8_t>(b_.settling);
  s.openings_left = static_cast<uint8_t>(b_.openings);
  s.in_place_left = static_cast<uint8_t>(b_.in_place);
  s.checkpoints_left = static_cast<uint8_t>(b_.checkpoints);
  s.cuts_left = static_cast<uint8_t>(b_.power_cuts);
  s.kills_left = static_cast<uint8_t>(b_.kills);
  s.rot_left = static_cast<uint8_t>(b_.rotten_blocks);
  s.large_left = static_cast<uint8_t>(b_.large);
  s.giving_back_left = static_cast<uint8_t>(b_.giving_back);
  s.slot_rot_left = static_cast<uint8_t>(b_.rotten_slots);
  s.lost_left = static_cast<uint8_t>(b_.lost_slot_writes);
  return s;
}

void Searcher::Successors(const State& s, const Emit& emit) {
  if (s.mode == kDamaged) return;
  const bool opens_next = s.mode == kDown || s.mode == kFlushed;
  if (s.cuts_left && !opens_next) CutPower(s, emit);
  if (s.kills_left && !opens_next) Kill(s, emit);
  if (opens_next) {
    Open(s, emit);
    return;
  }
  for (int i = 0; i < s.request_count; ++i) CompleteRequest(s, i, emit);
  Flush(s, emit);
  if (s.mode != kRunning) return;
  if (s.checkpoints_left && s.stage == kNoNext) BeginCheckpoint(s, emit);
  if (s.stage == kFrozen) EndCheckpoint(s, emit);
  if (s.commits_left) {
    // The pages are alike, so Y is written only after X.
    for (int page = 0; page <= (s.submitted[0] > 0); ++page) SendPage(s, page, emit);
  }
  if (s.chains_left) SendChain(s, emit);
  if (s.settling_left) SendToRing(s, -1, emit);
  if (s.giving_back_left) GiveLanesBack(s, emit);
  for (int page = 0; page < kPages; ++page) {
    const Mapping& m = s.map[page];
    if (s.openings_left && m.block != kNone && !m.open) SendToRing(s, -1, emit, page);
    if (s.in_place_left) OverwriteInPlace(s, page, emit);
    if (b_.in_place > 0) ReadPage(s, page, emit);
  }
}

// A commit goes to a lane if it finds room there and is not too large.
void Searcher::SendPage(const State& s, int page, const Emit& emit) {
  if (!SendToLane(s, page, emit)) {
    SendToRing(s, page, emit);
  } else if (s.large_left) {
    State large = s;
    --large.large_left;
    SendToRing(large, page, emit);
  }
}

namespace {

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

}  // namespace

SearchResult Searcher::Run() {
  // A state is found again by the numbers of the choices that lead to it.
  struct Node {
    uint32_t parent, choice;
  };
  std::vector<Node> nodes{{0, 0}};
  std::unordered_set<Fingerprint, FingerprintHash> seen;
  std::deque<std::pair<State, uint32_t>> frontier, next;
  State initial = Initial();
  Canonical(initial);
  seen.insert(FingerprintOf(initial));
  frontier.push_back({initial, 0});
  const auto trace = [&](uint32_t node, uint32_t last) {
    std::vector<uint32_t> choices{last};
    for (; node != 0; node = nodes[node].parent) choices.push_back(nodes[node].choice);
    violation_.clear();
    telling_ = true;
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
      Successors(s, [&](const State& to, const std::string&) {
        const uint32_t mine = choice++;
        if (!result_.violation.empty()) return;
        if (!violation_.empty()) {
          result_.violation = violation_;
          trace(node, mine);
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

const char* RuleName(Rule rule) {
  // In the order of the rules.
  static constexpr const char* kNames[] = {
      "alone",
      "overwrite-twice-repeated",
      "overwrite-repeated",
      "keep-retired",
      "repeat-all",
      "extent-named",
      "extent-named-twice",
      "name-extents",
      "fold-first",
      "fold-names",
      "keep-ring",
      "room-for-fold",
      "follow-folded",
      "open-flushes-first",
      "slots-agree",
      "opening-folds",
      "fold-before-superblock",
      "next-epoch",
      "epoch-of-superblock",
      "old-epochs-count",
      "lane-record-epoch",
      "names-behind-end",
      "lanes-before-vouchers",
      "vouch",
      "lane-records-claim",
      "names-newer-superblock",
      "check-unsettled-data",
      "strict-beyond-claim",
      "end-inside-record",
      "end-at-chain-end",
      "slots-in-turn",
      "counts-in-both-slots",
      "name-durable-record",
      "durable-is-no-flush",
      "claim-prefix",
      "claim-chain-ends",
      "reuse-settled-twice",
      "reuse-displaced",
      "displaced-settled",
      "in-place-settled",
      "in-place-opened",
      "close-in-memory",
      "carry-what-is-flushed",
      "close-what-is-known",
  };
  static_assert(std::size(kNames) == static_cast<size_t>(Rule::kCount));
  return kNames[static_cast<size_t>(rule)];
}

SearchResult Search(const Bounds& bounds, const std::set<Rule>& dropped) {
  return Searcher(bounds, dropped).Run();
}

}  // namespace untorn::protocol
