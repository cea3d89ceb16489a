// A volume on a simulated disk: what is durable comes back (promise 3), whole (promises 1 and 6), and space
// is reused only by the rule "Reuse" of docs/design.md.
#include "extent/volume.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sim/simulated_device.h"
#include "tests/rounds.h"

namespace untorn {
namespace {

constexpr ObjectId kObject{1};
constexpr uint64_t kSmallest = 8 << 20;

absl::Status Format(std::shared_ptr<SimulatedDisk> disk, uint64_t size_bytes, bool needs_preparing = false,
                    bool prepare_all = false) {
  SimulatedDevice device(disk, {.size_bytes = disk->size_bytes(), .needs_preparing = needs_preparing});
  return Volume::Format(device, size_bytes, prepare_all, nullptr);
}

// One process that has a volume open.
class OpenVolume {
 public:
  using Lock = std::unique_lock<std::mutex>;

  static std::unique_ptr<OpenVolume> Open(std::shared_ptr<SimulatedDisk> disk, bool read_only = false,
                                          size_t node_cache_nodes = 100, uint64_t seed = 1) {
    auto open = std::unique_ptr<OpenVolume>(new OpenVolume(std::move(disk), seed));
    absl::StatusOr<std::unique_ptr<Volume>> volume = Volume::Open(open->pump_, read_only, node_cache_nodes);
    EXPECT_TRUE(volume.ok()) << volume.status();
    if (!volume.ok()) return nullptr;
    open->volume_ = *std::move(volume);
    return open;
  }

  Volume& volume() { return *volume_; }
  SimulatedDevice& device() { return device_; }
  std::mutex& mutex() { return mu_; }
  const IoCounts& io_counts() const { return pump_.counts(); }

  // Stages data for an extent, to be sent with the next commit; its entry.
  LogEntry Data(ObjectId object, BlockRange range, uint64_t physical, char value, bool reserved = false) {
    Pending& pending = data_.emplace_back();
    pending.bytes = AlignedBuffer(range.count * kBlockBytes);
    std::memset(pending.bytes.data(), value, pending.bytes.size());
    pending.request.op = IoOp::kWrite;
    pending.request.offset_bytes = physical * kBlockBytes;
    pending.request.iov = {{pending.bytes.data(), pending.bytes.size()}};
    const iovec piece{pending.bytes.data(), pending.bytes.size()};
    return LogEntry::Map(object, range, physical, MappingState::kWritten, HashData({&piece, 1}), reserved);
  }
  absl::StatusOr<Extent> Allocate(uint64_t want, uint64_t min = 0, uint64_t alignment = 1) {
    Lock lock(mu_);
    return volume_->Allocate(lock, want, min == 0 ? want : min, alignment);
  }
  // A write of `count` blocks to a new extent.
  LogEntry NewData(ObjectId object, BlockRange range, char value) {
    const absl::StatusOr<Extent> extent = Allocate(range.count);
    EXPECT_TRUE(extent.ok()) << extent.status();
    return Data(object, range, extent.ok() ? extent->start : 0, value);
  }

  // Puts a commit at the log's end and sends it with the data staged before.
  LogAppend& Send(std::vector<LogEntry> entries) {
    Lock lock(mu_);
    EXPECT_TRUE(volume_->LogHasRoom(Volume::LogBlocksFor(entries)));
    LogAppend& append = appends_.emplace_back();
    volume_->Append(std::move(entries), &append);
    std::vector<IoRequest*> requests;
    for (IoRequest& r : append.requests) requests.push_back(&r);
    for (Pending& p : data_) requests.push_back(&p.request);
    const absl::Status status = pump_.RunAll(lock, requests);
    EXPECT_TRUE(status.ok()) << status;
    data_.clear();
    return append;
  }
  void Flush() {
    Lock lock(mu_);
    IoRequest flush;
    flush.op = IoOp::kFlush;
    const absl::Status status = pump_.Run(lock, &flush);
    EXPECT_TRUE(status.ok()) << status;
  }
  void Durable(LogAppend& append) {
    Lock lock(mu_);
    const absl::Status status = volume_->RecordsDurable(append);
    EXPECT_TRUE(status.ok()) << status;
  }
  Lsn Commit(std::vector<LogEntry> entries) {
    LogAppend& append = Send(std::move(entries));
    Flush();
    Durable(append);
    return append.last;
  }
  absl::Status Checkpoint() {
    Lock lock(mu_);
    return volume_->RunCheckpoint(lock);
  }

