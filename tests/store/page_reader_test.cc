// Reading objects: from memory, from holes, from the device. A read is a snapshot (promise 2), and never
// brings back what was there before a write.
#include "store/page_reader.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/store/store_testing.h"

namespace untorn::internal {
namespace {

class PageReaderTest : public StoreTest {
 protected:
  void BeginParts() override {
    StoreTest::BeginParts();
    reader_ = std::make_unique<PageReader>(open_->mu, parts(), limit());
  }
  void EndParts() override {
    reader_.reset();
    StoreTest::EndParts();
  }
  // Blocks that no data has.
  BlockCount Free() { return volume().space().free_blocks() + volume().lanes().blocks(); }
  absl::StatusOr<size_t> ReadBytes(uint64_t offset, std::string& out, const ReadOptions& options = {}) {
    const iovec piece = {out.data(), out.size()};
    const Unlocked unlocked(lock_);
    return reader_->Read(*object_, offset, {{&piece, 1}, out.size()}, options);
  }
  // The letter of each block; '0' if it reads as zeros, '?' if it is mixed.
  std::string Read(BlockRange range, const ReadOptions& options = {}) {
    std::string bytes(Bytes(range.count), '?'), letters;
    const absl::StatusOr<size_t> read = ReadBytes(ByteOffset(range.start), bytes, options);
    EXPECT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read.value_or(0), bytes.size());
    for (size_t at = 0; at < bytes.size(); at += kBlockBytes) {
      const std::string block = bytes.substr(at, kBlockBytes);
      const bool uniform = block.find_first_not_of(block[0]) == std::string::npos;
      letters += !uniform ? '?' : block[0] == '\0' ? '0' : block[0];
    }
    fork().CheckInvariants();
    return letters;
  }
  // Each write has a record behind it, so each block lies alone.
  void WriteApart() {
    char letter = 'a';
    for (ObjectBlock b = 0; b < 6; ++b) WriteToDevice({b, 1}, letter++);
  }
  // Calls `then`, with the lock held, when the next read is on its way to the device.
  void WhenReading(std::function<void()> then) {
    device().OnSubmit([this, then = std::move(then), done = false](const IoRequest& request) mutable {
      if (request.op != IoOp::kRead || std::exchange(done, true)) return;
      lock_.lock();
      then();
      lock_.unlock();
    });
  }

