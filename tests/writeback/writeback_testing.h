// The parts of an open store, without its front end, on a simulated disk: what the tests of writeback and
// store/ share.
#ifndef UNTORN_TESTS_WRITEBACK_WRITEBACK_TESTING_H_
#define UNTORN_TESTS_WRITEBACK_WRITEBACK_TESTING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/lock.h"
#include "extent/format_store.h"
#include "extent/volume.h"
#include "sim/simulated_device.h"
#include "writeback/parts.h"

namespace untorn {

// A simulated device whose requests a test may finish itself, one by one, in any order.
class SteppedDevice : public Device {
 public:
  SteppedDevice(std::shared_ptr<SimulatedDisk> disk, const SimulatedDeviceOptions& options)
      : simulated_(std::move(disk), options) {
    info_ = simulated_.info();
    info_.submit_blocks = true;  // a test may do I/O of its own meanwhile
  }
  SimulatedDevice& simulated() { return simulated_; }

  // From now on (or not any more) what is submitted waits for Finish().
  void SetStepped(bool stepped) { stepped_ = stepped; }
  // What waits, in order of submission.
  const std::vector<IoRequest*>& waiting() const { return waiting_; }
  size_t Waiting(IoOp op) const {
    return std::count_if(waiting_.begin(), waiting_.end(), [&](IoRequest* r) { return r->op == op; });
  }
  IoRequest* First(IoOp op) const {
    auto it = std::find_if(waiting_.begin(), waiting_.end(), [&](IoRequest* r) { return r->op == op; });
    return it == waiting_.end() ? nullptr : *it;
  }
  // Does the request, or fails it without effect. The next Reap() hands it back.
  void Finish(IoRequest* request, const absl::Status& error) {
    std::erase(waiting_, request);
    request->status = error;
    if (error.ok()) {
      std::vector<IoRequest*> completed;
      simulated_.Submit({&request, 1});
      while (completed.empty()) simulated_.Reap(true, &completed);
    }
    finished_.push_back(request);
  }
  bool idle() const { return finished_.empty(); }
  // Called for each request before it is done, without the store's lock.
  void OnSubmit(std::function<void(const IoRequest&)> fn) { on_submit_ = std::move(fn); }

  void Submit(absl::Span<IoRequest* const> requests) override {
    for (IoRequest* request : requests) {
      if (on_submit_) on_submit_(*request);
    }
    if (!stepped_) return simulated_.Submit(requests);
    waiting_.insert(waiting_.end(), requests.begin(), requests.end());
  }
  void Reap(bool wait, std::vector<IoRequest*>* completed) override {
    if (!stepped_) return simulated_.Reap(wait, completed);
    UNTORN_CHECK(!wait || !finished_.empty(), "the test waits for a request that it has not finished");
    completed->insert(completed->end(), finished_.begin(), finished_.end());
    finished_.clear();
  }

 private:
  SimulatedDevice simulated_;
  bool stepped_ = false;
  std::vector<IoRequest*> waiting_, finished_;
  std::function<void(const IoRequest&)> on_submit_;
};

// One process that has the store open.
struct OpenParts {
  OpenParts(std::shared_ptr<SimulatedDisk> disk, const SimulatedDeviceOptions& options,
            size_t node_cache_nodes)
      : device(std::move(disk), options), volume(OpenVolumeOrDie(pump, node_cache_nodes)) {}

  SteppedDevice device;
  std::mutex mu;
  IoPump pump{device, mu};
  std::unique_ptr<Volume> volume;
  CowFork fork;
  Health health{/*read_only=*/false};
  Progress progress{pump};
  std::vector<std::string> logged;
  Callbacks callbacks{[this](LogLevel, std::string_view message) { logged.emplace_back(message); }};
  Stats stats;
  const Parts parts{pump, *volume, fork, health, progress, callbacks, stats};

 private:
  static std::unique_ptr<Volume> OpenVolumeOrDie(IoPump& pump, size_t node_cache_nodes) {
    absl::StatusOr<std::unique_ptr<Volume>> volume =
        Volume::Open(pump, /*read_only=*/false, node_cache_nodes);
    UNTORN_CHECK(volume.ok(), "the test's volume cannot be opened");
    return *std::move(volume);
  }
};

// The test holds the store's lock; what is called with a Lock& gets `lock_`.
class WritebackTest : public testing::Test {
 protected:
  static constexpr ObjectId kId{1};
  static constexpr uint64_t kObjectBytes = 64 << 20;  // durable, so that no write of a test is growth