  // Asks until no node is missing.
  template <typename Ask>
  absl::Status Find(Ask ask) {
    Lock lock(mu_);
    const NodeCache::Hold hold(volume_->node_cache());  // a range may need more nodes than the cache keeps
    while (true) {
      const absl::StatusOr<bool> found = ask();
      if (!found.ok()) return found.status();
      if (*found) return absl::OkStatus();
      if (absl::Status s = volume_->LoadMissing(lock); !s.ok()) return s;
    }
  }
  std::vector<Mapping> Lookup(ObjectId object, BlockRange range) {
    std::vector<Mapping> mappings;
    const absl::Status status = Find([&] { return volume_->TryLookup(object, range, &mappings); });
    EXPECT_TRUE(status.ok()) << status;
    uint64_t at = range.start;
    for (const Mapping& m : mappings) {
      EXPECT_EQ(m.logical.start, at);
      EXPECT_GT(m.logical.count, 0u);
      at = m.logical.end();
    }
    EXPECT_EQ(at, range.end());
    return mappings;
  }
  std::optional<Inode> FindInode(ObjectId object) {
    std::optional<Inode> inode;
    const absl::Status status = Find([&] { return volume_->TryFindInode(object, &inode); });
    EXPECT_TRUE(status.ok()) << status;
    return inode;
  }
  std::optional<ObjectId> FindName(const std::string& name) {
    std::optional<ObjectId> object;
    const absl::Status status = Find([&] { return volume_->TryFindName(name, &object); });
    EXPECT_TRUE(status.ok()) << status;
    return object;
  }
  std::vector<std::pair<std::string, ObjectId>> Names() {
    std::vector<std::pair<std::string, ObjectId>> names;
    while (true) {
      std::optional<std::pair<std::string, ObjectId>> next;
      const std::string after = names.empty() ? "" : names.back().first;
      const absl::Status status = Find([&] { return volume_->TryNextName(after, &next); });
      EXPECT_TRUE(status.ok()) << status;
      if (!next) return names;
      names.push_back(*next);
    }
  }

  // Takes all there is, block by block; gives it back. So: what could be allocated now.
  std::set<uint64_t> Allocatable() {
    std::set<uint64_t> blocks;
    std::vector<Extent> extents;
    while (true) {
      const absl::StatusOr<Extent> extent = Allocate(1 << 20, 1);
      if (!extent.ok()) {
        EXPECT_TRUE(absl::IsResourceExhausted(extent.status())) << extent.status();
        break;
      }
      extents.push_back(*extent);
      for (uint64_t b = extent->start; b < extent->end(); ++b) EXPECT_TRUE(blocks.insert(b).second);
    }
    Lock lock(mu_);
    for (const Extent& e : extents) EXPECT_TRUE(volume_->ReturnUnused(e).ok());
    return blocks;
  }
  bool IsAllocatable(Extent extent) {
    const std::set<uint64_t> blocks = Allocatable();
    uint64_t n = 0;
    for (uint64_t b = extent.start; b < extent.end(); ++b) n += blocks.contains(b);
    EXPECT_TRUE(n == 0 || n == extent.count) << "partly";
    return n > 0;
  }

 private:
  struct Pending {
    AlignedBuffer bytes;
    IoRequest request;
  };
  OpenVolume(std::shared_ptr<SimulatedDisk> disk, uint64_t seed)
      : device_(disk, {.size_bytes = disk->size_bytes(), .seed = seed}) {}

  SimulatedDevice device_;
  std::mutex mu_;
  IoPump pump_{device_, mu_};
  std::deque<Pending> data_;
  std::deque<LogAppend> appends_;
  std::unique_ptr<Volume> volume_;
};

class VolumeTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(Format(disk_, 0).ok());
    open_ = OpenVolume::Open(disk_);
    ASSERT_NE(open_, nullptr);
  }
  // Another process opens the store; whatever is not durable is lost.
  void PowerCut() {
    std::mt19937_64 random(7);
    disk_->Crash(random, 0);
    Reopen();
  }
  void Reopen() {
    open_.reset();
    open_ = OpenVolume::Open(disk_);
    ASSERT_NE(open_, nullptr);
  }
  Volume& volume() { return open_->volume(); }
  static Extent Place(const LogEntry& entry) { return {entry.physical, entry.logical.count}; }

  std::shared_ptr<SimulatedDisk> disk_ = std::make_shared<SimulatedDisk>(kSmallest);
  std::unique_ptr<OpenVolume> open_;
};

// ---- Format and open ----

TEST(VolumeFormatTest, SizeThatIsTooSmallOrLargerThanTheDeviceIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(Format(std::make_shared<SimulatedDisk>(kSmallest - kBlockBytes), 0)));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Format(std::make_shared<SimulatedDisk>(2 * kSmallest), kSmallest - kBlockBytes)));
  EXPECT_TRUE(absl::IsInvalidArgument(Format(std::make_shared<SimulatedDisk>(kSmallest), 2 * kSmallest)));
}

TEST(VolumeFormatTest, CutWhileFormattingLeavesAStoreOrNone) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    auto disk = std::make_shared<SimulatedDisk>(kSmallest);
    {
      SimulatedDevice device(disk, {.size_bytes = kSmallest, .seed = seed});
      device.FailAfter(seed % 2 ? IoOp::kWrite : IoOp::kFlush, 1 + random() % 6, absl::InternalError("cut"),
                       UINT64_MAX / 2);
      (void)Volume::Format(device, 0, /*prepare_all=*/false, nullptr);
    }
    disk->Crash(random);
    SimulatedDevice device(disk, {.size_bytes = kSmallest});
    const auto usable = UsableSuperblock(ReadSuperblocks(device), device.info(), true);
    if (usable.ok()) {
      EXPECT_NE(OpenVolume::Open(disk), nullptr);
    } else {
      EXPECT_TRUE(absl::IsInvalidArgument(usable.status()) || absl::IsDataLoss(usable.status()))
          << usable.status();
    }
  }
}

TEST_F(VolumeTest, NewStoreIsEmptyAndHasAllItsDataAreaFree) {
  EXPECT_TRUE(open_->Names().empty());
  EXPECT_EQ(open_->FindInode(kObject), std::nullopt);
  const auto mappings = open_->Lookup(kObject, {0, kObjectBlocksMax});
  ASSERT_EQ(mappings.size(), 1u);
  EXPECT_EQ(mappings[0].state, MappingState::kHole);
  const Geometry g = volume().geometry();
  EXPECT_EQ(volume().free_blocks(), g.total_blocks - g.data_start);
  EXPECT_EQ(open_->Allocatable().size(), g.total_blocks - g.data_start);
}

