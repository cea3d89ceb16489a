// The protocol of leases (extent/lease.h) within small bounds: an owner, one page, three blocks, and a reader, in every order
// of their steps. What a reader believes is the state that was leased, and that state has all that was durable when the
// reader asked. Each rule is needed. Promise 2, beside an owner.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <iostream>
#include <ostream>
#include <string>
#include <unordered_set>
#include <vector>

namespace untorn::protocol {
namespace {

enum class Dropped {
  kNothing,
  kProtect,         // leased blocks are reused
  kNotInPlace,      // leased blocks are overwritten in place
  kStopOverwrites,  // overwrites go on while the checkpoint is made
  kRevokeFirst,     // blocks are free before the lease is revoked
  kLookAfterRead,   // the reader does not look at its lease after a read
  kLookAfterHold,   // nor when it takes the lease up
  kNextRound,       // the reader is content with a round that had begun before it asked
  kDieAtOnce,       // a new owner begins before the locks of the old one have ended
};
std::ostream& operator<<(std::ostream& out, Dropped dropped) { return out << static_cast<int>(dropped); }

constexpr int kBlocks = 3, kLeases = 2, kVersionsMax = 4, kGenerationsMax = 4, kRoundsMax = 2, kDeathsMax = 1;

struct Lease {
  uint8_t generation = 0;  // 0: none
  uint8_t block = 0;
  bool is_protected = false, granted = false;
};

// One byte for each thing, so states are compared and hashed as bytes.
struct State {
  std::array<uint8_t, kBlocks> content{1, 0, 0};
  // The owner. `version` is durable, in block `at`.
  uint8_t at = 0, version = 1;
  uint8_t generation = 1, tree_at = 0, tree_version = 1;  // the superblock on the device
  uint8_t frozen = 0, frozen_at = 0, frozen_version = 0;  // a checkpoint is being made
  uint8_t begun = 0, done = 0, round = 0;  // 1: overwrites have stopped; 2: its checkpoint is begun; 3: made
  uint8_t deaths = 0;
  std::array<Lease, kLeases> leases;
  uint8_t stale_generation = 0;  // kDieAtOnce: what the old owner had granted last, and still seems to
  // The reader.
  enum Reader : uint8_t { kIdle, kAsking, kWaiting, kSeen, kHolding, kLeased, kRead } reader = kIdle;
  uint8_t asks = 0, need_after = 0, durable_when_asked = 0;
  uint8_t seen_generation = 0, seen_at = 0, seen_version = 0, got = 0, reads = 0;
};
static_assert(std::is_trivially_copyable_v<State>);

class Search {
 public:
  explicit Search(Dropped dropped) : dropped_(dropped) {}

  // "" or what went wrong, and how.
  std::string Run() {
    Push(State(), "", -1);
    while (!queue_.empty() && violation_.empty()) {
      const int at = queue_.front();
      queue_.pop_front();
      index_ = at;
      const State state = states_[at].state;
      OwnerSteps(state);
      ReaderSteps(state);
    }
    if (violation_.empty()) return "";
    std::string trace;
    for (int at = index_; at >= 0; at = states_[at].from)
      trace = std::string(states_[at].step) + "; " + trace;
    return violation_ + ": " + trace + last_step_;
  }

  size_t states() const { return states_.size(); }
  size_t leased() const { return leased_; }
  size_t lost() const { return lost_; }

 private:
  struct Node {
    State state;
    const char* step;
    int from;
  };

  void Push(const State& state, const char* step, int from) {
    if (!known_.emplace(reinterpret_cast<const char*>(&state), sizeof(State)).second) return;
    queue_.push_back(static_cast<int>(states_.size()));
    states_.push_back({state, step, from});
  }
  void Next(const State& state, const char* step) { Push(state, step, index_); }
  void Wrong(const char* what, const char* step) {
    if (!violation_.empty()) return;
    violation_ = what;
    last_step_ = step;
  }

