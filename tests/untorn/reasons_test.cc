// Every reason for a path can be met through the API, is counted, and the error of the hardware-only policy
// names it.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr uint64_t kKiB = 1 << 10;
constexpr WriteOptions kSync = {.durability = Durability::kSync};
const AtomicLimits kUnit64K = HardwareUnit(4096, 64 << 10);

class ReasonsTest : public testing::Test {
 protected:
  // Opens a store with one object, "a", of 1 MiB whose mapping is settled: a checkpoint holds it.
  void Make(const AtomicLimits& limits, WritePolicy policy = WritePolicy::kAutomatic,
            bool refuse_atomic = false, bool background = false) {
    TestStoreOptions options;
    options.atomic = limits;
    options.refuse_atomic_per_mille = refuse_atomic ? 1000 : 0;
    options.background = background;
    store_ = std::make_unique<TestStore>(options);
    ASSERT_TRUE(store_->is_open());
    auto object = store()->CreateObject("a");
    ASSERT_TRUE(IsOk(object));
    for (uint64_t at = 0; at < (1 << 20); at += 64 * kKiB) {
      ASSERT_TRUE(IsOk(object->Write(at, Stamped(at, 64 * kKiB))));
    }
    ASSERT_TRUE(IsOk(store()->Sync()));
    *object = Object();
    ASSERT_TRUE(IsOk(store_->Close()));
    OpenOptions open = store_->options().open;
    open.policy = policy;
    ASSERT_TRUE(IsOk(store_->Open(open, 0)));
    a_ = *store()->OpenObject("a");
    before_ = store()->stats();
  }
  Store* store() { return &**store_; }

  absl::Status WriteSync(uint64_t offset, uint64_t length) {
    return a_.Write(offset, Stamped(++stamp_, length), kSync);
  }
  // How often this reason was counted since Make.
  uint64_t Counted(PathReason reason) {
    const int i = static_cast<int>(reason);
    return store()->stats().change_sets_by_reason[i] - before_.change_sets_by_reason[i];
  }
  std::string All() {
    std::string text;
    for (int i = 0; i < kPathReasonCount; ++i) {
      const auto reason = static_cast<PathReason>(i);
      if (Counted(reason) > 0)
        text += std::string(PathReasonName(reason)) + " " + std::to_string(Counted(reason)) + "; ";
    }
    return text;
  }
  void ExpectMet(PathReason reason) {
    EXPECT_GT(Counted(reason), 0u) << PathReasonName(reason) << "; met: " << All();
  }
  void TearDown() override {
    a_ = Object();
    if (store_ == nullptr || !store_->is_open()) return;
    EXPECT_TRUE(IsOk(store_->Close()));
  }

  std::unique_ptr<TestStore> store_;
  Object a_;
  Stats before_;
  uint64_t stamp_ = 1000;
};

TEST_F(ReasonsTest, EveryReasonHasANameAndASentence) {
  std::set<std::string> names, sentences;
  for (int i = 0; i < kPathReasonCount; ++i) {
    names.insert(PathReasonName(static_cast<PathReason>(i)));
    sentences.insert(PathReasonSentence(static_cast<PathReason>(i)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(kPathReasonCount));
  EXPECT_EQ(sentences.size(), static_cast<size_t>(kPathReasonCount));
}

TEST_F(ReasonsTest, InPlace) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K, WritePolicy::kHardwareOnly));
  for (uint64_t length : {4 * kKiB, 16 * kKiB, 64 * kKiB}) ASSERT_TRUE(IsOk(WriteSync(128 * kKiB, length)));
  EXPECT_EQ(Counted(PathReason::kInPlace), 3u) << All();
  EXPECT_EQ(store_->counts().atomic_writes, 3u);
}

TEST_F(ReasonsTest, PolicyAlwaysCow) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K, WritePolicy::kAlwaysCow));
  ASSERT_TRUE(IsOk(WriteSync(0, 16 * kKiB)));
  ExpectMet(PathReason::kPolicyAlwaysCow);
  EXPECT_EQ(Counted(PathReason::kInPlace), 0u);
}

TEST_F(ReasonsTest, NoAtomicLimits) {
  ASSERT_NO_FATAL_FAILURE(Make({}));
  ASSERT_TRUE(IsOk(WriteSync(0, 16 * kKiB)));
  ExpectMet(PathReason::kNoAtomicLimits);
}

TEST_F(ReasonsTest, DeviceRefused) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K, WritePolicy::kHardwareOnly, true));
  ASSERT_TRUE(IsOk(WriteSync(0, 16 * kKiB)));
  ExpectMet(PathReason::kDeviceRefused);
  EXPECT_TRUE(ReadAll(a_, 0, 16 * kKiB) == Stamped(stamp_, 16 * kKiB));
  EXPECT_EQ(Counted(PathReason::kInPlace), 0u);
}