  void SetUp() override { MakeStore({.size_bytes = 8 << 20}); }
  ~WritebackTest() override {
    object_.reset();
    if (lock_.owns_lock()) lock_.unlock();
  }

  void MakeStore(const SimulatedDeviceOptions& options) {
    End();
    options_ = options;
    disk_ = std::make_shared<SimulatedDisk>(options.size_bytes);
    SimulatedDevice device(disk_, options);
    ASSERT_TRUE(FormatStore(device, 0, /*prepare_all=*/false, nullptr).ok());
    OpenStore();
  }
  void OpenStore() {
    open_ = std::make_unique<OpenParts>(disk_, options_, node_cache_nodes_);
    lock_ = Lock(open_->mu);
    object_ = open_->fork.objects().Add({kId, kObjectBytes, "object"});
    BeginParts();
  }
  // The power goes: only what was flushed is there. Then another process opens the store.
  void CutAndOpen() {
    std::mt19937_64 random(7);
    disk_->Crash(random, /*keep_per_mille=*/0);
    End();
    OpenStore();
  }
  // Makes and ends what a test has besides the parts.
  virtual void BeginParts() {}
  virtual void EndParts() {}

  SteppedDevice& device() { return open_->device; }
  SimulatedDevice& simulated() { return open_->device.simulated(); }
  const Parts& parts() { return open_->parts; }
  Volume& volume() { return *open_->volume; }
  CowFork& fork() { return open_->fork; }
  Stats& stats() { return open_->stats; }
  uint64_t Counted(PathReason reason) { return stats().change_sets_by_reason[static_cast<int>(reason)]; }

  // An atomic write of an object, paid for.
  ChangeSetRef Write(BlockRange range, char value) {
    ChangeSetRef set = fork().SetForRange(object_, range);
    std::optional<Reservation> space =
        volume().space().TryReserve({range.count, range.count.value() + 2}, SpaceFor::kGrowth);
    EXPECT_TRUE(space.has_value());
    if (space) set->space.Add(*std::move(space));
    for (ObjectBlock b = range.start; b < range.end(); ++b) {
      BufferRef buffer = fork().pages().pool().New();
      std::memset(buffer.data(), value, kBlockBytes);
      fork().StageBlock(set, object_, b, std::move(buffer));
    }
    fork().CheckInvariants();
    return set;
  }
  Extent Allocate(BlockCount blocks) {
    const absl::StatusOr<Extent> extent =
        volume().space().Allocate(lock_, {.want_blocks = blocks, .min_blocks = blocks});
    EXPECT_TRUE(extent.ok()) << extent.status();
    return extent.ok() ? *extent : Extent();
  }
  // The durable mappings of the object's blocks.
  Mappings MappingsOf(BlockRange range) {
    Mappings found;
    while (true) {
      MissingNodes missing;
      const absl::Status status = volume().mappings().Lookup(kId, range, &found, &missing);
      EXPECT_TRUE(status.ok()) << status;
      if (!status.ok() || missing.empty()) return found;
      EXPECT_TRUE(volume().mappings().LoadNodes(lock_, missing).ok());
    }
  }
  // What the device has of these blocks: the letter they were filled with; '.' a hole, '_' unwritten.
  std::string OnDevice(BlockRange range) {
    std::string content;
    for (const Mapping& m : MappingsOf(range)) {
      for (BlockCount i; i < m.logical.count; ++i) {
        char letter = m.state == MappingState::kHole ? '.' : '_';
        if (m.state == MappingState::kWritten) disk_->Peek(ByteOffset(m.physical + i), &letter, 1);
        content += letter;
      }
    }
    return content;
  }

  std::shared_ptr<SimulatedDisk> disk_;
  size_t node_cache_nodes_ = 1000;  // of the next OpenStore()
  std::unique_ptr<OpenParts> open_;
  Lock lock_;
  std::shared_ptr<ObjectState> object_;

 private:
  void End() {
    if (!open_) return;
    EndParts();
    object_.reset();
    lock_.unlock();
    open_.reset();
    lock_ = Lock();
  }

  SimulatedDeviceOptions options_;
};

}  // namespace untorn

#endif  // UNTORN_TESTS_WRITEBACK_WRITEBACK_TESTING_H_
