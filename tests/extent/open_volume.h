// A volume on a simulated disk, and what the tests of its parts do with it.
#ifndef UNTORN_TESTS_EXTENT_OPEN_VOLUME_H_
#define UNTORN_TESTS_EXTENT_OPEN_VOLUME_H_

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "extent/format_store.h"
#include "extent/volume.h"
#include "sim/simulated_device.h"

namespace untorn {

inline constexpr ObjectId kObject{1};
inline constexpr uint64_t kSmallest = 8 << 20;

inline absl::Status Format(std::shared_ptr<SimulatedDisk> disk, uint64_t size_bytes,
                           bool needs_preparing = false, bool prepare_all = false) {
  SimulatedDevice device(disk, {.size_bytes = disk->size_bytes(), .needs_preparing = needs_preparing});
  return FormatStore(device, size_bytes, prepare_all, nullptr);
}

// One process that has a volume open.
class OpenVolume {
 public:
  static std::unique_ptr<OpenVolume> Open(std::shared_ptr<SimulatedDisk> disk, bool read_only = false,
                                          size_t node_cache_nodes = 100, uint64_t seed = 1) {
    auto open = std::unique_ptr<OpenVolume>(new OpenVolume(std::move(disk), seed));
    absl::StatusOr<std::unique_ptr<Volume>> volume = Volume::Open(open->pump_, read_only, node_cache_nodes);
    EXPECT_TRUE(volume.ok()) << volume.status();
    if (!volume.ok()) return nullptr;
    open->volume_ = *std::move(volume);
    open->CheckInvariants();
    return open;
  }

  Volume& volume() { return *volume_; }
  SimulatedDevice& device() { return device_; }
  std::mutex& mutex() { return mu_; }
  const IoCounts& io_counts() const { return pump_.counts(); }

  // After each step that changes anything.
  void CheckInvariants() {
    Lock lock(mu_);
    const absl::Status checked = volume_->CheckInvariants();
    EXPECT_TRUE(checked.ok()) << checked;
  }

  // Stages data for an extent, to be sent with the next commit; its entry.
  LogEntry Data(ObjectId object, BlockRange range, BlockNumber physical, char value, bool reserved = false) {
    Pending& pending = data_.emplace_back();
    pending.bytes = AlignedBuffer(Bytes(range.count));
    std::memset(pending.bytes.data(), value, pending.bytes.size());
    pending.request.op = IoOp::kWrite;
    pending.request.offset_bytes = ByteOffset(physical);
    pending.request.iov = {{pending.bytes.data(), pending.bytes.size()}};
    const iovec piece{pending.bytes.data(), pending.bytes.size()};
    return LogEntry::Map(object, range, physical, DataChecksums::Of({&piece, 1}, volume_->data_key()),
                         reserved);
  }
  absl::StatusOr<Extent> Allocate(BlockCount want, BlockCount min = 0, BlockCount alignment = 1) {
    Lock lock(mu_);
    return volume_->space().Allocate(
        lock, {.want_blocks = want, .min_blocks = min == 0 ? want : min, .alignment_blocks = alignment});
  }
  // A write of `count` blocks to a new extent.
  LogEntry NewData(ObjectId object, BlockRange range, char value) {
    const absl::StatusOr<Extent> extent = Allocate(range.count);
    EXPECT_TRUE(extent.ok()) << extent.status();
    return Data(object, range, extent.ok() ? extent->start : BlockNumber(0), value);
  }

