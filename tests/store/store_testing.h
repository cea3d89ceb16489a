// The front end's parts over those of writeback, without threads, on a simulated disk.
#ifndef UNTORN_TESTS_STORE_STORE_TESTING_H_
#define UNTORN_TESTS_STORE_STORE_TESTING_H_

#include <memory>
#include <string>

#include "store/admission.h"
#include "store/background.h"
#include "store/object_write.h"
#include "tests/writeback/writeback_testing.h"
#include "writeback/checkpointer.h"
#include "writeback/committer.h"
#include "writeback/readers.h"

namespace untorn::internal {

// The test holds the store's lock. Calls that take it themselves are made with Unlocked(lock_).
class StoreTest : public WritebackTest {
 protected:
  static constexpr uint64_t kCacheBytes = 4 << 20;
  static constexpr BlockCount kSetBlocksMax = 16;

  struct FrontEnd {
    FrontEnd(std::mutex& mu, const Parts& parts)
        : checkpointer(parts),
          committer(parts, checkpointer, {.dirty_limit_blocks = WholeBlocks(kCacheBytes / 2)}),
          readers(parts, checkpointer),
          admission(parts, committer, checkpointer, readers, kSetBlocksMax),
          publisher(
              parts.pump.device(), [] { return std::string(); }, [](const std::string&) {}),
          background(mu, parts, committer, checkpointer, readers, limit, publisher),
          front{mu, parts, admission, committer, background} {}
    Checkpointer checkpointer;
    Committer committer;
    Readers readers;
    Admission admission;
    CacheLimit limit{kCacheBytes, /*fits_machine=*/false, nullptr};
    Publisher publisher;
    Background background;
    const Front front;
  };

  void BeginParts() override { front_end_ = std::make_unique<FrontEnd>(open_->mu, parts()); }
  void EndParts() override { front_end_.reset(); }

  Admission& admission() { return front_end_->admission; }
  Committer& committer() { return front_end_->committer; }
  Checkpointer& checkpointer() { return front_end_->checkpointer; }
  const Front& front() { return front_end_->front; }
  CacheLimit& limit() { return front_end_->limit; }

  void Sync(const ChangeSetRef& set) {
    const absl::Status status = committer().Sync(lock_, {set});
    ASSERT_TRUE(status.ok()) << status;
  }
  // Durable, and not in the cache.
  void WriteToDevice(BlockRange range, char value) {
    Sync(Write(range, value));
    fork().pages().Evict(0);
  }
  // What the object's blocks that are preallocated now map to.
  void Preallocate(BlockRange range) {
    auto set = std::make_shared<ChangeSet>();
    ObjectChange& change = set->changes[kId];
    change.object = object_;
    AddUnwritten(range, Allocate(range.count).start, &change.placed);
    fork().StageWhole(set);
    Sync(set);
  }
  ChangeSetRef Punch(BlockRange range) {
    ChangeSetRef set = fork().SetForObject(object_);
    fork().StageHole(set, object_, range);
    return set;
  }
  // The letter of a block in the cache; '.' if it is not there.
  char Cached(ObjectBlock block) {
    const Page* page = fork().pages().Find(*object_, block);
    return page != nullptr && page->buffer ? static_cast<char>(page->buffer.data()[0]) : '.';
  }
  uint64_t device_reads() { return simulated().counts().reads; }

  std::unique_ptr<FrontEnd> front_end_;
};

}  // namespace untorn::internal

#endif  // UNTORN_TESTS_STORE_STORE_TESTING_H_