TEST_F(VolumeTest, EachOpeningBeginsANewEpochAndANewSuperblock) {
  const Superblock before = volume().superblock();
  PowerCut();
  EXPECT_EQ(volume().superblock().epoch, before.epoch + 1);
  EXPECT_EQ(volume().superblock().generation, before.generation + 1);
}

TEST_F(VolumeTest, OpenedReadOnlyItWritesNothing) {
  open_->Commit({open_->NewData(kObject, {3, 2}, 'a')});
  open_.reset();
  open_ = OpenVolume::Open(disk_, true);
  ASSERT_NE(open_, nullptr);
  EXPECT_EQ(open_->Lookup(kObject, {3, 2}).at(0).state, MappingState::kWritten);
  EXPECT_EQ(open_->device().counts().writes, 0u);
  EXPECT_EQ(open_->device().counts().flushes, 0u);
}

// ---- Mappings (invariant 1) ----

TEST_F(VolumeTest, MappingAppearsOnlyWhenItsRecordIsDurable) {
  const LogEntry entry = open_->NewData(kObject, {3, 2}, 'a');
  LogAppend& append = open_->Send({entry});
  EXPECT_EQ(open_->Lookup(kObject, {3, 2}).at(0).state, MappingState::kHole);
  EXPECT_EQ(volume().durable_lsn(), 0u);
  open_->Flush();
  open_->Durable(append);
  const Mapping m = open_->Lookup(kObject, {0, 10}).at(1);
  EXPECT_EQ(m.logical, (BlockRange{3, 2}));
  EXPECT_EQ(m.state, MappingState::kWritten);
  EXPECT_EQ(m.physical, entry.physical);
  EXPECT_EQ(m.lsn, 1u);
  EXPECT_EQ(volume().durable_lsn(), 1u);
  EXPECT_EQ(volume().settled_lsn(), 0u);
}

TEST_F(VolumeTest, EverythingDurableComesBackFromTheLogAndFromTheTree) {
  open_->Commit({LogEntry::SetInode({kObject, 12345, "one"}), LogEntry::Name("one", kObject)});
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({a});
  for (int round = 0; round < 4; ++round) {
    PowerCut();
    const auto mappings = open_->Lookup(kObject, {0, 6});
    ASSERT_EQ(mappings.size(), 2u);
    EXPECT_EQ(mappings[0].extent(), Place(a));
    EXPECT_EQ(mappings[1].state, MappingState::kHole);
    EXPECT_EQ(open_->FindInode(kObject), (Inode{kObject, 12345, "one"}));
    EXPECT_EQ(open_->FindName("one"), kObject);
    EXPECT_FALSE(open_->IsAllocatable(Place(a)));
    if (round == 1) {
      ASSERT_TRUE(open_->Checkpoint().ok());
      EXPECT_EQ(open_->Lookup(kObject, {0, 4}).at(0).lsn, 0u) << "a checkpoint holds it";
      EXPECT_EQ(volume().log_blocks_used(), 0u);
    }
  }
}

TEST_F(VolumeTest, NamesComeInByteOrderWhateverLayerHasThem) {
  open_->Commit({LogEntry::Name("b", ObjectId{1}), LogEntry::Name("d", ObjectId{2}),
                 LogEntry::Name("e", ObjectId{3}), LogEntry::Name("e\xff", ObjectId{4})});
  ASSERT_TRUE(open_->Checkpoint().ok());
  open_->Commit({LogEntry::NameGone("d"), LogEntry::Name("a", ObjectId{5}), LogEntry::Name("c", ObjectId{6}),
                 LogEntry::Name("e", ObjectId{7}), LogEntry::NameGone("nothing")});
  using Names = std::vector<std::pair<std::string, ObjectId>>;
  EXPECT_EQ(open_->Names(), (Names{{"a", ObjectId{5}},
                                   {"b", ObjectId{1}},
                                   {"c", ObjectId{6}},
                                   {"e", ObjectId{7}},
                                   {"e\xff", ObjectId{4}}}));
  EXPECT_EQ(open_->FindName("d"), std::nullopt);
}

TEST_F(VolumeTest, ObjectNumbersAreNeverUsedTwice) {
  const ObjectId first = volume().NewObjectId();
  open_->Commit({LogEntry::SetInode({first, 0, "a"}), LogEntry::InodeGone(first)});
  PowerCut();
  const ObjectId second = volume().NewObjectId();
  EXPECT_GT(Value(second), Value(first));
  ASSERT_TRUE(open_->Checkpoint().ok());
  PowerCut();
  EXPECT_GT(Value(volume().NewObjectId()), Value(first));
}