  std::unique_ptr<PageReader> reader_;
};

// ---- Where content comes from ----

TEST_F(PageReaderTest, WhatIsCachedIsReadWithoutTheDevice) {
  Write({0, 2}, 'a');
  const uint64_t reads = device_reads();
  EXPECT_EQ(Read({0, 2}), "aa");
  EXPECT_EQ(device_reads(), reads);
  EXPECT_EQ(stats().page_hits, 2u);
  EXPECT_EQ(stats().page_misses, 0u);
}

TEST_F(PageReaderTest, HolesAndUnwrittenBlocksReadAsZerosWithoutTheDevice) {
  Preallocate({4, 2});
  const uint64_t reads = device_reads();
  EXPECT_EQ(Read({0, 8}), "00000000");
  EXPECT_EQ(device_reads(), reads);
}

TEST_F(PageReaderTest, PendingHoleReadsAsZerosThoughTheDeviceHasData) {
  WriteToDevice({0, 4}, 'a');
  const ChangeSetRef hole = Punch({1, 2});
  EXPECT_EQ(Read({0, 4}), "a00a");
  fork().pages().Evict(0);
  Sync(hole);
  EXPECT_EQ(Read({0, 4}), "a00a");
}

TEST_F(PageReaderTest, WhatTheDeviceHasIsReadOnceAndKept) {
  WriteToDevice({0, 4}, 'a');
  const uint64_t reads = device_reads();
  EXPECT_EQ(Read({0, 4}), "aaaa");
  EXPECT_EQ(device_reads(), reads + 1) << "one extent, one read";
  EXPECT_EQ(stats().page_misses, 4u);
  EXPECT_EQ(Read({0, 4}), "aaaa");
  EXPECT_EQ(device_reads(), reads + 1);
  EXPECT_EQ(Cached(3), 'a');
}

TEST_F(PageReaderTest, ReadThatBypassesTheCacheLeavesNothingInIt) {
  WriteToDevice({0, 4}, 'a');
  EXPECT_EQ(Read({0, 4}, {.bypass_cache = true}), "aaaa");
  EXPECT_EQ(Cached(0), '.');
  Write({1, 1}, 'b');
  EXPECT_EQ(Read({0, 4}, {.bypass_cache = true}), "abaa") << "it sees what is pending all the same";
}

TEST_F(PageReaderTest, WholeBlocksThatBypassTheCacheGoStraightToAlignedMemory) {
  WriteToDevice({0, 4}, 'a');
  AlignedBuffer memory(4 * kBlockBytes);
  const void* read_to = nullptr;
  device().OnSubmit([&](const IoRequest& request) { read_to = request.iov[0].iov_base; });
  const iovec piece = {memory.data(), memory.size()};
  {
    const Unlocked unlocked(lock_);
    ASSERT_TRUE(reader_->Read(*object_, 0, {{&piece, 1}, memory.size()}, {.bypass_cache = true}).ok());
  }
  EXPECT_EQ(read_to, memory.data());
  EXPECT_EQ(memory.data()[4 * kBlockBytes - 1], std::byte{'a'});
}

TEST_F(PageReaderTest, LargeReadDoesNotDisplaceTheCache) {
  WriteToDevice({0, 300}, 'a');
  EXPECT_EQ(Read({0, 300}), std::string(300, 'a'));
  EXPECT_EQ(Cached(0), '.');
}

TEST_F(PageReaderTest, PartsOfBlocksAreTakenFromWhereverTheyAre) {
  WriteToDevice({0, 1}, 'a');
  Write({2, 1}, 'c');
  WriteToDevice({3, 1}, 'd');
  std::string bytes(3 * kBlockBytes, '?');
  const absl::StatusOr<size_t> read = ReadBytes(kBlockBytes / 2, bytes);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, bytes.size());
  const std::string half(kBlockBytes / 2, 'a');
  EXPECT_EQ(bytes, half + std::string(kBlockBytes, '\0') + std::string(kBlockBytes, 'c') +
                       std::string(kBlockBytes / 2, 'd'));
}

TEST_F(PageReaderTest, ReadEndsAtTheSize) {
  object_->size_bytes = kBlockBytes + 10;
  Write({0, 2}, 'a');
  std::string bytes(2 * kBlockBytes, '?');
  EXPECT_EQ(*ReadBytes(kBlockBytes, bytes), 10u);
  EXPECT_EQ(bytes.substr(0, 11), "aaaaaaaaaa?");
  EXPECT_EQ(*ReadBytes(kBlockBytes + 10, bytes), 0u);
  EXPECT_EQ(*ReadBytes(UINT64_MAX - 5, bytes), 0u);
}

TEST_F(PageReaderTest, RemovedObjectAndClosedStoreAreRefused) {
  std::string bytes(10, '?');
  object_->removed = true;
  EXPECT_TRUE(absl::IsNotFound(ReadBytes(0, bytes).status()));
  open_->health.Close();
  EXPECT_TRUE(absl::IsFailedPrecondition(ReadBytes(0, bytes).status()));
}

TEST_F(PageReaderTest, FailedStoreGoesOnReading) {
  WriteToDevice({0, 1}, 'a');
  open_->health.Fail(absl::InternalError("the disk has gone"));
  EXPECT_EQ(Read({0, 2}), "a0") << "promise 8";
}

TEST_F(PageReaderTest, MappingsInTheTreeAreFoundAfterAnOpen) {
  WriteToDevice({0, 4}, 'a');
  ASSERT_TRUE(checkpointer().Checkpoint(lock_).ok());
  CutAndOpen();
  EXPECT_EQ(Read({0, 5}), "aaaa0");
}

// ---- What happens meanwhile ----

