// Whose each block is: space is reused only by the rule "Reuse" of docs/design.md, and is never promised twice (promise 7).
#include "extent/space_ledger.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <utility>

#include "tests/extent/open_volume.h"

namespace untorn {
namespace {

using SpaceLedgerTest = VolumeTest;

TEST_F(SpaceLedgerTest, DisplacedExtentIsNotReusedBeforeTwoClaimsSettleTheRecordThatMappedIt) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  LogAppend& first = open_->Send({a});
  LogAppend& second =
      open_->Send({open_->NewData(kObject, {0, 4}, 'b')});  // sent before the first is durable
  open_->Flush();
  open_->Durable(first);
  EXPECT_EQ(volume().space().pending_blocks(), 0);
  open_->Durable(second);
  EXPECT_EQ(volume().log().settled().once, 0);
  EXPECT_EQ(volume().space().pending_blocks(), 4);
  EXPECT_FALSE(open_->IsAllocatable(Place(a))) << "recovery would compare its hash with another's data";

  LogAppend& settling = open_->Send({});
  EXPECT_FALSE(open_->IsAllocatable(Place(a))) << "the settling record is not durable yet";
  open_->Flush();
  open_->Durable(settling);
  EXPECT_EQ(volume().log().settled().once, 2);
  EXPECT_EQ(volume().log().settled().twice, 0);
  EXPECT_FALSE(open_->IsAllocatable(Place(a))) << "the only claim may be damaged";
  open_->Commit({});
  EXPECT_EQ(volume().log().settled().twice, 2);
  EXPECT_EQ(volume().space().pending_blocks(), 0);
  EXPECT_TRUE(open_->IsAllocatable(Place(a)));
}

TEST_F(SpaceLedgerTest, DisplacedExtentIsNotReusedBeforeTheRecordThatDisplacedItIsSettled) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({a});
  open_->Commit({});
  open_->Commit({});
  EXPECT_EQ(volume().log().settled().twice, 1);
  LogAppend& displacing = open_->Send({open_->NewData(kObject, {0, 4}, 'b')});
  open_->Flush();
  EXPECT_FALSE(open_->IsAllocatable(Place(a)));
  open_->Durable(displacing);
  EXPECT_FALSE(open_->IsAllocatable(Place(a))) << "the displacing record may be damaged";
  open_->Commit({});
  EXPECT_EQ(volume().log().settled().once, displacing.last);
  EXPECT_TRUE(open_->IsAllocatable(Place(a)));
}

TEST_F(SpaceLedgerTest, DamagedLastRecordBesideAPowerCutCostsThatRecordOnly) {
  // After each commit all that may be allocated is overwritten, as later owners do.
  AlignedBuffer garbage(kBlockBytes);
  std::memset(garbage.data(), 'x', kBlockBytes);
  char committed = 0;
  for (int commit = 1; commit <= 8; ++commit) {
    const bool settling = commit % 3 == 0;
    const char before = committed;
    if (!settling) committed = static_cast<char>('a' + commit);
    std::vector<LogEntry> entries;
    if (!settling) entries.push_back(open_->NewData(kObject, {0, 4}, committed));
    LogAppend& append = open_->Send(std::move(entries));
    open_->Flush();
    const BlockNumber record = volume().geometry().LogBlock(append.start_position);
    open_->Durable(append);

    const std::shared_ptr<SimulatedDisk> disk = disk_->Clone();
    for (const BlockNumber block : open_->Allocatable()) {
      disk->Poke(ByteOffset(block), garbage.data(), kBlockBytes);
    }
    disk->Poke(ByteOffset(record), garbage.data(), kBlockBytes);
    const auto open = OpenVolume::Open(disk);
    ASSERT_NE(open, nullptr);
    const Mappings mappings = open->Lookup(kObject, {0, 4});
    const char want = settling ? committed : before;
    ASSERT_EQ(mappings.at(0).state, want == 0 ? MappingState::kHole : MappingState::kWritten)
        << "commit " << commit;
    if (want == 0) continue;
    std::byte found[kBlockBytes];
    disk->Peek(ByteOffset(mappings.at(0).physical), found, kBlockBytes);
    EXPECT_EQ(static_cast<char>(found[0]), want) << "commit " << commit;
  }
}

// Two commits in flight claim the same. If the block of the first is damaged, the claim of the second must count.
TEST_F(SpaceLedgerTest, SecondClaimCountsBehindADamagedFirst) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({a});
  LogAppend& first = open_->Send({});
  LogAppend& second = open_->Send({});
  const BlockNumber record = volume().geometry().LogBlock(first.start_position);
  open_->Flush();
  open_->Durable(first);
  open_->Durable(second);
  ASSERT_EQ(volume().log().settled().twice, 1) << "so its data may be overwritten in place";
  const char garbage[kBlockBytes] = {'x'};
  disk_->Poke(ByteOffset(a.physical), garbage, kBlockBytes);
  disk_->Poke(ByteOffset(record), garbage, kBlockBytes);
  Reopen();
  EXPECT_EQ(open_->Lookup(kObject, {0, 4}).at(0).physical, a.physical);
}