TEST_F(VolumeTest, TransactionOfSeveralRecordsSettlesWithItsLast) {
  std::vector<LogEntry> entries;
  for (uint64_t i = 0; i < 9000; ++i) entries.push_back(LogEntry::Hole(ObjectId{2}, {2 * i, 1}));
  entries.push_back(open_->NewData(kObject, {0, 1}, 'a'));
  const uint64_t blocks = Volume::LogBlocksFor(entries);
  LogAppend& append = open_->Send(std::move(entries));
  EXPECT_EQ(append.records, 2u);
  EXPECT_EQ(volume().log_blocks_used(), blocks);
  open_->Flush();
  open_->Durable(append);
  EXPECT_EQ(append.first + 1, append.last);
  EXPECT_EQ(open_->Lookup(ObjectId{2}, {0, 1}).at(0).lsn, append.last) << "of the first record, too";
  EXPECT_EQ(open_->Lookup(kObject, {0, 1}).at(0).lsn, append.last);
  const Lsn last = append.last;
  PowerCut();
  EXPECT_EQ(open_->Lookup(ObjectId{2}, {0, 1}).at(0).lsn, last);
  EXPECT_EQ(volume().counters().recovered_records, 2u);
}

// ---- Reuse (invariants 2 and 3) ----

TEST_F(VolumeTest, DisplacedExtentIsNotReusedBeforeTheRecordThatMappedItIsSettled) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  LogAppend& first = open_->Send({a});
  LogAppend& second =
      open_->Send({open_->NewData(kObject, {0, 4}, 'b')});  // sent before the first is durable
  open_->Flush();
  open_->Durable(first);
  EXPECT_EQ(volume().pending_blocks(), 0u);
  open_->Durable(second);
  EXPECT_EQ(volume().settled_lsn(), 0u);
  EXPECT_EQ(volume().pending_blocks(), 4u);
  EXPECT_FALSE(open_->IsAllocatable(Place(a))) << "recovery would compare its hash with another's data";

  LogAppend& settling = open_->Send({});
  EXPECT_FALSE(open_->IsAllocatable(Place(a))) << "the settling record is not durable yet";
  open_->Flush();
  open_->Durable(settling);
  EXPECT_EQ(volume().settled_lsn(), 2u);
  EXPECT_EQ(volume().pending_blocks(), 0u);
  EXPECT_TRUE(open_->IsAllocatable(Place(a)));
}

TEST_F(VolumeTest, DisplacedExtentIsNotReusedBeforeTheRecordThatDisplacedItIsDurable) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({a});
  LogAppend& second = open_->Send({open_->NewData(kObject, {0, 4}, 'b')});
  open_->Flush();
  EXPECT_FALSE(open_->IsAllocatable(Place(a)));
  EXPECT_EQ(volume().settled_lsn(), 0u);
  open_->Durable(second);
  EXPECT_EQ(volume().settled_lsn(), 1u) << "the second claims the first";
  EXPECT_TRUE(open_->IsAllocatable(Place(a)));
}

TEST_F(VolumeTest, SuperblockSettlesAllThatIsDurableWhenItIsWritten) {
  open_->Commit({open_->NewData(kObject, {0, 4}, 'a')});
  const LogEntry b = open_->NewData(kObject, {8, 4}, 'b');
  open_->Commit({b});
  EXPECT_EQ(volume().settled_lsn(), 1u);
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_EQ(volume().settled_lsn(), 2u);
  open_->Commit({open_->NewData(kObject, {20, 1}, 'c')});
  PowerCut();
  EXPECT_EQ(volume().settled_lsn(), 3u) << "opening wrote a superblock";
}

TEST_F(VolumeTest, ExtentOfACheckpointIsReusedOnlyAfterACheckpointWithoutIt) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({a});
  ASSERT_TRUE(open_->Checkpoint().ok());
  open_->Commit({open_->NewData(kObject, {0, 4}, 'b')});
  open_->Commit({});  // everything is settled
  EXPECT_EQ(volume().pending_blocks(), 0u);
  EXPECT_FALSE(open_->IsAllocatable(Place(a))) << "the last durable checkpoint refers to it";
  PowerCut();
  EXPECT_FALSE(open_->IsAllocatable(Place(a)));
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_TRUE(open_->IsAllocatable(Place(a)));
}

TEST_F(VolumeTest, ExtentIsNotReusedWhileItIsRead) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({a});
  const Volume::ReadPin pin = volume().PinRead({a.physical + 3, 10});  // its last block, and what follows
  EXPECT_TRUE(volume().ReadOutstanding(Place(a)));
  EXPECT_FALSE(volume().ReadOutstanding({a.physical, 3}));
  open_->Commit({open_->NewData(kObject, {0, 4}, 'b')});
  open_->Commit({});
  EXPECT_EQ(volume().pending_blocks(), 4u);
  EXPECT_FALSE(open_->IsAllocatable(Place(a))) << "a slow reader would get another object's data";
  volume().UnpinRead(pin);
  ASSERT_TRUE(volume().ReleasePending().ok());
  EXPECT_TRUE(open_->IsAllocatable(Place(a)));
}

TEST_F(VolumeTest, ExtentThatACheckpointFreedIsNotReusedWhileItIsRead) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({a});
  ASSERT_TRUE(open_->Checkpoint().ok());
  open_->Commit({LogEntry::Hole(kObject, {0, 4})});
  const Volume::ReadPin pin = volume().PinRead(Place(a));
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_FALSE(open_->IsAllocatable(Place(a)));
  volume().UnpinRead(pin);
  ASSERT_TRUE(volume().ReleasePending().ok());
  EXPECT_TRUE(open_->IsAllocatable(Place(a)));
}

TEST_F(VolumeTest, RemovedObjectsSpaceComesBackWithTheCheckpoint) {
  const uint64_t free = volume().free_blocks();
  open_->Commit({LogEntry::SetInode({kObject, 1, "a"}), LogEntry::Name("a", kObject),
                 open_->NewData(kObject, {0, 100}, 'a'), open_->NewData(kObject, {500, 30}, 'a')});
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_LT(volume().free_blocks(), free - 130);
  open_->Commit({LogEntry::InodeGone(kObject), LogEntry::NameGone("a")});
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_EQ(volume().free_blocks(), free) << "and that of the tree";
}

