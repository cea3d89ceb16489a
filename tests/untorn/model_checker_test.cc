// The model's check of what a crash leaves, checked itself: it must accept every state that the promises
// permit, and report every one that they do not (canaries: a checker that finds nothing proves nothing).
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/untorn/model.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

constexpr uint64_t kBlock = ObjectData::kBlock;
constexpr uint64_t kA = 1, kB = 2;

// A state, built by hand.
struct State {
  std::map<std::string, uint64_t> names;
  std::map<uint64_t, ObjectData> objects;

  Observed Observe() const {
    Observed observed;
    for (const auto& [name, id] : names) observed.objects[name] = {.id = id, .data = objects.at(id)};
    return observed;
  }
};

class ModelChecker : public testing::Test {
 protected:
  // Two objects, "a" of 8 blocks and "b" of 4, are there durably.
  void SetUp() override {
    for (auto [name, id, blocks] : {std::tuple("a", kA, 8), std::tuple("b", kB, 4)}) {
      model_.Begin("create");
      model_.Create(name, id);
      model_.Write(id, 0, Stamped(id, blocks * kBlock));
      model_.End();
      state_.names[name] = id;
      state_.objects[id].Write(0, Stamped(id, blocks * kBlock));
    }
    model_.SetAllDurable();
  }

  Model::OpId Write(uint64_t object, uint64_t offset, uint64_t stamp, uint64_t length) {
    model_.Begin("write " + std::to_string(stamp));
    model_.Write(object, offset, Stamped(stamp, length));
    return model_.End();
  }
  Model::OpId Truncate(uint64_t object, uint64_t size) {
    model_.Begin("truncate");
    model_.Truncate(object, size);
    return model_.End();
  }
  void Put(uint64_t object, uint64_t offset, uint64_t stamp, uint64_t length) {
    state_.objects[object].Write(offset, Stamped(stamp, length));
  }
  std::string Check() { return model_.CheckCrash(state_.Observe()); }
  void ExpectWrong(const std::string& part) {
    const std::string wrong = Check();
    EXPECT_NE(wrong.find(part), std::string::npos) << "reported: " << wrong;
  }

  Model model_;
  State state_;  // what recovery shows; begins as the durable state
};

// Promise 1.
TEST_F(ModelChecker, TornAtomicWriteIsReported) {
  Write(kA, 0, 10, 4 * kBlock);
  EXPECT_EQ(Check(), "");  // not there
  Put(kA, 0, 10, 4 * kBlock);
  EXPECT_EQ(Check(), "");  // there
  auto old = Stamped(kA, 8 * kBlock);
  state_.objects[kA].Write(2 * kBlock, std::span(old).subspan(2 * kBlock, kBlock));
  ExpectWrong("block 2 of object 1 must hold op 0");
}

TEST_F(ModelChecker, BlockTornAtASectorIsReported) {
  Write(kA, 0, 10, 4 * kBlock);
  Put(kA, 0, 10, 4 * kBlock);
  state_.objects[kA].Write(512, Stamped(kA, 512));
  ExpectWrong("none of the values");
}

TEST_F(ModelChecker, ContentFromNowhereIsReported) {
  Put(kA, 5 * kBlock, 99, 10);
  ExpectWrong("no op touched it");
}

// Promise 3.
TEST_F(ModelChecker, LostDurableWriteIsReported) {
  const auto first = Write(kA, 0, 10, kBlock);
  Write(kA, 0, 11, kBlock);
  model_.SetDurable(first);
  ExpectWrong("reported durable");
  Put(kA, 0, 10, kBlock);
  EXPECT_EQ(Check(), "");
  Put(kA, 0, 11, kBlock);
  EXPECT_EQ(Check(), "");  // a later version is as good
}

TEST_F(ModelChecker, LostWriteUnderARangeSyncIsReported) {
  Write(kA, kBlock, 10, 2 * kBlock);
  model_.SetRangeDurable(kA, 3 * kBlock, 10 * kBlock);
  EXPECT_EQ(Check(), "");  // touches it only at the edge
  model_.SetRangeDurable(kA, 2 * kBlock, 10);
  ExpectWrong("reported durable");
}

TEST_F(ModelChecker, LostObjectIsReported) {
  model_.Begin("create c");
  model_.Create("c", 3);
  model_.SetDurable(model_.End());
  ExpectWrong("name \"c\" must hold op 0");
  state_.names["c"] = 3;
  state_.objects[3];
  EXPECT_EQ(Check(), "");
  state_.names.erase("b");
  ExpectWrong("\"b\" is lost");
}

TEST_F(ModelChecker, RemovedObjectThatIsBackIsReported) {
  model_.Begin("remove b");
  model_.Remove("b");
  const auto op = model_.End();
  EXPECT_EQ(Check(), "");
  model_.SetDurable(op);
  ExpectWrong("name \"b\" must hold op 0");
}