TEST_F(ReasonsTest, SeveralRanges) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K));
  Transaction transaction = store()->Begin();
  ASSERT_TRUE(IsOk(transaction.Write(a_, 0, Stamped(1, 16 * kKiB))));
  ASSERT_TRUE(IsOk(transaction.Write(a_, 256 * kKiB, Stamped(2, 16 * kKiB))));
  ASSERT_TRUE(IsOk(transaction.Commit()));
  ExpectMet(PathReason::kSeveralRanges);
}

TEST_F(ReasonsTest, MetadataChange) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K));
  ASSERT_TRUE(IsOk(a_.Truncate((1 << 20) - 100, Durability::kSync)));
  ASSERT_TRUE(IsOk(store()->Checkpoint()));
  ASSERT_TRUE(IsOk(WriteSync((1 << 20) - 4 * kKiB, 4 * kKiB)));  // its block is mapped, but the size grows
  ExpectMet(PathReason::kMetadataChange);
}

TEST_F(ReasonsTest, BarrierUnmet) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K));
  ASSERT_TRUE(IsOk(a_.Write(0, Stamped(1, 12 * kKiB))));
  ASSERT_TRUE(IsOk(store()->Barrier()));
  ASSERT_TRUE(IsOk(WriteSync(256 * kKiB, 16 * kKiB)));
  ExpectMet(PathReason::kBarrierUnmet);
}

TEST_F(ReasonsTest, Unmapped) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K));
  ASSERT_TRUE(IsOk(a_.PunchHole(0, 64 * kKiB, Durability::kSync)));
  ASSERT_TRUE(IsOk(WriteSync(0, 16 * kKiB)));
  ExpectMet(PathReason::kUnmapped);
}

TEST_F(ReasonsTest, Unwritten) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K, WritePolicy::kHardwareOnly));
  ASSERT_TRUE(IsOk(a_.Preallocate(2 << 20, 64 * kKiB)));
  ASSERT_TRUE(IsOk(store()->Checkpoint()));
  ASSERT_TRUE(IsOk(WriteSync(2 << 20, 16 * kKiB)));
  ExpectMet(PathReason::kUnwritten);
  // Its place was chosen so that the next overwrite qualifies.
  ASSERT_TRUE(IsOk(store()->Checkpoint()));
  ASSERT_TRUE(IsOk(WriteSync(2 << 20, 16 * kKiB)));
  ExpectMet(PathReason::kInPlace);
}

// The object remembers that space was preallocated for it, and so is never written blind.
TEST_F(ReasonsTest, UnwrittenAfterRenameTruncateAndReopening) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K));
  ASSERT_TRUE(IsOk(a_.Preallocate(2 << 20, 64 * kKiB)));
  ASSERT_TRUE(IsOk(store()->Rename("a", "b")));
  ASSERT_TRUE(IsOk(a_.Truncate(4 << 20)));
  a_ = Object();
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(IsOk(store_->Close()));
    ASSERT_TRUE(IsOk(store_->Open()));
  }
  a_ = *store()->OpenObject("b");
  before_ = store()->stats();
  ASSERT_TRUE(IsOk(WriteSync(2 << 20, 16 * kKiB)));
  ExpectMet(PathReason::kUnwritten);
}

TEST_F(ReasonsTest, Fragmented) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K));
  // By copy-on-write, block 1 of the four moves elsewhere.
  Transaction transaction = store()->Begin();
  ASSERT_TRUE(IsOk(transaction.Write(a_, 4 * kKiB, Stamped(1, 4 * kKiB))));
  ASSERT_TRUE(IsOk(transaction.Write(a_, 512 * kKiB, Stamped(2, 4 * kKiB))));
  ASSERT_TRUE(IsOk(transaction.Commit()));
  ASSERT_TRUE(IsOk(store()->Checkpoint()));
  ASSERT_TRUE(IsOk(WriteSync(0, 16 * kKiB)));
  ExpectMet(PathReason::kFragmented);
}

TEST_F(ReasonsTest, Unsettled) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K));
  ASSERT_TRUE(IsOk(a_.PunchHole(0, 64 * kKiB, Durability::kSync)));
  ASSERT_TRUE(IsOk(WriteSync(0, 16 * kKiB)));
  ASSERT_TRUE(IsOk(WriteSync(0, 16 * kKiB)));
  ExpectMet(PathReason::kUnsettled);
}

TEST_F(ReasonsTest, NotOpened) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K));
  ASSERT_TRUE(IsOk(WriteSync(0, 16 * kKiB)));
  ExpectMet(PathReason::kNotOpened);
}

TEST_F(ReasonsTest, LengthNotPowerOfTwo) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K));
  ASSERT_TRUE(IsOk(WriteSync(0, 12 * kKiB)));
  ExpectMet(PathReason::kLengthNotPowerOfTwo);
}

TEST_F(ReasonsTest, BelowUnitMin) {
  ASSERT_NO_FATAL_FAILURE(Make(HardwareUnit(16 << 10, 64 << 10)));
  ASSERT_TRUE(IsOk(WriteSync(0, 4 * kKiB)));
  ExpectMet(PathReason::kBelowUnitMin);
}