TEST_F(SpaceLedgerTest, ExtentOfACheckpointIsReusedOnlyAfterACheckpointWithoutIt) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({a});
  ASSERT_TRUE(open_->Checkpoint().ok());
  open_->Commit({open_->NewData(kObject, {0, 4}, 'b')});
  open_->Commit({});  // everything is settled
  EXPECT_EQ(volume().space().pending_blocks(), 0);
  EXPECT_FALSE(open_->IsAllocatable(Place(a))) << "the last durable checkpoint refers to it";
  PowerCut();
  EXPECT_FALSE(open_->IsAllocatable(Place(a)));
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_TRUE(open_->IsAllocatable(Place(a)));
}

TEST_F(SpaceLedgerTest, ExtentIsNotReusedWhileItIsRead) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({a});
  ReadPin pin = volume().space().PinRead({a.physical + 3, 10});  // its last block, and what follows
  EXPECT_TRUE(volume().space().ReadOutstanding(Place(a)));
  EXPECT_FALSE(volume().space().ReadOutstanding({a.physical, 3}));
  open_->Commit({open_->NewData(kObject, {0, 4}, 'b')});
  open_->Commit({});
  EXPECT_EQ(volume().space().pending_blocks(), 4);
  EXPECT_FALSE(open_->IsAllocatable(Place(a))) << "a slow reader would get another object's data";
  pin = ReadPin();
  ASSERT_TRUE(volume().space().ReleasePending().ok());
  EXPECT_TRUE(open_->IsAllocatable(Place(a)));
}

TEST_F(SpaceLedgerTest, ExtentThatACheckpointFreedIsNotReusedWhileItIsRead) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({a});
  ASSERT_TRUE(open_->Checkpoint().ok());
  open_->Commit({LogEntry::Hole(kObject, {0, 4})});
  ReadPin pin = volume().space().PinRead(Place(a));
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_FALSE(open_->IsAllocatable(Place(a)));
  pin = ReadPin();
  ASSERT_TRUE(volume().space().ReleasePending().ok());
  EXPECT_TRUE(open_->IsAllocatable(Place(a)));
}

TEST_F(SpaceLedgerTest, ClaimsAreGrantedUpToWhatIsKeptBackAndNoFurther) {
  SpaceLedger& space = volume().space();
  const BlockCount reservable = space.ReservableBlocks();
  EXPECT_LT(reservable, space.free_blocks());
  EXPECT_FALSE(space.TryReserve({reservable + 1, 0}, SpaceFor::kGrowth));
  {
    const std::optional<Reservation> all = space.TryReserve({reservable, 0}, SpaceFor::kGrowth);
    EXPECT_TRUE(all);
    EXPECT_EQ(space.ReservableBlocks(), 0);
    EXPECT_FALSE(space.TryReserve({1, 0}, SpaceFor::kGrowth));
    const std::optional<Reservation> one = space.TryReserve({1, 0}, SpaceFor::kRelease);
    EXPECT_TRUE(one) << "removing works on a full store";
  }
  EXPECT_EQ(space.reserved().blocks, 0);
  EXPECT_EQ(space.ReservableBlocks(), reservable);
}

TEST_F(SpaceLedgerTest, ReservationIsSplitAddedAndGivenBackWhenItGoes) {
  SpaceLedger& space = volume().space();
  {
    Reservation whole = *space.TryReserve({10, 4}, SpaceFor::kGrowth);
    EXPECT_FALSE(whole.TrySplit({11, 0}));
    EXPECT_FALSE(whole.TrySplit({0, 5}));
    Reservation part = *whole.TrySplit({3, 1});
    EXPECT_EQ(whole.cost(), (SpaceCost{7, 3}));
    EXPECT_EQ(part.cost(), (SpaceCost{3, 1}));
    EXPECT_EQ(space.reserved().blocks, 10);
    Reservation moved;
    moved.Add(std::move(part));
    EXPECT_TRUE(part.empty());
    moved.ReleaseBlocks(2);
    moved.ReleaseEntries(1);
    EXPECT_EQ(moved.cost(), (SpaceCost{1, 0}));
    EXPECT_EQ(space.reserved().blocks, 8);
    whole = std::move(moved);
    EXPECT_EQ(space.reserved().blocks, 1) << "what it held before went back";
  }
  EXPECT_EQ(space.reserved().blocks, 0);
}

