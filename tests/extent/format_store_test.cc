// Making a store: a cut leaves it or none.
#include "extent/format_store.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <string>

#include "tests/extent/open_volume.h"

namespace untorn {
namespace {

using FormatStoreTest = VolumeTest;

TEST(FormatTest, SizeThatIsTooSmallOrLargerThanTheDeviceIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(Format(std::make_shared<SimulatedDisk>(kSmallest - kBlockBytes), 0)));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Format(std::make_shared<SimulatedDisk>(2 * kSmallest), kSmallest - kBlockBytes)));
  EXPECT_TRUE(absl::IsInvalidArgument(Format(std::make_shared<SimulatedDisk>(kSmallest), 2 * kSmallest)));
}

TEST(FormatTest, CutWhileFormattingLeavesAStoreOrNone) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    auto disk = std::make_shared<SimulatedDisk>(kSmallest);
    {
      SimulatedDevice device(disk, {.size_bytes = kSmallest, .seed = seed});
      device.FailAfter(seed % 2 ? IoOp::kWrite : IoOp::kFlush, 1 + random() % 6, absl::InternalError("cut"),
                       UINT64_MAX / 2);
      (void)FormatStore(device, 0, /*prepare_all=*/false, nullptr);
    }
    disk->Crash(random);
    SimulatedDevice device(disk, {.size_bytes = kSmallest});
    const auto usable = UsableSuperblock(ReadSuperblocks(device), device, true);
    if (usable.ok()) {
      EXPECT_NE(OpenVolume::Open(disk), nullptr);
    } else {
      EXPECT_TRUE(absl::IsInvalidArgument(usable.status()) || absl::IsDataLoss(usable.status()))
          << usable.status();
    }
  }
}

TEST_F(FormatStoreTest, NewStoreIsEmptyAndHasAllItsDataAreaFree) {
  EXPECT_TRUE(open_->Names().empty());
  EXPECT_EQ(open_->FindInode(kObject), std::nullopt);
  const auto mappings = open_->Lookup(kObject, {0, kObjectBlocksMax});
  ASSERT_EQ(mappings.size(), 1u);
  EXPECT_EQ(mappings[0].state, MappingState::kHole);
  const Geometry g = volume().geometry();
  EXPECT_EQ(volume().space().free_blocks(), g.DataBlocks());
  EXPECT_EQ(BlockCount(open_->Allocatable().size()), g.DataBlocks());
}

TEST(PrepareTest, PreparedAtFormatAllOfItIsAllocatable) {
  auto disk = std::make_shared<SimulatedDisk>(64 << 20);
  ASSERT_TRUE(Format(disk, 0, /*needs_preparing=*/true, /*prepare_all=*/true).ok());
  auto open = OpenVolume::Open(disk);
  ASSERT_NE(open, nullptr);
  const Geometry& g = open->volume().geometry();
  EXPECT_EQ(open->volume().space().prepared_blocks(), g.total_blocks);
  EXPECT_EQ(open->volume().space().free_blocks(), g.DataBlocks());
  Lock lock(open->mutex());
  EXPECT_EQ(open->volume().space().PrepareMore(lock, 1).value(), SpaceLedger::Prepared::kAllPrepared);
}

}  // namespace
}  // namespace untorn
