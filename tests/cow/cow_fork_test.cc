// What is accepted and not durable: the invariants of cow/cow_fork.h, which promises 1, 2, 4 and 5 rest on.
#include "cow/cow_fork.h"

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

namespace untorn {
namespace {

using UnitPtr = std::shared_ptr<Unit>;
using ObjectPtr = std::shared_ptr<ObjectState>;

uint64_t BlocksOf(const RangeSet& set) {
  uint64_t n = 0;
  set.ForEach([&](BlockRange r) { n += r.count; });
  return n;
}

class CowForkTest : public testing::Test {
 protected:
  BufferRef Filled(char value) {
    BufferRef buffer = fork_.pool().New();
    std::memset(buffer.data(), value, kBlockBytes);
    return buffer;
  }
  // An atomic write.
  UnitPtr Write(BlockRange range, char value, ObjectPtr object = nullptr) {
    if (!object) object = object_;
    UnitPtr unit = fork_.UnitForRange(object, range);
    for (uint64_t b = range.start; b < range.end(); ++b) fork_.StageBlock(unit, object, b, Filled(value));
    return unit;
  }
  UnitPtr Punch(BlockRange range) {
    UnitPtr unit = fork_.UnitForObject(object_);
    fork_.StageHole(unit, object_, range);
    return unit;
  }
  // What a read of these blocks finds in memory: '.' nothing, '0' a pending hole.
  std::string Content(BlockRange range) {
    std::string content;
    for (uint64_t b = range.start; b < range.end(); ++b) {
      const Page* page = fork_.FindPage(*object_, b);
      const bool hole = fork_.InPendingHole(*object_, b);
      content += page && page->buffer ? static_cast<char>(page->buffer.data()[0]) : hole ? '0' : '.';
    }
    return content;
  }
  static std::string Frozen(const Unit& unit) {
    std::string content;
    for (const FrozenRange& range : unit.frozen) {
      EXPECT_EQ(range.buffers.size(), range.blocks.count);
      content += std::to_string(range.blocks.start) + ":";
      for (const BufferRef& buffer : range.buffers) content += static_cast<char>(buffer.data()[0]);
      content += ' ';
    }
    return content;
  }
  void Commit(const UnitPtr& unit) {
    fork_.Freeze(unit);
    fork_.Complete(unit);
  }