TEST_F(SpaceLedgerTest, ReservedIsTheSumOfTheReservationsThatExist) {  // invariant 3
  SpaceLedger& space = volume().space();
  std::mt19937_64 random(1);
  std::vector<Reservation> reservations(4);
  for (int step = 0; step < 2000; ++step) {
    Reservation& one = reservations[random() % reservations.size()];
    Reservation& other = reservations[random() % reservations.size()];
    const SpaceCost some{BlockCount(random() % (one.blocks().value() + 1)),
                         random() % (one.tree_entries() + 1)};
    switch (random() % 7) {
      case 0:
      case 1:
        if (auto more = space.TryReserve({BlockCount(random() % 50), random() % 20}, SpaceFor::kGrowth)) {
          one.Add(*std::move(more));
        }
        break;
      case 2:
        if (&one != &other) other.Add(*one.TrySplit(some));
        break;
      case 3:
        one.ReleaseBlocks(some.blocks);
        break;
      case 4:
        one.ReleaseEntries(some.tree_entries);
        break;
      case 5:
        if (&one != &other) other = std::move(one);
        break;
      case 6:
        one.Release();
        break;
    }
    SpaceCost sum;
    for (const Reservation& r : reservations) sum += r.cost();
    ASSERT_EQ(space.reserved(), sum) << "step " << step;
    open_->CheckInvariants();
  }
  reservations.clear();
  EXPECT_EQ(space.reserved(), SpaceCost());
}

TEST_F(SpaceLedgerTest, AStoreFilledByItsClaimsCanStillBeCheckpointedAndEmptied) {
  uint64_t object = 1;
  while (const auto reservation = volume().space().TryReserve({1, 1}, SpaceFor::kGrowth)) {
    if (!volume().log().HasRoom(1)) {
      ASSERT_TRUE(open_->Checkpoint().ok());
    }
    open_->Commit({open_->NewData(ObjectId{object}, {5, 1}, 'x')});
    ++object;
  }
  EXPECT_GT(object, 1000u);
  ASSERT_TRUE(open_->Checkpoint().ok());
  for (uint64_t o = 1; o < object; ++o) {
    auto reservation = volume().space().TryReserve({0, 2}, SpaceFor::kRelease);
    // As the layers above do: before they refuse they make a checkpoint.
    if (!volume().log().HasRoom(1) || !reservation) {
      ASSERT_TRUE(open_->Checkpoint().ok());
      reservation = volume().space().TryReserve({0, 2}, SpaceFor::kRelease);
      ASSERT_TRUE(reservation) << "object " << o;
    }
    open_->Commit({LogEntry::InodeGone(ObjectId{o})});
  }
  ASSERT_TRUE(open_->Checkpoint().ok());
  const Geometry g = volume().geometry();
  EXPECT_EQ(volume().space().free_blocks(), g.DataBlocks());
  PowerCut();
  EXPECT_EQ(BlockCount(open_->Allocatable().size()), g.DataBlocks());
}

TEST(PrepareTest, PreparedSpaceGrowsAndIsNotForgotten) {
  constexpr uint64_t kSize = 64 << 20;
  auto disk = std::make_shared<SimulatedDisk>(kSize);
  ASSERT_TRUE(Format(disk, 0, true).ok());
  auto open = OpenVolume::Open(disk);
  ASSERT_NE(open, nullptr);
  const BlockCount prepared = open->volume().space().prepared_blocks();
  EXPECT_LT(prepared, WholeBlocks(kSize));
  EXPECT_LT(*open->Allocatable().rbegin(), BlockAfterFirst(prepared));
  {
    Lock lock(open->mutex());
    EXPECT_EQ(open->volume().space().PrepareMore(lock, 1000).value(), SpaceLedger::Prepared::kMore);
  }
  EXPECT_EQ(open->volume().space().prepared_blocks(), prepared + 1000);
  EXPECT_EQ(*open->Allocatable().rbegin(), BlockAfterFirst(prepared + 999));
  open->Commit({LogEntry::Hole(kObject, {0, 1})});  // the watermark goes with every record
  std::mt19937_64 random(1);
  disk->Crash(random, 0);
  open.reset();
  open = OpenVolume::Open(disk);
  ASSERT_NE(open, nullptr);
  EXPECT_EQ(open->volume().space().prepared_blocks(), prepared + 1000);
  {
    Lock lock(open->mutex());
    EXPECT_EQ(open->volume().space().PrepareMore(lock, 1 << 20).value(), SpaceLedger::Prepared::kMore);
    EXPECT_EQ(open->volume().space().PrepareMore(lock, 1).value(), SpaceLedger::Prepared::kAllPrepared)
        << "all of it is prepared";
  }
  EXPECT_EQ(open->volume().space().prepared_blocks(), WholeBlocks(kSize));
}

}  // namespace
}  // namespace untorn