  bool Protected(const State& s, int block) const {
    for (const Lease& lease : s.leases) {
      if (lease.is_protected && lease.block == block) return true;
    }
    return false;
  }
  bool Free(const State& s, int block) const {
    return block != s.at && block != s.tree_at && !(s.frozen && block == s.frozen_at) &&
           (!Protected(s, block) || dropped_ == Dropped::kProtect);
  }
  bool Granted(const State& s, uint8_t generation) const {
    for (const Lease& lease : s.leases) {
      if (lease.granted && lease.generation == generation) return true;
    }
    return s.stale_generation != 0 && s.stale_generation == generation;
  }

  void OwnerSteps(const State& s) {
    // A durable write by copy-on-write.
    for (int block = 0; block < kBlocks && s.version < kVersionsMax; ++block) {
      if (!Free(s, block)) continue;
      State next = s;
      next.content[block] = ++next.version;
      next.at = static_cast<uint8_t>(block);
      Next(next, "write");
    }
    // A durable write in place.
    const bool may_overwrite = s.round == 0 || dropped_ == Dropped::kStopOverwrites;
    if (s.version < kVersionsMax && may_overwrite &&
        (!Protected(s, s.at) || dropped_ == Dropped::kNotInPlace)) {
      State next = s;
      next.content[s.at] = ++next.version;
      Next(next, "overwrite in place");
    }
    CheckpointSteps(s);
    RoundSteps(s);
    for (int i = 0; i < kLeases; ++i) LeaseSteps(s, i);
    // The owner is killed, and another one recovers. The locks of the first have ended.
    if (s.deaths < kDeathsMax && s.generation < kGenerationsMax) {
      State next = s;
      if (dropped_ == Dropped::kDieAtOnce) {
        for (const Lease& lease : s.leases) {
          if (lease.granted) next.stale_generation = lease.generation;
        }
      }
      ++next.deaths;
      ++next.generation;
      next.frozen = next.frozen_at = next.frozen_version = 0;
      next.begun = next.done = next.round = 0;
      next.leases = {};
      Next(next, "another owner");
    }
    if (s.stale_generation != 0) {
      State next = s;
      next.stale_generation = 0;
      Next(next, "the old owner's locks end");
    }
  }

  void CheckpointSteps(const State& s) {
    if (!s.frozen && s.generation < kGenerationsMax && s.round != 1) {
      State next = s;
      Freeze(&next);
      Next(next, "a checkpoint begins");
    }
    if (s.frozen) {
      State next = s;
      ++next.generation;
      next.tree_at = s.frozen_at;
      next.tree_version = s.frozen_version;
      next.frozen = next.frozen_at = next.frozen_version = 0;
      if (s.round == 2) next.round = 3;
      Next(next, "it is durable");
    }
  }
  static void Freeze(State* s) {
    s->frozen = 1;
    s->frozen_at = s->at;
    s->frozen_version = s->version;
  }

  void RoundSteps(const State& s) {
    const bool asked = s.reader == State::kAsking || s.reader == State::kWaiting || s.reader == State::kSeen;
    if (s.round == 0 && asked && s.begun < kRoundsMax) {
      State next = s;
      ++next.begun;
      next.round = 1;
      Next(next, "a round begins");
    }
    if (s.round == 1 && !s.frozen) {
      State next = s;
      const bool needed = s.at != s.tree_at || s.version != s.tree_version;
      if (!needed) {
        next.round = 3;
        Next(next, "no checkpoint is needed");
      } else if (s.generation < kGenerationsMax) {
        Freeze(&next);
        next.round = 2;
        Next(next, "the round's checkpoint begins");
      }
    }
    if (s.round == 3 && !s.frozen) {
      for (int i = 0; i < kLeases; ++i) {
        if (s.leases[i].generation != 0 && s.leases[i].generation != s.generation) continue;
        State next = s;
        next.leases[i] = {s.generation, s.tree_at, true, true};
        next.round = 0;
        ++next.done;
        Next(next, "grant");
        break;
      }
    }
  }