TEST_F(VolumeTest, WriteIntoReservedBlocksKeepsThemOnceThroughACheckpoint) {
  const absl::StatusOr<Extent> extent = open_->Allocate(8);
  ASSERT_TRUE(extent.ok());
  const uint64_t free = volume().free_blocks();
  open_->Commit({LogEntry::Map(kObject, {0, 8}, extent->start, MappingState::kUnwritten, {}, false)});
  ASSERT_TRUE(open_->Checkpoint().ok());
  open_->Commit({open_->Data(kObject, {2, 3}, extent->start + 2, 'a', true)});
  for (int round = 0; round < 2; ++round) {
    PowerCut();
    const auto mappings = open_->Lookup(kObject, {0, 8});
    ASSERT_EQ(mappings.size(), 3u);
    EXPECT_EQ(mappings[1].state, MappingState::kWritten);
    for (const Mapping& m : mappings) EXPECT_EQ(m.physical, extent->start + m.logical.start);
    EXPECT_FALSE(open_->IsAllocatable(*extent));
    ASSERT_TRUE(open_->Checkpoint().ok());
  }
  EXPECT_EQ(volume().free_blocks(), free - 1) << "but for the tree's node";
}

// ---- Log ----

TEST_F(VolumeTest, LogSinceTheLastCheckpointIsNotOverwritten) {
  uint64_t commits = 0;
  while (volume().LogHasRoom(1)) {
    open_->Commit({LogEntry::SetInode({ObjectId{1 + commits}, commits, "o"})});
    ++commits;
  }
  EXPECT_EQ(commits, volume().geometry().log_blocks);
  PowerCut();
  EXPECT_EQ(volume().counters().recovered_records, commits);
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_TRUE(volume().LogHasRoom(volume().geometry().log_blocks));
  for (uint64_t i = 0; i < 10; ++i) open_->Commit({LogEntry::InodeGone(ObjectId{1 + i})});
  PowerCut();
  EXPECT_EQ(volume().counters().recovered_records, 10u);
  for (uint64_t i = 0; i < commits; ++i)
    EXPECT_EQ(open_->FindInode(ObjectId{1 + i}).has_value(), i >= 10) << i;
}

TEST_F(VolumeTest, LostSuperblockWriteIsFoundByTheRecordsThatNameIt) {
  open_->Commit({open_->NewData(kObject, {0, 1}, 'a')});
  char before[2][kBlockBytes];
  for (int i : {0, 1}) disk_->Peek(kSuperblockSlots[i] * kBlockBytes, before[i], kBlockBytes);
  ASSERT_TRUE(open_->Checkpoint().ok());
  open_->Commit({open_->NewData(kObject, {1, 1}, 'b')});
  open_.reset();
  for (int i : {0, 1}) disk_->Poke(kSuperblockSlots[i] * kBlockBytes, before[i], kBlockBytes);
  SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
  std::mutex mu;
  IoPump pump(device, mu);
  EXPECT_TRUE(absl::IsDataLoss(Volume::Open(pump, true, 10).status())) << "promise 9";
}

TEST_F(VolumeTest, AStoreThatHasNoNumbersLeftIsOpenedForReadingOnly) {
  open_->Commit({LogEntry::SetInode({ObjectId{kNumberMax}, 0, "o"})});
  open_.reset();
  SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
  const auto open = [&](bool read_only) {
    std::mutex mu;
    IoPump pump(device, mu);
    return Volume::Open(pump, read_only, 10).status();
  };
  EXPECT_TRUE(absl::IsResourceExhausted(open(false))) << "object numbers";
  EXPECT_TRUE(open(true).ok());
  const Superblock before = *ReadSuperblocks(device).slots[0];
  for (uint64_t Superblock::*number :
       {&Superblock::generation, &Superblock::epoch, &Superblock::checkpoint_position}) {
    Superblock superblock = before;
    superblock.next_object = 2;
    superblock.*number = UINT64_MAX;
    for (int slot : {0, 1}) {
      char block[kBlockBytes];
      EncodeSuperblock(superblock, slot, std::as_writable_bytes(std::span(block)));
      disk_->Poke(kSuperblockSlots[slot] * kBlockBytes, block, kBlockBytes);
    }
    EXPECT_TRUE(absl::IsResourceExhausted(open(false)));
    EXPECT_TRUE(open(true).ok());
  }
}

// ---- Space (promise 7) ----

TEST_F(VolumeTest, ClaimsAreGrantedUpToWhatIsKeptBackAndNoFurther) {
  const uint64_t claimable = volume().ClaimableBlocks();
  EXPECT_LT(claimable, volume().free_blocks());
  EXPECT_FALSE(volume().TryClaim(claimable + 1, 0, false));
  EXPECT_TRUE(volume().TryClaim(claimable, 0, false));
  EXPECT_EQ(volume().ClaimableBlocks(), 0u);
  EXPECT_FALSE(volume().TryClaim(1, 0, false));
  EXPECT_TRUE(volume().TryClaim(1, 0, true)) << "removing works on a full store";
  volume().Unclaim(claimable + 1, 0);
  EXPECT_EQ(volume().claimed_blocks(), 0u);
  EXPECT_EQ(volume().ClaimableBlocks(), claimable);
}