TEST_F(ModelChecker, DurableTruncateBringsEarlierWrites) {
  Write(kA, 0, 10, kBlock);
  model_.SetDurable(Truncate(kA, 6 * kBlock));
  state_.objects[kA].Truncate(6 * kBlock);
  ExpectWrong("block 0 of object 1 must hold op 0");
  Put(kA, 0, 10, kBlock);
  EXPECT_EQ(Check(), "");
}

// Promise 4.
TEST_F(ModelChecker, LaterOverlapWithoutTheEarlierIsReported) {
  Write(kA, 0, 10, 2 * kBlock);
  Write(kA, kBlock, 11, 2 * kBlock);
  Put(kA, 0, 10, 2 * kBlock);
  EXPECT_EQ(Check(), "");
  Put(kA, kBlock, 11, 2 * kBlock);
  EXPECT_EQ(Check(), "");
  state_.objects[kA] = {};
  Put(kA, 0, kA, 8 * kBlock);
  Put(kA, kBlock, 11, 2 * kBlock);
  ExpectWrong("block 0 of object 1 must hold op 0");
}

TEST_F(ModelChecker, WritesThatDoNotOverlapAreInNoOrder) {
  Write(kA, 0, 10, kBlock);
  Write(kA, kBlock, 11, kBlock);
  Put(kA, kBlock, 11, kBlock);
  EXPECT_EQ(Check(), "");
}

// Promise 5.
TEST_F(ModelChecker, WriteAfterABarrierWithoutOneBeforeItIsReported) {
  Write(kA, 0, 10, kBlock);
  model_.Barrier();
  Write(kB, 0, 11, kBlock);
  Put(kB, 0, 11, kBlock);
  ExpectWrong("lies before a barrier");
  Put(kA, 0, 10, kBlock);
  EXPECT_EQ(Check(), "");
}

TEST_F(ModelChecker, NameAfterABarrierWithoutAWriteBeforeItIsReported) {
  Write(kA, 0, 10, kBlock);
  model_.Barrier();
  model_.Begin("rename b to c");
  model_.Rename("b", "c");
  model_.End();
  state_.names.erase("b");
  state_.names["c"] = kB;
  ExpectWrong("lies before a barrier");
}

// Promise 6.
TEST_F(ModelChecker, HalfATransactionIsReported) {
  model_.Begin("transaction");
  model_.Write(kA, 0, Stamped(10, kBlock));
  model_.Write(kB, 3 * kBlock, Stamped(11, kBlock));
  model_.Create("c", 3);
  model_.Write(3, 0, Stamped(12, 100));
  model_.End();
  EXPECT_EQ(Check(), "");
  Put(kA, 0, 10, kBlock);
  ExpectWrong("must hold op 0");
  Put(kB, 3 * kBlock, 11, kBlock);
  ExpectWrong("name \"c\" must hold op 0");
  state_.names["c"] = 3;
  state_.objects[3];
  ExpectWrong("object 3 has size 0");
  Put(3, 0, 12, 100);
  EXPECT_EQ(Check(), "");
}

TEST_F(ModelChecker, HalfARenameIsReported) {
  model_.Begin("rename a to c");
  model_.Rename("a", "c");
  model_.End();
  State before = state_;
  state_.names["c"] = kA;
  ExpectWrong("must hold op 0");  // under both names
  state_ = before;
  state_.names.erase("a");
  ExpectWrong("must hold op 0");  // under none
}

TEST_F(ModelChecker, SizeThatNoOpGaveIsReported) {
  Write(kA, 8 * kBlock, 10, 100);
  Write(kA, 9 * kBlock, 11, 100);
  Put(kA, 9 * kBlock, 11, 100);
  EXPECT_EQ(Check(), "");
  state_.objects[kA].Truncate(9 * kBlock + 50);
  ExpectWrong("none of the values");  // the block's end is cut off
  state_.objects[kA].Truncate(8 * kBlock + 10);
  state_.objects[kA].Punch(8 * kBlock, 10);
  ExpectWrong("size");
  state_.objects[kA].Truncate(8 * kBlock - 1);
  ExpectWrong("");
}

TEST_F(ModelChecker, WriteCutOffByALostSizeIsReported) {
  const auto op = Write(kA, 9 * kBlock, 10, kBlock);
  model_.SetDurable(op);
  ExpectWrong("size");
}

TEST_F(ModelChecker, ZerosMayBeOfAnyVersionThatWasZeros) {
  model_.Begin("punch");
  model_.Punch(kA, 0, kBlock);
  model_.End();
  Write(kA, 0, 10, 2 * kBlock);
  model_.Begin("punch");
  model_.Punch(kA, 0, kBlock);
  model_.End();
  state_.objects[kA].Punch(0, kBlock);
  EXPECT_EQ(Check(), "");       // the first punch
  Put(kA, kBlock, 10, kBlock);  // not the stamp's second block
  ExpectWrong("none of the values");
  auto data = Stamped(10, 2 * kBlock);
  state_.objects[kA].Write(kBlock, std::span(data).subspan(kBlock));
  EXPECT_EQ(Check(), "");  // all three
  model_.SetAllDurable();
  EXPECT_EQ(Check(), "");
}

