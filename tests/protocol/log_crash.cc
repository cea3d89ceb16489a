// What a power cut or a kill leaves on the disk of the model.
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/protocol/log_searcher.h"

namespace untorn::protocol {

void Searcher::Forget(State& s) const {
  s.mode = kDown;
  s.request_count = s.stage = 0;
  std::memset(&s.superblock, 0, sizeof s.superblock);
  std::memset(&s.next_superblock, 0, sizeof s.next_superblock);
  s.epoch = s.next = s.durable = s.settled = s.settled_twice = s.displaced_count = 0;
  s.position = s.in_ring = 0;
  s.previous = 0;
  std::memset(s.lanes, 0, sizeof s.lanes);
  std::memset(s.commits, 0, sizeof s.commits);
  std::memset(s.map, 0, sizeof s.map);
  std::memset(s.opened_by, 0, sizeof s.opened_by);
  std::memset(s.newest, 0, sizeof s.newest);
  std::memset(s.known, 0, sizeof s.known);
}

void Searcher::CutPower(const State& s0, const Emit& emit) {
  std::vector<int> open;
  std::vector<std::vector<Content>> choices;
  for (int block = 0; block < DiskBlocks(); ++block) {
    std::set<Content> may(s0.blocks[block].copy, s0.blocks[block].copy + s0.blocks[block].copies);
    bool torn = false;
    for (int i = 1; i < s0.blocks[block].copies; ++i) torn |= !(s0.blocks[block].atomic >> i & 1);
    for (int i = 0; i < s0.request_count; ++i) {
      for (int j = 0; j < s0.requests[i].blocks; ++j) {
        if (s0.requests[i].block[j] != block) continue;
        may.insert(s0.requests[i].content[j]);
        // The device keeps an overwrite in place whole.
        torn |= s0.requests[i].purpose != kInPlace;
      }
    }
    if (torn) may.insert(kTorn);
    if (may.size() < 2) continue;
    open.push_back(block);
    choices.emplace_back(may.begin(), may.end());
  }
  std::vector<size_t> pick(open.size(), 0);
  while (true) {
    State s = s0;
    --s.cuts_left;
    std::string what = Tell("POWER CUT;");
    for (int block = 0; block < DiskBlocks(); ++block) {
      s.blocks[block].copy[0] = Read(s, block);
      s.blocks[block].copies = 1;
      s.blocks[block].atomic = 0;
    }
    for (size_t i = 0; i < open.size(); ++i) {
      s.blocks[open[i]].copy[0] = choices[i][pick[i]];
      if (telling_) absl::StrAppend(&what, " ", BlockName(open[i]), "=", Name(choices[i][pick[i]]));
    }
    Forget(s);
    emit(s, what);
    for (int block = 0; block < DiskBlocks(); ++block) Rot(s, block, what, emit);
    size_t i = 0;
    while (i < pick.size() && ++pick[i] == choices[i].size()) pick[i++] = 0;
    if (i == pick.size()) break;
  }
}

void Searcher::Rot(const State& s0, int block, const std::string& what, const Emit& emit) {
  State s = s0;
  const Content held = Read(s, block);
  if (IsRecord(held) && s.rot_left) {
    --s.rot_left;
  } else if (IsSuperblock(held) && s.slot_rot_left) {
    --s.slot_rot_left;
  } else {
    return;
  }
  s.blocks[block].copy[0] = kTorn;
  emit(s, Tell(what, "; ROT of ", Name(held), " in ", BlockName(block)));
}

// The disk's cache survives. Each block that is on its way lands, or does not.
void Searcher::Kill(const State& s0, const Emit& emit) {
  struct Landing {
    int block;
    Content content;
    bool atomic;
  };
  std::vector<Landing> landing;
  for (int i = 0; i < s0.request_count; ++i) {
    for (int j = 0; j < s0.requests[i].blocks; ++j) {
      landing.push_back(
          {s0.requests[i].block[j], s0.requests[i].content[j], s0.requests[i].purpose == kInPlace});
    }
  }
  for (uint32_t which = 0; which < (1u << landing.size()); ++which) {
    State s = s0;
    --s.kills_left;
    bool fits = true;
    std::string what = Tell("KILL;");
    for (size_t i = 0; i < landing.size(); ++i) {
      if (!(which >> i & 1)) continue;
      Block& block = s.blocks[landing[i].block];
      if (block.copies == kCopiesMax) {
        fits = false;
      } else {
        block.atomic = static_cast<uint16_t>(block.atomic | landing[i].atomic << block.copies);
        block.copy[block.copies++] = landing[i].content;
      }
      if (telling_) absl::StrAppend(&what, " ", BlockName(landing[i].block), "=", Name(landing[i].content));
    }
    if (!fits) continue;
    Forget(s);
    emit(s, what);
  }
}

}  // namespace untorn::protocol