TEST_F(VolumeTest, AStoreFilledByItsClaimsCanStillBeCheckpointedAndEmptied) {
  uint64_t object = 1;
  while (volume().TryClaim(1, 1, false)) {
    if (!volume().LogHasRoom(1)) {
      ASSERT_TRUE(open_->Checkpoint().ok());
    }
    open_->Commit({open_->NewData(ObjectId{object}, {5, 1}, 'x')});
    volume().Unclaim(1, 1);
    ++object;
  }
  EXPECT_GT(object, 1000u);
  ASSERT_TRUE(open_->Checkpoint().ok());
  for (uint64_t o = 1; o < object; ++o) {
    // As the engine does: before it refuses it makes a checkpoint.
    if (!volume().LogHasRoom(1) || !volume().TryClaim(0, 2, true)) {
      ASSERT_TRUE(open_->Checkpoint().ok());
      ASSERT_TRUE(volume().TryClaim(0, 2, true)) << "object " << o;
    }
    open_->Commit({LogEntry::InodeGone(ObjectId{o})});
    volume().Unclaim(0, 2);
  }
  ASSERT_TRUE(open_->Checkpoint().ok());
  const Geometry g = volume().geometry();
  EXPECT_EQ(volume().free_blocks(), g.total_blocks - g.data_start);
  PowerCut();
  EXPECT_EQ(open_->Allocatable().size(), g.total_blocks - g.data_start);
}

TEST(VolumePrepareTest, PreparedSpaceGrowsAndIsNotForgotten) {
  constexpr uint64_t kSize = 64 << 20;
  auto disk = std::make_shared<SimulatedDisk>(kSize);
  ASSERT_TRUE(Format(disk, 0, true).ok());
  auto open = OpenVolume::Open(disk);
  ASSERT_NE(open, nullptr);
  const uint64_t prepared = open->volume().prepared_blocks();
  EXPECT_LT(prepared, kSize / kBlockBytes);
  EXPECT_LT(*open->Allocatable().rbegin(), prepared);
  {
    OpenVolume::Lock lock(open->mutex());
    EXPECT_EQ(open->volume().PrepareMore(lock, 1000).value(), true);
  }
  EXPECT_EQ(open->volume().prepared_blocks(), prepared + 1000);
  EXPECT_EQ(*open->Allocatable().rbegin(), prepared + 999);
  open->Commit({LogEntry::Hole(kObject, {0, 1})});  // the watermark goes with every record
  std::mt19937_64 random(1);
  disk->Crash(random, 0);
  open.reset();
  open = OpenVolume::Open(disk);
  ASSERT_NE(open, nullptr);
  EXPECT_EQ(open->volume().prepared_blocks(), prepared + 1000);
  {
    OpenVolume::Lock lock(open->mutex());
    EXPECT_EQ(open->volume().PrepareMore(lock, 1 << 20).value(), true);
    EXPECT_EQ(open->volume().PrepareMore(lock, 1).value(), false) << "all of it is prepared";
  }
  EXPECT_EQ(open->volume().prepared_blocks(), kSize / kBlockBytes);
}

TEST(VolumePrepareTest, PreparedAtFormatAllOfItIsAllocatable) {
  auto disk = std::make_shared<SimulatedDisk>(64 << 20);
  ASSERT_TRUE(Format(disk, 0, /*needs_preparing=*/true, /*prepare_all=*/true).ok());
  auto open = OpenVolume::Open(disk);
  ASSERT_NE(open, nullptr);
  const Geometry& g = open->volume().geometry();
  EXPECT_EQ(open->volume().prepared_blocks(), g.total_blocks);
  EXPECT_EQ(open->volume().free_blocks(), g.total_blocks - g.data_start);
  OpenVolume::Lock lock(open->mutex());
  EXPECT_EQ(open->volume().PrepareMore(lock, 1).value(), false);
}

TEST_F(VolumeTest, WhatACheckpointWroteIsLookedUpWithoutReading) {
  const auto write = [&](uint64_t step) {
    std::vector<LogEntry> entries;
    for (uint64_t i = 0; i < 300; i += step) entries.push_back(open_->NewData(kObject, {2 * i, 1}, 'a'));
    open_->Commit(std::move(entries));
  };
  write(1);
  ASSERT_TRUE(open_->Checkpoint().ok());
  write(2);
  const uint64_t reads = open_->io_counts().reads;
  ASSERT_TRUE(open_->Checkpoint().ok()) << "nor does the next one read them";
  for (uint64_t i = 0; i < 300; ++i) EXPECT_EQ(open_->Lookup(kObject, {2 * i, 1}).size(), 1u);
  EXPECT_EQ(open_->io_counts().reads, reads);
}

// ---- Checkpoints that fail, damage ----

