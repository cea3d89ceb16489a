// Random changes against a model of what is accepted and what is durable: the invariants of cow/cow_fork.h.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cow/cow_fork.h"
#include "tests/rounds.h"

namespace untorn {
namespace {

using ObjectPtr = std::shared_ptr<ObjectState>;

BlockCount BlocksOf(const RangeSet& set) {
  BlockCount n;
  set.ForEach([&](BlockRange r) { n += r.count; });
  return n;
}

constexpr uint64_t kObjects = 2;
constexpr uint64_t kBlocks = 40;

// What each block holds as accepted and as durable: a letter, or 0 for zeros.
class CowForkModel {
 public:
  explicit CowForkModel(uint64_t seed) : random_(seed) {
    for (uint64_t i = 0; i < kObjects; ++i) {
      objects_.push_back(fork_.objects().Add({ObjectId{i + 1}, 0, "o"}));
      accepted_.push_back(std::string(kBlocks, '\0'));
      durable_.push_back(std::string(kBlocks, '\0'));
    }
  }

  void Step() {
    const uint64_t kind = Below(100);
    if (kind < 40) {
      Write();
    } else if (kind < 46) {
      Punch();
    } else if (kind < 50) {
      fork_.Barrier();
    } else if (kind < 68) {
      Freeze();
    } else if (kind < 82) {
      Complete();
    } else if (kind < 86) {
      Unfreeze();
    } else if (kind < 94) {
      Read();
    } else {
      fork_.pages().Evict(Below(2) ? 0 : Below(kObjects * kBlocks) * kBlockBytes);
    }
  }

  void Drain() {
    while (!fork_.pending().empty() || !committing_.empty()) {
      Freeze();
      Complete();
    }
    while (!reads_.empty()) FinishRead();
    Check();
    EXPECT_EQ(accepted_, durable_);
    EXPECT_EQ(fork_.dirty_blocks(), 0);
    for (const ObjectPtr& object : objects_) EXPECT_EQ(object->committing, 0);
    fork_.CheckInvariants();
    const BarrierEpoch epoch = fork_.epoch();
    fork_.Barrier();
    EXPECT_EQ(fork_.epoch(), epoch) << "something still counts as committing";
    fork_.pages().Evict(0);
    EXPECT_EQ(fork_.pages().memory_bytes(), 0u);
  }

  void Check() {
    fork_.CheckInvariants();
    for (uint64_t o = 0; o < kObjects; ++o) {
      for (uint64_t b = 0; b < kBlocks; ++b) {
        const Page* page = fork_.pages().Find(*objects_[o], ObjectBlock(b));
        if (page != nullptr && page->buffer) {
          ASSERT_EQ(static_cast<char>(page->buffer.data()[0]), accepted_[o][b]) << o << ":" << b;
        } else {
          ASSERT_TRUE(page == nullptr || page->pending == nullptr) << "a pending page is gone";
          const bool hole = InPendingHole(*objects_[o], ObjectBlock(b));
          ASSERT_EQ(accepted_[o][b], hole ? '\0' : durable_[o][b]) << o << ":" << b;
        }
      }
    }
    BlockCount dirty;
    std::set<std::tuple<BarrierEpoch, ObjectId, ObjectBlock>> blocks;
    std::map<std::pair<BarrierEpoch, ObjectId>, std::pair<int, bool>> sets;
    for (const ChangeSetRef& set : fork_.pending()) {
      ASSERT_EQ(set->state, ChangeSet::State::kPending);
      BlockCount set_blocks;
      for (const auto& [id, change] : set->changes) {
        set_blocks += BlocksOf(change.data);
        auto& [count, metadata] = sets[{set->epoch, id}];
        ++count;
        metadata |= change.metadata();
        ASSERT_TRUE(count == 1 || !metadata) << "invariant 2, object " << Value(id);
        change.data.ForEach([&, &set = set, id = id](BlockRange r) {
          for (ObjectBlock b = r.start; b < r.end(); ++b) {
            ASSERT_TRUE(blocks.insert({set->epoch, id, b}).second)
                << "invariant 1, object " << Value(id) << " block " << b;
          }
        });
      }
      ASSERT_EQ(set->data_blocks, set_blocks);
      dirty += set_blocks;
    }
    for (const Sent& sent : committing_) dirty += sent.set->data_blocks;
    ASSERT_EQ(fork_.dirty_blocks(), dirty);
    for (const ObjectPtr& object : objects_) {
      int committing = 0, metadata = 0;
      for (const Sent& sent : committing_) {
        const auto it = sent.set->changes.find(object->id);
        if (it == sent.set->changes.end()) continue;
        ++committing;
        metadata += it->second.metadata();
      }
      ASSERT_EQ(object->committing, committing);
      ASSERT_EQ(object->committing_metadata, metadata);
    }
  }

 private:
  struct Sent {
    ChangeSetRef set;
    bool in_place;
    std::vector<std::string> content;  // of the frozen ranges
  };
  struct Reading {
    uint64_t object;
    ObjectBlock block;
    uint64_t token;
    char content;
  };

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  BlockRange RandomRange() {
    const uint64_t start = Below(kBlocks);
    return {ObjectBlock(start),
            BlockCount(1 + Below(std::min<uint64_t>(kBlocks - start, Below(4) ? 4 : 20)))};
  }