TEST_F(ReasonsTest, AboveUnitMax) {
  ASSERT_NO_FATAL_FAILURE(Make(HardwareUnit(4 << 10, 16 << 10)));
  ASSERT_TRUE(IsOk(WriteSync(0, 32 * kKiB)));
  ExpectMet(PathReason::kAboveUnitMax);
}

TEST_F(ReasonsTest, Misaligned) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K));
  ASSERT_TRUE(IsOk(WriteSync(4 * kKiB, 16 * kKiB)));  // within one of the aligned runs of 64 KiB
  ExpectMet(PathReason::kMisaligned);
}

TEST_F(ReasonsTest, StraddlesBoundary) {
  ASSERT_NO_FATAL_FAILURE(Make(HardwareUnit(4 << 10, 64 << 10, 16 << 10)));
  ASSERT_TRUE(IsOk(WriteSync(0, 32 * kKiB)));
  ExpectMet(PathReason::kStraddlesBoundary);
}

// A read of the blocks is on its way to the device, and stays there until the write is done.
TEST_F(ReasonsTest, ReadOutstanding) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K, WritePolicy::kAutomatic, false, true));
  ReadAll(a_, 0, 4096);  // brings in the metadata
  SimulatedDevice& device = store_->device().simulated();
  device.Hold(IoOp::kRead, 1, SimulatedDevice::HoldUntil::kForever);
  auto old = Stamped(128 * kKiB, 64 * kKiB);
  old.resize(16 * kKiB);
  const auto written = Stamped(stamp_ + 1, 16 * kKiB);
  std::thread reader([&, object = a_] {
    const auto seen = ReadAll(object, 128 * kKiB, 16 * kKiB);
    EXPECT_TRUE(seen == old || seen == written);
  });
  while (device.held() == 0) std::this_thread::yield();
  EXPECT_TRUE(IsOk(WriteSync(128 * kKiB, 16 * kKiB)));
  device.Release();
  reader.join();
  ExpectMet(PathReason::kReadOutstanding);
}

TEST_F(ReasonsTest, CheaperPacked) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K));
  for (uint64_t i = 0; i < 16; ++i) ASSERT_TRUE(IsOk(a_.Write(i * 64 * kKiB, Stamped(i, 16 * kKiB))));
  ASSERT_TRUE(IsOk(store()->Sync()));
  ExpectMet(PathReason::kCheaperPacked);
}

// Hardware-only: an error where the range can never qualify, and it names the reason; nothing is changed.
TEST_F(ReasonsTest, HardwareOnlyNamesTheReason) {
  struct {
    AtomicLimits limits;
    uint64_t offset, length;
    PathReason reason;
  } const cases[] = {
      {kUnit64K, 0, 12 * kKiB, PathReason::kLengthNotPowerOfTwo},
      {kUnit64K, 0, 128 * kKiB, PathReason::kAboveUnitMax},
      {HardwareUnit(16 << 10, 64 << 10), 0, 4 * kKiB, PathReason::kBelowUnitMin},
      {{}, 0, 16 * kKiB, PathReason::kNoAtomicLimits},
  };
  for (const auto& c : cases) {
    ASSERT_NO_FATAL_FAILURE(Make(c.limits, WritePolicy::kHardwareOnly));
    for (Durability durability : {Durability::kBuffered, Durability::kSync}) {
      const absl::Status status = a_.Write(c.offset, Stamped(1, c.length), {.durability = durability});
      EXPECT_TRUE(Fails(status, absl::StatusCode::kFailedPrecondition)) << PathReasonName(c.reason);
      EXPECT_NE(status.message().find(PathReasonName(c.reason)), std::string::npos) << status;
    }
    EXPECT_TRUE(ReadAll(a_, 0, 64 * kKiB) == Stamped(0, 64 * kKiB));
    EXPECT_TRUE(
        IsOk(a_.Write(c.offset, Stamped(1, c.length), {.atomic = false})));  // asks for nothing special
    a_ = Object();
    EXPECT_TRUE(IsOk(store_->Close()));
  }
}

TEST_F(ReasonsTest, HardwareOnlyTakesTransactionsWithoutData) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K, WritePolicy::kHardwareOnly));
  const auto size = a_.Size();
  ASSERT_TRUE(IsOk(size));
  Transaction transaction = store()->Begin();
  ASSERT_TRUE(IsOk(transaction.PunchHole(a_, 20100, 10000)));
  ASSERT_TRUE(IsOk(transaction.Truncate(a_, *size - 100)));
  EXPECT_TRUE(IsOk(transaction.Commit()));
}

TEST_F(ReasonsTest, HardwareOnlyWaitsOutWhatPasses) {
  ASSERT_NO_FATAL_FAILURE(Make(kUnit64K, WritePolicy::kHardwareOnly));
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(IsOk(WriteSync(4 << 20, 16 * kKiB)));  // first writes, then unsettled ones
    ASSERT_TRUE(IsOk(WriteSync(4 * kKiB, 16 * kKiB)));
  }
  EXPECT_GT(Counted(PathReason::kInPlace), 0u) << All();
}

}  // namespace
}  // namespace untorn