  void LeaseSteps(const State& s, int i) {
    const Lease& lease = s.leases[i];
    if (lease.generation == 0) return;
    // To revoke is to end the lock, and then the protection. Nothing waits for the reader.
    const bool unprotect_first = dropped_ == Dropped::kRevokeFirst;
    State next = s;
    if (lease.granted && lease.is_protected) {
      (unprotect_first ? next.leases[i].is_protected : next.leases[i].granted) = false;
      Next(next, unprotect_first ? "free the blocks" : "revoke");
    } else {
      next.leases[i] = {};
      Next(next, "the lease is over");
    }
  }

  void ReaderSteps(const State& s) {
    State next = s;
    switch (s.reader) {
      case State::kIdle:
        if (s.asks == 2) break;
        ++next.asks;
        next.durable_when_asked = s.version;
        next.reader = State::kAsking;
        Next(next, "ask");
        break;
      case State::kAsking:
        next.need_after = static_cast<uint8_t>(s.begun + (dropped_ == Dropped::kNextRound ? 0 : 1));
        next.reader = State::kWaiting;
        Next(next, "see the rounds begun");
        break;
      case State::kWaiting: {
        // All rounds of another owner began later.
        const uint8_t need = s.begun + 1 < s.need_after ? 1 : s.need_after;
        if (s.done < need) break;
        next.seen_generation = s.generation;
        next.seen_at = s.tree_at;
        next.seen_version = s.tree_version;
        next.reader = State::kSeen;
        Next(next, "read the superblock");
        break;
      }
      case State::kSeen:
        next.reader = State::kHolding;
        Next(next, "hold");
        break;
      case State::kHolding:
        if (Granted(s, s.seen_generation) || dropped_ == Dropped::kLookAfterHold) {
          ++leased_;
          if (s.seen_version < s.durable_when_asked)
            Wrong("what was durable is not in the lease", "take it up");
          next.reader = State::kLeased;
          Next(next, "take it up");
        } else {
          next.reader = State::kAsking;
          Next(next, "ask again");
        }
        break;
      case State::kLeased:
        if (s.reads == 1) break;
        ++next.reads;
        next.got = s.content[s.seen_at];
        next.reader = State::kRead;
        Next(next, "read");
        break;
      case State::kRead:
        if (Granted(s, s.seen_generation) || dropped_ == Dropped::kLookAfterRead) {
          if (s.got != s.seen_version) Wrong("the reader believes another state", "believe");
          next.reader = State::kLeased;
          Next(next, "believe");
        } else {
          ++lost_;
          next.reader = State::kIdle;
          next.seen_generation = next.seen_at = next.seen_version = next.got = 0;
          Next(next, "drop it");
        }
        break;
    }
  }

  const Dropped dropped_;
  std::vector<Node> states_;
  std::deque<int> queue_;
  std::unordered_set<std::string> known_;
  int index_ = -1;
  std::string violation_, last_step_;
  size_t leased_ = 0, lost_ = 0;
};

TEST(LeaseModelTest, ReaderSeesOneNewStateInEveryOrder) {
  Search search(Dropped::kNothing);
  EXPECT_EQ(search.Run(), "");
  EXPECT_GT(search.leased(), 1000u);
  EXPECT_GT(search.lost(), 1000u);
  std::cout << search.states() << " states" << std::endl;
}

class LeaseRuleTest : public testing::TestWithParam<Dropped> {};

TEST_P(LeaseRuleTest, IsNeeded) {
  const std::string found = Search(GetParam()).Run();
  EXPECT_NE(found, "");
  RecordProperty("found", found);
}

// kLookAfterHold is not among them: it spares a reader a lease that has ended before its first read.
INSTANTIATE_TEST_SUITE_P(All, LeaseRuleTest,
                         testing::Values(Dropped::kProtect, Dropped::kNotInPlace, Dropped::kStopOverwrites,
                                         Dropped::kRevokeFirst, Dropped::kLookAfterRead, Dropped::kNextRound,
                                         Dropped::kDieAtOnce));

}  // namespace
}  // namespace untorn::protocol