  void Write() {
    const uint64_t o = Below(kObjects);
    const BlockRange range = RandomRange();
    const char value = static_cast<char>('a' + Below(26));
    const ChangeSetRef set = fork_.SetForRange(objects_[o], range);
    for (ObjectBlock b = range.start; b < range.end(); ++b) {
      BufferRef buffer = fork_.pages().pool().New();
      std::memset(buffer.data(), value, kBlockBytes);
      fork_.StageBlock(set, objects_[o], b, std::move(buffer));
      accepted_[o][b.value()] = value;
    }
  }

  void Punch() {
    const uint64_t o = Below(kObjects);
    const BlockRange range = RandomRange();
    fork_.StageHole(fork_.SetForObject(objects_[o]), objects_[o], range);
    for (ObjectBlock b = range.start; b < range.end(); ++b) accepted_[o][b.value()] = 0;
  }

  // As the committer does: earlier epochs first, and none while an earlier one is on its way in place.
  void Freeze() {
    if (fork_.pending().empty()) return;
    const BarrierEpoch epoch = fork_.pending().front()->epoch;
    std::vector<ChangeSetRef> ready;
    for (const ChangeSetRef& set : fork_.pending()) {
      if (set->epoch == epoch && !MustWait(*set, fork_.pages())) ready.push_back(set);
    }
    for (const Sent& sent : committing_) {
      if (sent.in_place && sent.set->epoch < epoch) return;
    }
    if (ready.empty()) return;
    const ChangeSetRef set = ready[Below(ready.size())];
    const bool one_range =
        !set->metadata() && set->changes.size() == 1 && set->changes.begin()->second.data.runs() == 1;
    fork_.Freeze(set);
    committing_.push_back({set, one_range && Below(2) == 0, Contents(*set)});
  }

  static std::vector<std::string> Contents(const ChangeSet& set) {
    std::vector<std::string> contents;
    for (const FrozenRange& range : set.frozen) {
      std::string& content = contents.emplace_back();
      for (const BufferRef& buffer : range.buffers) content += static_cast<char>(buffer.data()[0]);
    }
    return contents;
  }

  void Complete() {
    if (committing_.empty()) return;
    const size_t i = Below(committing_.size());
    const Sent sent = std::move(committing_[i]);
    committing_.erase(committing_.begin() + static_cast<ptrdiff_t>(i));
    ASSERT_EQ(Contents(*sent.set), sent.content) << "frozen content has changed";
    for (const auto& [id, change] : sent.set->changes) {
      change.holes.ForEach([&, id = id](BlockRange r) {
        for (ObjectBlock b = r.start; b < r.end(); ++b) durable_[Value(id) - 1][b.value()] = 0;
      });
    }
    for (size_t r = 0; r < sent.set->frozen.size(); ++r) {
      const FrozenRange& range = sent.set->frozen[r];
      std::string& durable = durable_[Value(range.object->id) - 1];
      durable.replace(range.blocks.start.value(), range.blocks.count.value(), sent.content[r]);
    }
    fork_.Complete(sent.set);
  }

  void Unfreeze() {
    for (size_t i = 0; i < committing_.size(); ++i) {
      if (!committing_[i].in_place) continue;
      const ChangeSetRef set = committing_[i].set;
      committing_.erase(committing_.begin() + static_cast<ptrdiff_t>(i));
      fork_.Unfreeze(set);
      return;
    }
  }

  void Read() {
    if (!reads_.empty() && Below(2)) return FinishRead();
    const uint64_t o = Below(kObjects);
    const ObjectBlock b(Below(kBlocks));
    if (InPendingHole(*objects_[o], b)) return;
    const Page* page = fork_.pages().Find(*objects_[o], b);
    if (page != nullptr && !page->unused()) return;
    reads_.push_back({o, b, ++token_, durable_[o][b.value()]});
    ASSERT_NE(fork_.pages().AddReading(*objects_[o], b, token_), nullptr);
  }

  void FinishRead() {
    const size_t i = Below(reads_.size());
    const Reading read = reads_[i];
    reads_.erase(reads_.begin() + static_cast<ptrdiff_t>(i));
    BufferRef buffer = fork_.pages().pool().New();
    std::memset(buffer.data(), read.content, kBlockBytes);
    fork_.pages().FillRead(*objects_[read.object], read.block, read.token, std::move(buffer));
  }

  std::mt19937_64 random_;
  CowFork fork_;
  std::vector<ObjectPtr> objects_;
  std::vector<std::string> accepted_, durable_;
  std::vector<Sent> committing_;
  std::vector<Reading> reads_;
  uint64_t token_ = 0;
};

TEST(CowForkModelTest, RandomChangesCommitWhatWasAcceptedAndLeaveNothingDirty) {
  for (int seed = 1; seed <= Rounds(75); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    CowForkModel model(static_cast<uint64_t>(seed));
    for (int step = 0; step < 250; ++step) {
      model.Step();
      model.Check();
      if (testing::Test::HasFailure()) FAIL() << "at step " << step;
    }
    model.Drain();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace untorn