TEST_F(PageReaderTest, BlockThatIsWrittenWhileItIsReadKeepsWhatWasWritten) {
  WriteToDevice({0, 2}, 'a');
  WhenReading([&] { Write({1, 1}, 'b'); });
  EXPECT_EQ(Read({0, 2}), "aa") << "what was there when the read began";
  EXPECT_EQ(Cached(0), 'a');
  EXPECT_EQ(Cached(1), 'b');
  EXPECT_EQ(Read({0, 2}), "ab");
}

TEST_F(PageReaderTest, BlockThatIsPunchedWhileItIsReadStaysAHole) {
  WriteToDevice({0, 2}, 'a');
  WhenReading([&] { Punch({0, 2}); });
  EXPECT_EQ(Read({0, 2}), "aa");
  EXPECT_EQ(Cached(0), '.');
  EXPECT_EQ(Read({0, 2}), "00");
}

TEST_F(PageReaderTest, ExtentIsNotReusedWhileItIsReadThoughItIsOverwrittenMeanwhile) {
  WriteToDevice({0, 4}, 'a');
  const Extent extent = MappingsOf({0, 4})[0].extent();
  BlockCount free_before, free_meanwhile;
  WhenReading([&] {
    EXPECT_TRUE(volume().space().ReadOutstanding(extent));
    free_before = Free();
    Sync(Write({0, 4}, 'b'));
    Sync(Write({10, 1}, 'c'));  // its record settles the one before
    free_meanwhile = Free();
    EXPECT_GE(volume().space().pending_blocks(), 4);
  });
  EXPECT_EQ(Read({0, 4}), "aaaa");
  EXPECT_FALSE(volume().space().ReadOutstanding(extent));
  EXPECT_EQ(free_meanwhile, free_before - 5);
  EXPECT_EQ(volume().space().pending_blocks(), 0) << "the last reader gives it back";
  EXPECT_EQ(Free(), free_meanwhile + 4);
  EXPECT_EQ(Read({0, 4}), "bbbb");
}

TEST_F(PageReaderTest, FailedReadLeavesNoPageAndTheStoreWell) {
  WriteToDevice({0, 2}, 'a');
  simulated().FailAfter(IoOp::kRead, 1, absl::DataLossError("the sector is gone"));
  std::string bytes(2 * kBlockBytes, '?');
  EXPECT_TRUE(absl::IsDataLoss(ReadBytes(0, bytes).status()));
  EXPECT_EQ(fork().pages().Find(*object_, 0), nullptr);
  EXPECT_FALSE(parts().health.failed());
  EXPECT_FALSE(volume().space().ReadOutstanding(MappingsOf({0, 2})[0].extent()));
  EXPECT_EQ(Read({0, 2}), "aa");
}

TEST_F(PageReaderTest, PiecesThatLieCloseOnTheDeviceAreReadByOneRequest) {
  WriteApart();
  const uint64_t reads = simulated().counts().reads;
  EXPECT_EQ(Read({0, 6}), "abcdef");
  EXPECT_LT(simulated().counts().reads - reads, 6u);
}

TEST_F(PageReaderTest, BlockThatNobodyWantsMayBeUnreadable) {
  WriteApart();
  simulated().FailAfter(IoOp::kRead, 1, absl::DataLossError("the sector is gone"));
  EXPECT_EQ(Read({0, 6}), "abcdef");
  EXPECT_EQ(simulated().faults_seen(), 1u);
}

TEST_F(PageReaderTest, PartsOfBlocksThatLieApartAreReadWithoutTheCache) {
  WriteApart();
  std::string bytes(4 * kBlockBytes, '?');
  EXPECT_EQ(ReadBytes(kBlockBytes / 2, bytes, {.bypass_cache = true}).value_or(0), bytes.size());
  std::string expected(kBlockBytes / 2, 'a');
  for (char letter : {'b', 'c', 'd'}) expected.append(kBlockBytes, letter);
  EXPECT_EQ(bytes, expected + std::string(kBlockBytes / 2, 'e'));
}

}  // namespace
}  // namespace untorn::internal