TEST_F(VolumeTest, CheckpointThatFailsAtAnyOperationLosesNothing) {
  for (uint64_t i = 0; i < 200; ++i) {
    open_->Commit(
        {open_->NewData(ObjectId{1 + i}, {i, 1}, 'a'), LogEntry::SetInode({ObjectId{1 + i}, i, "o"})});
  }
  ASSERT_TRUE(open_->Checkpoint().ok());
  for (uint64_t i = 0; i < 200; i += 3) {
    open_->Commit({open_->NewData(ObjectId{1 + i}, {i, 1}, 'b'), LogEntry::InodeGone(ObjectId{300 + i})});
  }
  std::map<uint64_t, Extent> places;
  for (uint64_t i = 0; i < 200; ++i) places[i] = open_->Lookup(ObjectId{1 + i}, {i, 1}).at(0).extent();
  open_.reset();
  std::mt19937_64 random(5);
  for (const IoOp op : {IoOp::kWrite, IoOp::kFlush, IoOp::kRead}) {
    bool failed = true;
    for (uint64_t nth = 1; failed; ++nth) {
      ASSERT_LT(nth, 100u);
      auto disk = disk_->Clone();
      auto open = OpenVolume::Open(disk, false, 1, nth);
      ASSERT_NE(open, nullptr);
      open->device().FailAfter(op, nth, absl::InternalError("broken"));
      failed = !open->Checkpoint().ok();
      disk->Crash(random);
      open.reset();
      open = OpenVolume::Open(disk);
      ASSERT_NE(open, nullptr) << "operation " << nth;
      for (const auto& [i, place] : places) {
        ASSERT_EQ(open->Lookup(ObjectId{1 + i}, {i, 1}).at(0).extent(), place) << "operation " << nth;
      }
    }
  }
}

TEST_F(VolumeTest, DamagedTreeNodeIsDataLoss) {
  open_->Commit({open_->NewData(kObject, {0, 1}, 'a')});
  ASSERT_TRUE(open_->Checkpoint().ok());
  const uint64_t root = volume().superblock().tree.root.block;
  char sector[kSectorBytes];
  disk_->Peek(root * kBlockBytes, sector, kSectorBytes);
  sector[100] ^= 1;
  disk_->Poke(root * kBlockBytes, sector, kSectorBytes);
  Reopen();
  std::vector<Mapping> mappings;
  EXPECT_TRUE(absl::IsDataLoss(open_->Find([&] { return volume().TryLookup(kObject, {0, 1}, &mappings); })));
}

// ---- Against a model, opened anew after every step ----

constexpr uint64_t kObjects = 5;
constexpr uint64_t kBlocks = 60;

struct Cell {
  MappingState state = MappingState::kHole;
  uint64_t physical = 0;
  char value = 0;
  bool operator==(const Cell&) const = default;
};

struct State {
  std::map<std::pair<uint64_t, uint64_t>, Cell> cells;  // by object and block; no holes
  std::map<uint64_t, Inode> inodes;
  std::map<std::string, uint64_t> names;
  bool operator==(const State&) const = default;

  void Apply(const LogEntry& e, char value) {
    const uint64_t object = Value(e.object);
    switch (e.type) {
      case LogEntry::Type::kMap:
      case LogEntry::Type::kHole:
        for (uint64_t i = 0; i < e.logical.count; ++i) {
          cells.erase({object, e.logical.start + i});
          if (e.type == LogEntry::Type::kMap) {
            cells[{object, e.logical.start + i}] = {e.state, e.physical + i,
                                                    e.state == MappingState::kWritten ? value : '\0'};
          }
        }
        break;
      case LogEntry::Type::kInode:
        inodes[object] = {e.object, e.size_bytes, e.name};
        break;
      case LogEntry::Type::kInodeGone:
        inodes.erase(object);
        cells.erase(cells.lower_bound({object, 0}), cells.lower_bound({object + 1, 0}));
        break;
      case LogEntry::Type::kName:
        names[e.name] = object;
        break;
      case LogEntry::Type::kNameGone:
        names.erase(e.name);
        break;
    }
  }
};

class VolumeModel {
 public:
  VolumeModel(uint64_t seed, size_t node_cache_nodes) : node_cache_nodes_(node_cache_nodes), random_(seed) {
    EXPECT_TRUE(Format(disk_, 0).ok());
    Open();
  }

  void Step() {
    const uint64_t kind = Below(100);
    State before = state_;
    bool in_doubt = false;
    if (kind < 15) {
      ASSERT_TRUE(open_->Checkpoint().ok());
    } else if (kind < 25) {
      // A checkpoint that the cut interrupts.
      open_->device().FailAfter(Below(2) ? IoOp::kWrite : IoOp::kFlush, 1 + Below(6),
                                absl::InternalError("cut"), UINT64_MAX / 2);
      (void)open_->Checkpoint();
    } else if (kind < 45) {
      // A commit that the cut interrupts.
      MakeRoom();
      open_->Send(Transaction());
      in_doubt = true;
    } else {
      for (uint64_t n = 1 + Below(4); n > 0; --n) {
        MakeRoom();
        open_->Commit(Transaction());
      }
    }
    if (Below(3) == 0 && !in_doubt && kind >= 25) {
      // The process is killed: what the disk's cache has survives.
      disk_->Kill(random_);
    } else {
      disk_->Crash(random_, 300 + static_cast<int>(Below(700)));
    }
    open_.reset();
    Open();
    const State found = Found();
    if (in_doubt && found == before) state_ = before;
    ASSERT_EQ(found.cells, state_.cells);
    ASSERT_EQ(found.inodes, state_.inodes);
    ASSERT_EQ(found.names, state_.names);
    CheckData();
    CheckSpace();
  }

 private:
  uint64_t Below(uint64_t bound) { return random_() % bound; }

  void Open() {
    open_ = OpenVolume::Open(disk_, false, node_cache_nodes_, random_());
    ASSERT_NE(open_, nullptr);
  }
  void MakeRoom() {
    if (!open_->volume().LogHasRoom(20)) {
      ASSERT_TRUE(open_->Checkpoint().ok());
    }
  }