  CowFork fork_;
  ObjectPtr object_ = fork_.AddObject({ObjectId{1}, 0, "one"});
  ObjectPtr other_ = fork_.AddObject({ObjectId{2}, 0, "two"});
};

// ---- Writing again what one unit holds ----

class RestageTest : public CowForkTest {
 protected:
  void SetUp() override { object_->size_bytes = object_->durable_size_bytes = 8 * kBlockBytes; }
  const Unit* Restage(BlockRange range, char value) {
    std::vector<BufferRef> buffers;
    for (uint64_t i = 0; i < range.count; ++i) buffers.push_back(Filled(value));
    const Unit* unit = fork_.Restage(*object_, range, buffers);
    // What was there, or what was offered.
    for (const BufferRef& b : buffers) given_back_ += static_cast<char>(b.data()[0]);
    return unit;
  }
  std::string given_back_;
};

TEST_F(RestageTest, ReplacesTheContentOfAPendingUnitAndNothingElse) {
  const UnitPtr unit = Write({0, 4}, 'a');
  EXPECT_EQ(Restage({1, 2}, 'b'), unit.get());
  EXPECT_EQ(given_back_, "aa");
  EXPECT_EQ(Content({0, 4}), "abba");
  EXPECT_EQ(unit->data_blocks, 4u);
  EXPECT_EQ(fork_.dirty_blocks(), 4u);
  fork_.Freeze(unit);
  EXPECT_EQ(Frozen(*unit), "0:abba ");
  fork_.Complete(unit);
}

TEST_F(RestageTest, IsRefusedWhereMoreThanContentWouldChange) {
  const auto refused = [&](BlockRange range, const char* why) {
    given_back_.clear();
    EXPECT_EQ(Restage(range, 'x'), nullptr) << why;
    EXPECT_EQ(given_back_, std::string(range.count, 'x')) << why;
  };
  refused({0, 1}, "nothing is pending");
  const UnitPtr first = Write({0, 1}, 'a'), second = Write({1, 2}, 'b');
  refused({0, 2}, "two units would have to be joined");
  refused({2, 2}, "one block is not pending");
  Write({9, 1}, 'c');
  refused({9, 1}, "it lies beyond the durable size, which the unit has to bring");
  EXPECT_NE(Restage({0, 1}, 'd'), nullptr);
  fork_.Freeze(first);
  refused({0, 1}, "its unit is on its way to the device");
  Punch({20, 1});
  refused({1, 2}, "a change of metadata holds all of the object's");
}

TEST_F(RestageTest, IsRefusedAcrossABarrier) {
  Write({0, 1}, 'a');
  fork_.Barrier();
  EXPECT_EQ(Restage({0, 1}, 'b'), nullptr);
  EXPECT_EQ(Content({0, 1}), "a");
}

// ---- Joining (invariant 1) ----

TEST_F(CowForkTest, UnfrozenUnitDoesNotUndoATruncateOfItsEpoch) {
  const UnitPtr unit = Write({1, 1}, 'a');
  fork_.StageGrowth(unit, object_, 2 * kBlockBytes);
  fork_.Freeze(unit);
  const UnitPtr cut = Punch({1, 1});
  fork_.Change(*cut, object_).set_size_bytes = 100;
  fork_.Unfreeze(unit);
  const UnitPtr both = Resolve(unit);
  EXPECT_EQ(both, Resolve(cut));
  EXPECT_EQ(both->changes[object_->id].set_size_bytes, 100u);
  EXPECT_EQ(both->data_blocks, 0u);
}

TEST_F(CowForkTest, UnfrozenUnitJoinsTheOneOfItsEpochWhoseBlockALaterHoleDetached) {
  const UnitPtr first = Write({0, 1}, 'a');
  fork_.Freeze(first);
  const UnitPtr second = Write({0, 1}, 'b');
  fork_.Barrier();
  const UnitPtr hole = Punch({0, 1});
  fork_.Unfreeze(first);
  EXPECT_EQ(Resolve(first), Resolve(second)) << "invariant 1";
  EXPECT_EQ(fork_.dirty_blocks(), 1u);
  fork_.Freeze(Resolve(second));
  EXPECT_EQ(Frozen(*Resolve(second)), "0:b ");
  fork_.Complete(Resolve(second));
  EXPECT_EQ(Content({0, 1}), "0");
  Commit(hole);
  EXPECT_EQ(fork_.dirty_blocks(), 0u);
}

TEST_F(CowForkTest, WritesThatShareABlockBecomeOneUnit) {
  const UnitPtr a = Write({0, 4}, 'a'), b = Write({3, 4}, 'b');
  EXPECT_EQ(Resolve(a), Resolve(b));
  EXPECT_EQ(fork_.pending().size(), 1u);
  EXPECT_EQ(Resolve(a)->data_blocks, 7u);
  EXPECT_EQ(fork_.dirty_blocks(), 7u);
  EXPECT_EQ(Content({0, 8}), "aaabbbb.");
}

TEST_F(CowForkTest, WritesThatDoNotShareABlockStayApart) {
  const UnitPtr a = Write({0, 4}, 'a'), b = Write({4, 4}, 'b'), c = Write({0, 4}, 'c', other_);
  EXPECT_EQ(fork_.pending().size(), 3u);
  EXPECT_NE(Resolve(a), Resolve(b));
  EXPECT_NE(Resolve(a), Resolve(c));
}

TEST_F(CowForkTest, AWriteOverSeveralUnitsJoinsThemAll) {
  const UnitPtr a = Write({0, 2}, 'a'), b = Write({4, 8}, 'b'), c = Write({20, 2}, 'c'),
                d = Write({40, 2}, 'd');
  CowFork::UnitSet joined;
  fork_.AddUnitsOfRange(*object_, {1, 20}, &joined);
  EXPECT_EQ(joined, (CowFork::UnitSet{a.get(), b.get(), c.get()}));
  fork_.AddUnitsOfObject(*object_, &joined);
  EXPECT_EQ(joined, (CowFork::UnitSet{a.get(), b.get(), c.get(), d.get()}));
  EXPECT_EQ(fork_.BlocksToClaim(*object_, {1, 20}), 10u);
  const UnitPtr all = Write({1, 20}, 'e');
  EXPECT_EQ(Resolve(a), Resolve(all));
  EXPECT_EQ(Resolve(b), Resolve(all));
  EXPECT_EQ(Resolve(c), Resolve(all));
  EXPECT_NE(Resolve(d), Resolve(all));
  EXPECT_EQ(fork_.pending().size(), 2u);
  EXPECT_EQ(fork_.dirty_blocks(), 24u);
  fork_.Freeze(Resolve(all));
  EXPECT_EQ(Frozen(*Resolve(all)), "0:a" + std::string(20, 'e') + "c ");
}

TEST_F(CowForkTest, JoinedUnitsKeepEverythingThatWasAskedOfEach) {
  const UnitPtr a = Write({0, 2}, 'a'), b = Write({4, 1}, 'b');
  a->claimed_blocks = 2, b->claimed_blocks = 1;
  a->claimed_entries = 3, b->claimed_entries = 4;
  a->born_ms = 20, b->born_ms = 10;
  b->wanted = b->device_refused = b->transaction = true;
  a->bypass_cache = true;
  int done = 0;
  a->when_done.push_back([&](absl::Status) { ++done; });
  b->when_done.push_back([&](absl::Status) { ++done; });
  const UnitPtr all = fork_.Join(a, b);
  EXPECT_EQ(all->claimed_blocks, 3u);
  EXPECT_EQ(all->claimed_entries, 7u);
  EXPECT_EQ(all->born_ms, 10);
  EXPECT_TRUE(all->wanted && all->device_refused && all->transaction);
  EXPECT_FALSE(all->bypass_cache) << "one of the two wants to stay in the cache";
  for (auto& call : all->when_done) call(absl::OkStatus());
  EXPECT_EQ(done, 2);
}

TEST_F(CowForkTest, JoiningWhatIsJoinedAlreadyChangesNothing) {
  const UnitPtr a = Write({0, 2}, 'a'), b = Write({4, 1}, 'b'), c = Write({8, 4}, 'c');
  const UnitPtr ab = fork_.Join(a, b);
  EXPECT_EQ(fork_.Join(a, b), ab);
  const UnitPtr all = fork_.Join(b, c);
  EXPECT_EQ(fork_.Join(c, a), all);
  EXPECT_EQ(all->data_blocks, 7u);
  EXPECT_EQ(fork_.pending().size(), 1u);
}

// ---- Barriers (invariant 3, promise 5) ----

TEST_F(CowForkTest, BarrierWithNothingPendingBeginsNoEpoch) {
  fork_.Barrier();
  EXPECT_EQ(fork_.epoch(), 0u);
  const UnitPtr unit = Write({0, 1}, 'a');
  fork_.Freeze(unit);
  fork_.Barrier();
  EXPECT_EQ(fork_.epoch(), 1u) << "something is committing";
  fork_.Complete(unit);
  fork_.Barrier();
  EXPECT_EQ(fork_.epoch(), 1u);
}

TEST_F(CowForkTest, WriteBehindABarrierLeavesTheEarlierUnitItsVersion) {
  const UnitPtr before = Write({0, 4}, 'a');
  fork_.Barrier();
  EXPECT_EQ(fork_.BlocksToClaim(*object_, {2, 4}), 4u);
  const UnitPtr behind = Write({2, 4}, 'b');
  EXPECT_NE(before, behind);
  EXPECT_EQ(before->state, Unit::State::kPending);
  EXPECT_EQ(Content({0, 6}), "aabbbb");
  EXPECT_EQ(before->data_blocks, 4u);
  EXPECT_EQ(fork_.dirty_blocks(), 8u);

  fork_.Freeze(before);
  EXPECT_EQ(Frozen(*before), "0:aaaa ");
  EXPECT_TRUE(fork_.MustWait(*behind)) << "the device orders nothing";
  fork_.Complete(before);
  EXPECT_FALSE(fork_.MustWait(*behind));
  fork_.Freeze(behind);
  EXPECT_EQ(Frozen(*behind), "2:bbbb ");
  fork_.Complete(behind);
  EXPECT_EQ(fork_.dirty_blocks(), 0u);
}

TEST_F(CowForkTest, JoiningKeepsTheVersionsThatALaterEpochDetached) {
  const UnitPtr a = Write({0, 2}, 'a'), b = Write({4, 2}, 'b');
  fork_.Barrier();
  Write({1, 4}, 'c');
  const UnitPtr ab = fork_.Join(a, b);
  fork_.Freeze(ab);
  EXPECT_EQ(Frozen(*ab), "0:aa 4:bb ");
  EXPECT_EQ(Content({0, 6}), "accccb");
}

// ---- Metadata (invariant 2) ----

TEST_F(CowForkTest, MetadataUnitTakesInAllPendingChangesOfItsObjectAndLaterOnes) {
  const UnitPtr a = Write({0, 2}, 'a'), b = Write({8, 2}, 'b'), c = Write({0, 1}, 'c', other_);
  const UnitPtr metadata = fork_.UnitForObject(object_);
  fork_.Change(*metadata, object_).name = "renamed";
  EXPECT_EQ(Resolve(a), metadata);
  EXPECT_EQ(Resolve(b), metadata);
  EXPECT_NE(Resolve(c), metadata);
  EXPECT_EQ(Resolve(Write({100, 1}, 'd')), metadata);
  EXPECT_TRUE(metadata->metadata());
  EXPECT_EQ(metadata->data_blocks, 5u);
  fork_.Barrier();
  EXPECT_NE(Resolve(Write({200, 1}, 'e')), metadata) << "not across a barrier";
}

TEST_F(CowForkTest, NothingOfAnObjectIsSentWhileItsMetadataIsCommitting) {
  const UnitPtr metadata = fork_.UnitForObject(object_);
  fork_.Change(*metadata, object_).set_size_bytes = 5;
  fork_.Freeze(metadata);
  const UnitPtr later = Write({50, 1}, 'a');
  EXPECT_TRUE(fork_.MustWait(*later));
  EXPECT_FALSE(fork_.MustWait(*Write({50, 1}, 'a', other_)));
  fork_.Complete(metadata);
  EXPECT_FALSE(fork_.MustWait(*later));
}

TEST_F(CowForkTest, MetadataIsNotSentWhileDataOfItsObjectIsCommitting) {
  const UnitPtr data = Write({0, 1}, 'a');
  fork_.Freeze(data);
  const UnitPtr metadata = fork_.UnitForObject(object_);
  fork_.Change(*metadata, object_).set_size_bytes = 5;
  EXPECT_TRUE(fork_.MustWait(*metadata));
  fork_.Complete(data);
  EXPECT_FALSE(fork_.MustWait(*metadata));
}

TEST_F(CowForkTest, GrowthIsKeptAsTheLargestAndTruncationWithWhatGrewLater) {
  const UnitPtr a = Write({0, 1}, 'a'), b = Write({9, 1}, 'b');
  fork_.StageGrowth(a, object_, 4096);
  fork_.StageGrowth(b, object_, 40960);
  fork_.StageGrowth(a, object_, 100);  // no growth
  EXPECT_EQ(object_->size_bytes, 40960u);
  EXPECT_FALSE(a->metadata()) << "growth joins nothing";
  const UnitPtr unit = fork_.UnitForObject(object_);
  EXPECT_EQ(fork_.Change(*unit, object_).grow_to_bytes, 40960u);
  object_->size_bytes = 10;
  ObjectChange& change = fork_.Change(*unit, object_);
  change.set_size_bytes = 10;
  change.grow_to_bytes = 0;
  fork_.StageGrowth(unit, object_, 777);
  EXPECT_EQ(fork_.Change(*unit, object_).set_size_bytes, 777u);
}

TEST_F(CowForkTest, NamesBelongToTheUnitThatStagedThemLast) {
  const UnitPtr a = fork_.UnitForObject(object_);
  fork_.StageName(a, "x", object_);
  EXPECT_EQ(fork_.UnitOfName("x"), a);
  ASSERT_NE(fork_.FindName("x"), nullptr);
  EXPECT_EQ(fork_.FindName("x")->object, object_);
  fork_.Freeze(a);
  EXPECT_EQ(fork_.UnitOfName("x"), nullptr) << "nothing can join it any more";
  const UnitPtr b = fork_.UnitForObject(other_);
  fork_.StageName(b, "x", nullptr);
  EXPECT_EQ(fork_.FindName("x")->object, nullptr);
  fork_.Complete(a);
  ASSERT_NE(fork_.FindName("x"), nullptr) << "a newer change of it is pending";
  Commit(b);
  EXPECT_EQ(fork_.FindName("x"), nullptr);
}

// ---- Holes ----

TEST_F(CowForkTest, HoleTakesBlocksOutOfItsUnitAndReadsAsZerosUntilItIsDurable) {
  Write({0, 8}, 'a');
  const UnitPtr unit = fork_.UnitForObject(object_);
  EXPECT_EQ(fork_.StageHole(unit, object_, {2, 20}), 6u);
  EXPECT_EQ(Content({0, 8}), "aa000000");
  EXPECT_EQ(unit->data_blocks, 2u);
  EXPECT_EQ(fork_.dirty_blocks(), 2u);
  Write({5, 1}, 'b');
  EXPECT_EQ(Content({0, 8}), "aa000b00");
  fork_.Freeze(unit);
  EXPECT_EQ(Frozen(*unit), "0:aa 5:b ");
  EXPECT_EQ(Content({0, 8}), "aa000b00") << "still not durable";
  fork_.Complete(unit);
  EXPECT_EQ(Content({0, 8}), "aa...b..") << "the mappings tell from here on";
}

TEST_F(CowForkTest, HoleBehindABarrierLeavesTheEarlierUnitItsBlocks) {
  const UnitPtr before = Write({0, 4}, 'a');
  fork_.Barrier();
  const UnitPtr hole = fork_.UnitForObject(object_);
  EXPECT_EQ(fork_.StageHole(hole, object_, {1, 2}), 0u);
  EXPECT_EQ(Content({0, 4}), "a00a");
  fork_.Freeze(before);
  EXPECT_EQ(Frozen(*before), "0:aaaa ");
  fork_.Complete(before);
  EXPECT_EQ(Content({0, 4}), "a00a");
  Commit(hole);
  EXPECT_EQ(fork_.dirty_blocks(), 0u);
}

TEST_F(CowForkTest, HoleWhileABlockIsCommittingKeepsTheBlockUntilThen) {
  const UnitPtr data = Write({0, 2}, 'a');
  fork_.Freeze(data);
  const UnitPtr hole = Punch({0, 2});
  EXPECT_TRUE(fork_.MustWait(*hole));
  fork_.Evict(0);
  EXPECT_EQ(Frozen(*data), "0:aa ");
  fork_.Complete(data);
  EXPECT_EQ(Content({0, 2}), "00");
  Commit(hole);
  EXPECT_EQ(fork_.page_memory_bytes(), 0u);
}

// ---- Committing ----

TEST_F(CowForkTest, WriteToACommittingBlockGetsANewBufferAndANewUnit) {
  const UnitPtr first = Write({0, 2}, 'a');
  fork_.Freeze(first);
  EXPECT_EQ(fork_.pending().size(), 0u);
  EXPECT_EQ(fork_.dirty_blocks(), 2u);
  const UnitPtr second = Write({0, 1}, 'b');
  EXPECT_NE(second, first);
  EXPECT_EQ(Frozen(*first), "0:aa ");
  EXPECT_EQ(Content({0, 2}), "ba");
  EXPECT_TRUE(fork_.MustWait(*second));
  fork_.Complete(first);
  EXPECT_EQ(first->state, Unit::State::kDone);
  EXPECT_EQ(fork_.dirty_blocks(), 1u);
  Commit(second);
  EXPECT_EQ(fork_.dirty_blocks(), 0u);
  EXPECT_EQ(Content({0, 2}), "ba") << "clean, and cached";
}

TEST_F(CowForkTest, FailedUnitStaysInMemoryForReaders) {
  const UnitPtr unit = Write({0, 2}, 'a');
  fork_.Freeze(unit);  // and it is never completed
  fork_.Evict(0);
  EXPECT_EQ(Content({0, 2}), "aa") << "promise 8: reads go on";
}

TEST_F(CowForkTest, BypassedBlocksLeaveTheCacheOnceDurable) {
  UnitPtr unit = fork_.UnitForRange(object_, {0, 2});
  unit->bypass_cache = true;
  fork_.StageBlock(unit, object_, 0, Filled('a'));
  fork_.StageBlock(unit, object_, 1, Filled('a'));
  fork_.Freeze(unit);
  const UnitPtr later = Write({1, 1}, 'b');
  fork_.Complete(unit);
  EXPECT_EQ(Content({0, 2}), ".b");
  Commit(later);
  EXPECT_EQ(Content({0, 2}), ".b");
}

// ---- A unit that the device refused to write in place ----

TEST_F(CowForkTest, UnfrozenUnitIsPendingAgainWithItsContent) {
  const UnitPtr unit = Write({0, 2}, 'a');
  fork_.Freeze(unit);
  fork_.Unfreeze(unit);
  EXPECT_EQ(unit->state, Unit::State::kPending);
  EXPECT_EQ(fork_.pending().size(), 1u);
  EXPECT_EQ(fork_.committing_units(), 0u);
  EXPECT_EQ(fork_.dirty_blocks(), 2u);
  EXPECT_EQ(Resolve(Write({1, 2}, 'b')), unit);
  fork_.Freeze(unit);
  EXPECT_EQ(Frozen(*unit), "0:abb ");
}

TEST_F(CowForkTest, UnfrozenUnitIsTheOlderPartOfWhatOverlapsIt) {
  const UnitPtr unit = Write({0, 4}, 'a');
  fork_.Freeze(unit);
  const UnitPtr later = Write({2, 4}, 'b');
  fork_.Unfreeze(unit);
  const UnitPtr both = Resolve(unit);
  EXPECT_EQ(both, Resolve(later));
  EXPECT_EQ(both->data_blocks, 6u);
  EXPECT_EQ(fork_.dirty_blocks(), 6u);
  fork_.Freeze(both);
  EXPECT_EQ(Frozen(*both), "0:aabbbb ");
}

TEST_F(CowForkTest, UnfrozenUnitKeepsItsVersionOfABlockThatALaterEpochWrote) {
  const UnitPtr unit = Write({0, 2}, 'a');
  fork_.Freeze(unit);
  fork_.Barrier();
  const UnitPtr later = Write({1, 1}, 'b');
  fork_.Unfreeze(unit);
  EXPECT_NE(Resolve(unit), Resolve(later));
  EXPECT_EQ(Content({0, 2}), "ab");
  fork_.Freeze(unit);
  EXPECT_EQ(Frozen(*unit), "0:aa ");
  fork_.Complete(unit);
  Commit(later);
  EXPECT_EQ(fork_.dirty_blocks(), 0u);
}

TEST_F(CowForkTest, UnfrozenUnitGivesUpWhatAHoleOfItsEpochTookMeanwhile) {
  const UnitPtr unit = Write({0, 4}, 'a');
  fork_.Freeze(unit);
  const UnitPtr hole = Punch({1, 2});
  fork_.Unfreeze(unit);
  const UnitPtr both = Resolve(unit);
  EXPECT_EQ(both, Resolve(hole));
  EXPECT_EQ(Content({0, 4}), "a00a");
  EXPECT_EQ(both->data_blocks, 2u);
  EXPECT_EQ(fork_.dirty_blocks(), 2u);
  fork_.Freeze(both);
  EXPECT_EQ(Frozen(*both), "0:a 3:a ");
  fork_.Complete(both);
  EXPECT_EQ(fork_.dirty_blocks(), 0u);
}

TEST_F(CowForkTest, UnfrozenUnitJoinsTheOneOfItsEpochWhoseBlockALaterEpochDetached) {
  const UnitPtr first = Write({0, 1}, 'a');
  fork_.Freeze(first);
  const UnitPtr second = Write({0, 1}, 'b');
  fork_.Barrier();
  const UnitPtr third = Write({0, 1}, 'c');
  fork_.Unfreeze(first);
  // Invariant 1: the first and the second are of one epoch and share a block.
  EXPECT_EQ(Resolve(first), Resolve(second));
  EXPECT_EQ(fork_.dirty_blocks(), 2u);
  fork_.Freeze(Resolve(second));
  EXPECT_EQ(Frozen(*Resolve(second)), "0:b ");
  EXPECT_EQ(Content({0, 1}), "c");
  fork_.Complete(Resolve(second));
  Commit(third);
  EXPECT_EQ(fork_.dirty_blocks(), 0u);
}

// ---- Reading ----

TEST_F(CowForkTest, ReadFillsItsPageUnlessSomebodyWroteItFirst) {
  ASSERT_NE(fork_.AddReading(*object_, 3, 77), nullptr);
  EXPECT_EQ(fork_.AddReading(*object_, 3, 78), nullptr) << "somebody reads it already";
  fork_.FillRead(*object_, 3, 78, Filled('x'));
  EXPECT_EQ(Content({3, 1}), ".") << "not the read that was announced";
  fork_.FillRead(*object_, 3, 77, Filled('r'));
  EXPECT_EQ(Content({3, 1}), "r");

  ASSERT_NE(fork_.AddReading(*object_, 4, 79), nullptr);
  Write({4, 1}, 'w');
  fork_.FillRead(*object_, 4, 79, Filled('r'));
  EXPECT_EQ(Content({4, 1}), "w") << "the read is older than the write";

  ASSERT_NE(fork_.AddReading(*object_, 5, 80), nullptr);
  Punch({5, 1});
  fork_.FillRead(*object_, 5, 80, Filled('r'));
  EXPECT_EQ(Content({5, 1}), "0");
}

TEST_F(CowForkTest, ReadThatFailedLeavesNoPage) {
  ASSERT_NE(fork_.AddReading(*object_, 3, 77), nullptr);
  fork_.FillRead(*object_, 3, 77, BufferRef());
  EXPECT_EQ(fork_.page_memory_bytes(), 0u);
  EXPECT_NE(fork_.AddReading(*object_, 3, 78), nullptr);
}

// ---- Memory (invariant 4) ----

TEST_F(CowForkTest, EvictionDropsEveryCleanPageAndNoOther) {
  const UnitPtr clean = Write({0, 40}, 'c');
  Commit(clean);
  const UnitPtr committing = Write({10, 2}, 'f');
  fork_.Freeze(committing);
  Write({20, 2}, 'p');
  EXPECT_EQ(Content({0, 40}),
            std::string(10, 'c') + "ff" + std::string(8, 'c') + "pp" + std::string(18, 'c'));
  fork_.Evict(fork_.page_memory_bytes());
  EXPECT_EQ(Content({0, 1}), "c") << "within the limit nothing goes";
  fork_.Evict(0);
  EXPECT_EQ(Content({0, 40}),
            std::string(10, '.') + "ff" + std::string(8, '.') + "pp" + std::string(18, '.'));
  fork_.Complete(committing);
  fork_.Evict(0);
  EXPECT_EQ(Content({10, 2}), "..");
}

TEST_F(CowForkTest, EvictionStopsAtTheLimitAndTakesWhatWasNotUsedSince) {
  Commit(Write({0, 160}, 'c'));
  fork_.Evict(fork_.page_memory_bytes() / 2);
  const uint64_t left = fork_.page_memory_bytes();
  EXPECT_GT(left, 50 * kBlockBytes);
  EXPECT_LE(left, 100 * kBlockBytes);
}

TEST_F(CowForkTest, DropCleanLeavesWhatIsNotDurable) {
  Commit(Write({0, 20}, 'c'));
  Write({5, 1}, 'p');
  fork_.DropClean(*object_, {2, 10});
  EXPECT_EQ(Content({0, 20}), "cc...p......cccccccc");
}

TEST_F(CowForkTest, ObjectsAreForgottenWhenNothingRefersToThem) {
  object_.reset();
  fork_.ForgetIdleObjects();
  EXPECT_EQ(fork_.FindObject(ObjectId{1}), nullptr);
  EXPECT_EQ(fork_.FindObject(ObjectId{2}), other_);
  const UnitPtr unit = Write({0, 1}, 'a', other_);
  other_.reset();
  fork_.ForgetIdleObjects();
  ASSERT_NE(fork_.FindObject(ObjectId{2}), nullptr) << "a pending unit changes it";
  Commit(unit);
  fork_.ForgetIdleObjects();
  EXPECT_NE(fork_.FindObject(ObjectId{2}), nullptr) << "it has pages";
  fork_.Evict(0);
  fork_.ForgetIdleObjects();
  EXPECT_EQ(fork_.FindObject(ObjectId{2}), nullptr);
}

// ---- Against a model ----

constexpr uint64_t kObjects = 2;
constexpr uint64_t kBlocks = 40;

// What each block holds as accepted and as durable: a letter, or 0 for zeros.
class CowForkModel {
 public:
  explicit CowForkModel(uint64_t seed) : random_(seed) {
    for (uint64_t i = 0; i < kObjects; ++i) {
      objects_.push_back(fork_.AddObject({ObjectId{i + 1}, 0, "o"}));
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
      fork_.Evict(Below(2) ? 0 : Below(kObjects * kBlocks) * kBlockBytes);
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
    EXPECT_EQ(fork_.dirty_blocks(), 0u);
    EXPECT_EQ(fork_.committing_units(), 0u);
    fork_.Evict(0);
    EXPECT_EQ(fork_.page_memory_bytes(), 0u);
  }

  void Check() {
    for (uint64_t o = 0; o < kObjects; ++o) {
      for (uint64_t b = 0; b < kBlocks; ++b) {
        const Page* page = fork_.FindPage(*objects_[o], b);
        if (page != nullptr && page->buffer) {
          ASSERT_EQ(static_cast<char>(page->buffer.data()[0]), accepted_[o][b]) << o << ":" << b;
        } else {
          ASSERT_TRUE(page == nullptr || page->pending == nullptr) << "a pending page is gone";
          const bool hole = fork_.InPendingHole(*objects_[o], b);
          ASSERT_EQ(accepted_[o][b], hole ? '\0' : durable_[o][b]) << o << ":" << b;
        }
      }
    }
    uint64_t dirty = 0;
    std::set<std::tuple<uint64_t, ObjectId, uint64_t>> blocks;  // epoch, object, block
    std::map<std::pair<uint64_t, ObjectId>, std::pair<int, bool>> units;
    for (const auto& [order, unit] : fork_.pending()) {
      ASSERT_EQ(unit->state, Unit::State::kPending);
      uint64_t unit_blocks = 0;
      for (const auto& [id, change] : unit->changes) {
        unit_blocks += BlocksOf(change.data);
        auto& [count, metadata] = units[{unit->epoch, id}];
        ++count;
        metadata |= change.metadata();
        ASSERT_TRUE(count == 1 || !metadata) << "invariant 2, object " << Value(id);
        change.data.ForEach([&, &unit = unit, id = id](BlockRange r) {
          for (uint64_t b = r.start; b < r.end(); ++b) {
            ASSERT_TRUE(blocks.insert({unit->epoch, id, b}).second)
                << "invariant 1, object " << Value(id) << " block " << b;
          }
        });
      }
      ASSERT_EQ(unit->data_blocks, unit_blocks);
      dirty += unit_blocks;
    }
    for (const Sent& sent : committing_) dirty += sent.unit->data_blocks;
    ASSERT_EQ(fork_.dirty_blocks(), dirty);
    ASSERT_EQ(fork_.committing_units(), committing_.size());
  }

 private:
  struct Sent {
    UnitPtr unit;
    bool in_place;
    std::vector<std::string> content;  // of the frozen ranges
  };
  struct Reading {
    uint64_t object, block, token;
    char content;
  };

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  BlockRange RandomRange() {
    const uint64_t start = Below(kBlocks);
    return {start, 1 + Below(std::min<uint64_t>(kBlocks - start, Below(4) ? 4 : 20))};
  }

  void Write() {
    const uint64_t o = Below(kObjects);
    const BlockRange range = RandomRange();
    const char value = static_cast<char>('a' + Below(26));
    const UnitPtr unit = fork_.UnitForRange(objects_[o], range);
    for (uint64_t b = range.start; b < range.end(); ++b) {
      BufferRef buffer = fork_.pool().New();
      std::memset(buffer.data(), value, kBlockBytes);
      fork_.StageBlock(unit, objects_[o], b, std::move(buffer));
      accepted_[o][b] = value;
    }
  }

  void Punch() {
    const uint64_t o = Below(kObjects);
    const BlockRange range = RandomRange();
    fork_.StageHole(fork_.UnitForObject(objects_[o]), objects_[o], range);
    for (uint64_t b = range.start; b < range.end(); ++b) accepted_[o][b] = 0;
  }

  // As the engine does: earlier epochs first, and none while an earlier one is on its way in place.
  void Freeze() {
    if (fork_.pending().empty()) return;
    const uint64_t epoch = fork_.pending().begin()->second->epoch;
    std::vector<UnitPtr> ready;
    for (const auto& [order, unit] : fork_.pending()) {
      if (unit->epoch == epoch && !fork_.MustWait(*unit)) ready.push_back(unit);
    }
    for (const Sent& sent : committing_) {
      if (sent.in_place && sent.unit->epoch < epoch) return;
    }
    if (ready.empty()) return;
    const UnitPtr unit = ready[Below(ready.size())];
    const bool one_range =
        !unit->metadata() && unit->changes.size() == 1 && unit->changes.begin()->second.data.runs() == 1;
    fork_.Freeze(unit);
    committing_.push_back({unit, one_range && Below(2) == 0, Contents(*unit)});
  }

  static std::vector<std::string> Contents(const Unit& unit) {
    std::vector<std::string> contents;
    for (const FrozenRange& range : unit.frozen) {
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
    ASSERT_EQ(Contents(*sent.unit), sent.content) << "frozen content has changed";
    for (const auto& [id, change] : sent.unit->changes) {
      change.holes.ForEach([&, id = id](BlockRange r) {
        for (uint64_t b = r.start; b < r.end(); ++b) durable_[Value(id) - 1][b] = 0;
      });
    }
    for (size_t r = 0; r < sent.unit->frozen.size(); ++r) {
      const FrozenRange& range = sent.unit->frozen[r];
      std::string& durable = durable_[Value(range.object->id) - 1];
      durable.replace(range.blocks.start, range.blocks.count, sent.content[r]);
    }
    fork_.Complete(sent.unit);
  }

  void Unfreeze() {
    for (size_t i = 0; i < committing_.size(); ++i) {
      if (!committing_[i].in_place) continue;
      const UnitPtr unit = committing_[i].unit;
      committing_.erase(committing_.begin() + static_cast<ptrdiff_t>(i));
      fork_.Unfreeze(unit);
      return;
    }
  }

  void Read() {
    if (!reads_.empty() && Below(2)) return FinishRead();
    const uint64_t o = Below(kObjects), b = Below(kBlocks);
    if (fork_.InPendingHole(*objects_[o], b)) return;
    const Page* page = fork_.FindPage(*objects_[o], b);
    if (page != nullptr && !page->unused()) return;
    reads_.push_back({o, b, ++token_, durable_[o][b]});
    ASSERT_NE(fork_.AddReading(*objects_[o], b, token_), nullptr);
  }

  void FinishRead() {
    const size_t i = Below(reads_.size());
    const Reading read = reads_[i];
    reads_.erase(reads_.begin() + static_cast<ptrdiff_t>(i));
    BufferRef buffer = fork_.pool().New();
    std::memset(buffer.data(), read.content, kBlockBytes);
    fork_.FillRead(*objects_[read.object], read.block, read.token, std::move(buffer));
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
  for (uint64_t seed = 1; seed <= 75; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    CowForkModel model(seed);
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