// Random histories: whatever set of ops the rules permit is accepted, and with one block of an atomic write
// reverted it is reported. Ops are written down here once more, in the simplest way.
struct Change {
  enum Kind { kWrite, kTruncate, kPunch, kRename, kBarrier } kind;
  uint64_t object = 0, offset = 0, length = 0, stamp = 0;
  std::string to;
};

void Apply(const Change& c, State& state) {
  ObjectData& data = state.objects[c.object];
  if (c.kind == Change::kWrite) data.Write(c.offset, Stamped(c.stamp, c.length));
  if (c.kind == Change::kTruncate) data.Truncate(c.length);
  if (c.kind == Change::kPunch) data.Punch(c.offset, c.length);
  if (c.kind == Change::kRename) {
    std::erase_if(state.names, [&](const auto& entry) { return entry.second == c.object; });
    state.names[c.to] = c.object;
  }
}

void Apply(const Change& c, Model& model) {
  if (c.kind == Change::kBarrier) return model.Barrier();
  model.Begin("change " + std::to_string(c.stamp));
  if (c.kind == Change::kWrite) model.Write(c.object, c.offset, Stamped(c.stamp, c.length));
  if (c.kind == Change::kTruncate) model.Truncate(c.object, c.length);
  if (c.kind == Change::kPunch) model.Punch(c.object, c.offset, c.length);
  if (c.kind == Change::kRename) model.Rename(model.name(c.object), c.to);
  model.End();
}

// With `later` goes `earlier`.
bool Brings(const std::vector<Change>& changes, size_t later, size_t earlier) {
  const Change &l = changes[later], &e = changes[earlier];
  for (size_t i = earlier; i < later; ++i) {
    if (changes[i].kind == Change::kBarrier) return true;
  }
  if (l.object != e.object) return false;
  if (l.kind == Change::kTruncate || l.kind == Change::kRename) return true;
  if (e.kind == Change::kTruncate) return l.offset + l.length + kBlock > e.length;
  if (e.kind == Change::kRename) return false;
  return l.offset / kBlock * kBlock < e.offset + e.length &&
         e.offset / kBlock * kBlock < l.offset + l.length + kBlock;
}

TEST_F(ModelChecker, AcceptsEveryPermittedStateAndReportsTornOnes) {
  std::mt19937_64 rng(TestSeed(1));
  int torn = 0;
  for (int round = 0; round < 3000; ++round) {
    Model model = model_;
    std::vector<Change> changes;
    for (int i = 0; i < 12; ++i) {
      Change c{.object = 1 + rng() % 2, .stamp = 100 + changes.size()};
      const uint64_t kind = rng() % 12;
      c.kind = kind < 7    ? Change::kWrite
               : kind < 8  ? Change::kTruncate
               : kind < 9  ? Change::kPunch
               : kind < 10 ? Change::kRename
                           : Change::kBarrier;
      c.offset = rng() % (10 * kBlock);
      c.length = 1 + rng() % (4 * kBlock);
      if (rng() % 2 == 0) c.offset -= c.offset % kBlock, c.length += kBlock - c.length % kBlock;
      if (c.kind == Change::kTruncate) c.length = rng() % (12 * kBlock);
      c.to = "r" + std::to_string(changes.size());
      Apply(c, model);
      changes.push_back(c);
    }
    std::vector<bool> there(changes.size());
    for (size_t i = changes.size(); i-- > 0;) {
      there[i] = rng() % 4 == 0;
      for (size_t j = i + 1; j < changes.size(); ++j)
        there[i] = there[i] || (there[j] && Brings(changes, j, i));
    }
    State state = state_;
    for (size_t i = 0; i < changes.size(); ++i) {
      if (there[i]) Apply(changes[i], state);
    }
    ASSERT_EQ(model.CheckCrash(state.Observe()), "") << "round " << round;

    for (size_t i = 0; i < changes.size(); ++i) {
      const Change& c = changes[i];
      bool last = c.kind == Change::kWrite && there[i] && c.offset % kBlock == 0 && c.length > kBlock;
      for (size_t j = i + 1; j < changes.size(); ++j) last = last && !(there[j] && Brings(changes, j, i));
      if (!last || c.length % kBlock != 0) continue;
      State before = state_;
      for (size_t j = 0; j < i; ++j) {
        if (there[j]) Apply(changes[j], before);
      }
      State reverted = state;
      std::vector<std::byte> old(kBlock);
      before.objects[c.object].Read(c.offset, old);
      if (old == Filled(0, kBlock)) continue;  // could be a later punch's
      reverted.objects[c.object].Write(c.offset, old);
      EXPECT_NE(model.CheckCrash(reverted.Observe()), "") << "round " << round << " change " << i;
      ++torn;
    }
  }
  EXPECT_GT(torn, 500);
}

}  // namespace
}  // namespace untorn