  // Some changes that commit together; state_ is as after them.
  std::vector<LogEntry> Transaction() {
    std::vector<LogEntry> entries;
    const auto add = [&](LogEntry e, char value = 0) {
      state_.Apply(e, value);
      entries.push_back(std::move(e));
    };
    for (uint64_t n = 1 + Below(4); n > 0; --n) {
      const uint64_t object = 1 + Below(kObjects);
      const uint64_t start = Below(kBlocks);
      BlockRange range{start, 1 + Below(std::min<uint64_t>(kBlocks - start, 12))};
      const char value = static_cast<char>('a' + Below(26));
      const uint64_t kind = Below(100);
      if (kind < 45) {
        add(open_->NewData(ObjectId{object}, range, value), value);
      } else if (kind < 60) {
        const absl::StatusOr<Extent> extent = open_->Allocate(range.count);
        EXPECT_TRUE(extent.ok()) << extent.status();
        if (!extent.ok()) continue;
        add(LogEntry::Map(ObjectId{object}, range, extent->start, MappingState::kUnwritten, {}, false));
      } else if (kind < 75) {
        // Into reserved blocks, one run on the device; but not twice in a transaction, as the engine.
        const auto cell = state_.cells.lower_bound({object, start});
        if (cell == state_.cells.end() || cell->first.first != object ||
            cell->second.state != MappingState::kUnwritten || !entries.empty()) {
          continue;
        }
        range.start = cell->first.second;
        const uint64_t physical = cell->second.physical;
        uint64_t count = 0;
        for (auto it = cell; count < range.count && it != state_.cells.end(); ++it, ++count) {
          if (it->first != std::pair(object, range.start + count) ||
              it->second.state != MappingState::kUnwritten || it->second.physical != physical + count) {
            break;
          }
        }
        range.count = count;
        add(open_->Data(ObjectId{object}, range, physical, value, true), value);
      } else if (kind < 87) {
        add(LogEntry::Hole(ObjectId{object}, range));
      } else if (kind < 95) {
        const std::string name(1 + Below(200), value);
        add(LogEntry::SetInode({ObjectId{object}, Below(100000), name}));
        add(LogEntry::Name(name, ObjectId{object}));
      } else if (kind < 97 && !state_.names.empty()) {
        add(LogEntry::NameGone(state_.names.begin()->first));
      } else {
        add(LogEntry::InodeGone(ObjectId{object}));
      }
    }
    return entries;
  }

  State Found() {
    State found;
    for (uint64_t object = 1; object <= kObjects; ++object) {
      for (const Mapping& m : open_->Lookup(ObjectId{object}, {0, kBlocks + 20})) {
        if (m.state == MappingState::kHole) continue;
        for (uint64_t i = 0; i < m.logical.count; ++i) {
          const uint64_t block = m.logical.start + i;
          char value = 0;
          if (m.state == MappingState::kWritten) {
            char sector[kSectorBytes];
            disk_->Peek((m.physical + i) * kBlockBytes, sector, kSectorBytes);
            value = sector[0];
          }
          found.cells[{object, block}] = {m.state, m.physical + i, value};
        }
      }
      if (const auto inode = open_->FindInode(ObjectId{object})) found.inodes[object] = *inode;
    }
    for (const auto& [name, object] : open_->Names()) {
      found.names[name] = Value(object);
      EXPECT_EQ(open_->FindName(name), object);
    }
    return found;
  }

  void CheckData() {
    std::vector<char> block(kBlockBytes);
    for (const auto& [place, cell] : state_.cells) {
      if (cell.state != MappingState::kWritten) continue;
      disk_->Peek(cell.physical * kBlockBytes, block.data(), kBlockBytes);
      ASSERT_TRUE(
          std::all_of(block.begin(), block.end(), [&, &cell = cell](char c) { return c == cell.value; }))
          << "object " << place.first << " block " << place.second << " at " << cell.physical;
    }
  }

  // What can be allocated overlaps nothing that is mapped; and nothing is lost: after a checkpoint all that
  // is neither mapped nor part of the tree is free.
  void CheckSpace() {
    const std::set<uint64_t> free = open_->Allocatable();
    std::set<uint64_t> used;
    for (const auto& [place, cell] : state_.cells) {
      ASSERT_FALSE(free.contains(cell.physical)) << "block " << cell.physical << " is mapped and free";
      ASSERT_TRUE(used.insert(cell.physical).second) << "block " << cell.physical << " is mapped twice";
    }
    if (Below(4) != 0) return;
    ASSERT_TRUE(open_->Checkpoint().ok());
    const Volume& v = open_->volume();
    ASSERT_EQ(v.free_blocks() + used.size() + v.superblock().tree.node_count + v.geometry().data_start,
              v.geometry().total_blocks);
  }

  const size_t node_cache_nodes_;
  std::mt19937_64 random_;
  std::shared_ptr<SimulatedDisk> disk_ = std::make_shared<SimulatedDisk>(kSmallest);
  std::unique_ptr<OpenVolume> open_;
  State state_;
};

TEST(VolumeModelTest, RandomCommitsCheckpointsAndCutsLeaveWhatWasDurable) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    VolumeModel model(seed, seed % 3 == 0 ? 1 : 1000);
    for (int step = 0; step < Rounds(60); ++step) {
      model.Step();
      if (testing::Test::HasFailure()) FAIL() << "at step " << step;
    }
  }
}

}  // namespace
}  // namespace untorn
