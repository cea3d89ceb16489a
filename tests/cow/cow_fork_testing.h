// A COW fork, and what the tests of it do with it. Every step checks the numbered invariants.
#ifndef UNTORN_TESTS_COW_COW_FORK_TESTING_H_
#define UNTORN_TESTS_COW_COW_FORK_TESTING_H_

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cow/cow_fork.h"
#include "tests/extent/open_volume.h"

namespace untorn {

using ObjectPtr = std::shared_ptr<ObjectState>;

class CowForkTest : public testing::Test {
 protected:
  BufferRef Filled(char value) {
    BufferRef buffer = fork_.pages().pool().New();
    std::memset(buffer.data(), value, kBlockBytes);
    return buffer;
  }
  // An atomic write.
  ChangeSetRef Write(BlockRange range, char value, ObjectPtr object = nullptr) {
    if (!object) object = object_;
    ChangeSetRef set = fork_.SetForRange(object, range);
    for (ObjectBlock b = range.start; b < range.end(); ++b) fork_.StageBlock(set, object, b, Filled(value));
    fork_.CheckInvariants();
    return set;
  }
  ChangeSetRef Punch(BlockRange range) {
    ChangeSetRef set = fork_.SetForObject(object_);
    fork_.StageHole(set, object_, range);
    fork_.CheckInvariants();
    return set;
  }
  // A truncate; what lies beyond is not punched.
  void SetSize(const ChangeSetRef& set, uint64_t size_bytes) {
    fork_.StageSize(set, object_, size_bytes);
    fork_.CheckInvariants();
  }
  void Barrier() {
    fork_.Barrier();
    fork_.CheckInvariants();
  }
  ChangeSetRef Join(const ChangeSetRef& into, const ChangeSetRef& from) {
    ChangeSetRef all = fork_.Join(into, from);
    fork_.CheckInvariants();
    return all;
  }
  void Freeze(const ChangeSetRef& set) {
    fork_.Freeze(set);
    fork_.CheckInvariants();
  }
  void Complete(const ChangeSetRef& set) {
    fork_.Complete(set);
    fork_.CheckInvariants();
  }
  void Unfreeze(const ChangeSetRef& set) {
    fork_.Unfreeze(set);
    fork_.CheckInvariants();
  }
  void Commit(const ChangeSetRef& set) {
    Freeze(set);
    Complete(set);
  }
  void Evict(uint64_t limit_bytes) {
    fork_.pages().Evict(limit_bytes);
    fork_.CheckInvariants();
  }
  // What a read of these blocks finds in memory: '.' nothing, '0' a pending hole.
  std::string Content(BlockRange range) {
    std::string content;
    for (ObjectBlock b = range.start; b < range.end(); ++b) {
      const Page* page = fork_.pages().Find(*object_, b);
      const bool hole = InPendingHole(*object_, b);
      content += page && page->buffer ? static_cast<char>(page->buffer.data()[0]) : hole ? '0' : '.';
    }
    return content;
  }
  static std::string Frozen(const ChangeSet& set) {
    std::string content;
    for (const FrozenRange& range : set.frozen) {
      EXPECT_EQ(BlockCount(range.buffers.size()), range.blocks.count);
      content += std::to_string(range.blocks.start.value()) + ":";
      for (const BufferRef& buffer : range.buffers) content += static_cast<char>(buffer.data()[0]);
      content += ' ';
    }
    return content;
  }
  // Space that a change set can pay with.
  Reservation Space(SpaceCost cost) {
    if (!volume_) {
      auto disk = std::make_shared<SimulatedDisk>(kSmallest);
      EXPECT_TRUE(Format(disk, 0).ok());
      volume_ = OpenVolume::Open(disk);
    }
    std::optional<Reservation> space = volume_->volume().space().TryReserve(cost, SpaceFor::kGrowth);
    EXPECT_TRUE(space.has_value());
    return *std::move(space);
  }

  std::unique_ptr<OpenVolume> volume_;  // outlives the change sets that have space of it
  CowFork fork_;
  ObjectPtr object_ = fork_.objects().Add({ObjectId{1}, 0, "one"});
  ObjectPtr other_ = fork_.objects().Add({ObjectId{2}, 0, "two"});
};

}  // namespace untorn

#endif  // UNTORN_TESTS_COW_COW_FORK_TESTING_H_