  // Puts a commit at the log's end and sends it with the data staged before.
  LogAppend& Send(std::vector<LogEntry> entries) {
    Lock lock(mu_);
    std::optional<LogReservation> room = volume_->log().TryReserve(LogWriter::BlocksFor(entries));
    EXPECT_TRUE(room.has_value());
    LogAppend& append = appends_.emplace_back();
    volume_->log().Begin(*std::move(room), std::move(entries), &append);
    volume_->log().Encode(&append);
    std::vector<IoRequest*> requests;
    for (IoRequest& r : append.requests) requests.push_back(&r);
    for (Pending& p : data_) requests.push_back(&p.request);
    const absl::Status status = pump_.RunAll(lock, requests);
    EXPECT_TRUE(status.ok()) << status;
    data_.clear();
    lock.unlock();
    CheckInvariants();
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
    lock.unlock();
    CheckInvariants();
  }
  Lsn Commit(std::vector<LogEntry> entries) {
    LogAppend& append = Send(std::move(entries));
    Flush();
    Durable(append);
    return append.last;
  }
  absl::Status Checkpoint() {
    absl::Status status;
    {
      Lock lock(mu_);
      status = volume_->RunCheckpoint(lock);
    }
    CheckInvariants();
    return status;
  }

  // Asks until no node is missing: ask(missing).
  template <typename Ask>
  absl::Status Find(Ask ask) {
    Lock lock(mu_);
    MappingReader& mappings = volume_->mappings();
    const NodeCache::Hold hold(mappings.node_cache());  // a range may need more nodes than the cache keeps
    while (true) {
      MissingNodes missing;
      RETURN_IF_ERROR(ask(&missing));
      if (missing.empty()) return absl::OkStatus();
      RETURN_IF_ERROR(mappings.LoadNodes(lock, missing));
    }
  }
  Mappings Lookup(ObjectId object, BlockRange range) {
    Mappings mappings;
    const absl::Status status = Find(
        [&](MissingNodes* missing) { return volume_->mappings().Lookup(object, range, &mappings, missing); });
    EXPECT_TRUE(status.ok()) << status;
    ObjectBlock at = range.start;
    for (const Mapping& m : mappings) {
      EXPECT_EQ(m.logical.start, at);
      EXPECT_GT(m.logical.count, 0);
      at = m.logical.end();
    }
    EXPECT_EQ(at, range.end());
    return mappings;
  }
  std::optional<Inode> FindInode(ObjectId object) {
    std::optional<Inode> inode;
    const absl::Status status =
        Find([&](MissingNodes* missing) { return volume_->mappings().FindInode(object, &inode, missing); });
    EXPECT_TRUE(status.ok()) << status;
    return inode;
  }
  std::optional<ObjectId> FindName(const std::string& name) {
    std::optional<ObjectId> object;
    const absl::Status status =
        Find([&](MissingNodes* missing) { return volume_->mappings().FindName(name, &object, missing); });
    EXPECT_TRUE(status.ok()) << status;
    return object;
  }
  std::vector<std::pair<std::string, ObjectId>> Names() {
    std::vector<std::pair<std::string, ObjectId>> names;
    while (true) {
      std::optional<std::pair<std::string, ObjectId>> next;
      const std::string after = names.empty() ? "" : names.back().first;
      const absl::Status status =
          Find([&](MissingNodes* missing) { return volume_->mappings().NextName(after, &next, missing); });
      EXPECT_TRUE(status.ok()) << status;
      if (!next) return names;
      names.push_back(*next);
    }
  }

  // Takes all there is, block by block; gives it back. So: what could be allocated now.
  std::set<BlockNumber> Allocatable() {
    std::set<BlockNumber> blocks;
    std::vector<Extent> extents;
    while (true) {
      const absl::StatusOr<Extent> extent = Allocate(1 << 20, 1);
      if (!extent.ok()) {
        EXPECT_TRUE(absl::IsResourceExhausted(extent.status())) << extent.status();
        break;
      }
      extents.push_back(*extent);
      for (BlockNumber b = extent->start; b < extent->end(); ++b) EXPECT_TRUE(blocks.insert(b).second);
    }
    Lock lock(mu_);
    for (const Extent& e : extents) EXPECT_TRUE(volume_->space().ReturnUnused(e).ok());
    return blocks;
  }
  bool IsAllocatable(Extent extent) {
    const std::set<BlockNumber> blocks = Allocatable();
    BlockCount n;
    for (BlockNumber b = extent.start; b < extent.end(); ++b) n += BlockCount(blocks.contains(b));
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

}  // namespace untorn

#endif  // UNTORN_TESTS_EXTENT_OPEN_VOLUME_H_
