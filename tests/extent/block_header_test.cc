#include "extent/block_header.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "device/device.h"

namespace untorn {
namespace {

constexpr Uuid kUuid = {0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
constexpr uint64_t kAddress = 77;

class BlockHeaderTest : public testing::Test {
 protected:
  BlockHeaderTest() : block_(kBlockBytes) {
    header_.type = static_cast<uint16_t>(BlockType::kTreeNode);
    header_.uuid = kUuid;
    header_.address = kAddress;
    header_.generation = 5;
    header_.payload_bytes = 100;
    for (size_t i = kHeaderBytes; i < block_.size(); ++i) block_[i] = static_cast<std::byte>(i * 7);
    Seal();
  }
  void Seal() {
    std::memcpy(block_.data(), &header_, sizeof(header_));
    SealBlock(block_);
  }
  absl::Status Verify() { return VerifyBlock(block_, BlockType::kTreeNode, kUuid, kAddress, "tree node"); }
  void ExpectDataLoss(const std::string& words) {
    const absl::Status status = Verify();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_NE(std::string(status.message()).find(words), std::string::npos) << status;
    EXPECT_NE(std::string(status.message()).find("tree node at block 77"), std::string::npos) << status;
  }

  BlockHeader header_;
  std::vector<std::byte> block_;
};

TEST_F(BlockHeaderTest, SealedBlockVerifies) { EXPECT_TRUE(Verify().ok()) << Verify(); }

TEST_F(BlockHeaderTest, ChecksumDoesNotDependOnItsOwnField) {
  const uint64_t sealed = BlockChecksum(block_);
  block_[offsetof(BlockHeader, checksum)] ^= std::byte{0xff};
  EXPECT_EQ(BlockChecksum(block_), sealed);
}

TEST_F(BlockHeaderTest, AnyFlippedBitIsDataLoss) {
  for (size_t bit = 0; bit < block_.size() * 8; bit += bit < kHeaderBytes * 8 ? 1 : 61) {
    block_[bit / 8] ^= std::byte{1} << bit % 8;
    EXPECT_EQ(Verify().code(), absl::StatusCode::kDataLoss) << "bit " << bit;
    block_[bit / 8] ^= std::byte{1} << bit % 8;
  }
  EXPECT_TRUE(Verify().ok());
}

TEST_F(BlockHeaderTest, BlockNeverWrittenHasNoMagic) {
  std::fill(block_.begin(), block_.end(), std::byte{0});
  ExpectDataLoss("no magic");
}

TEST_F(BlockHeaderTest, TornBlockHasBadChecksum) {
  std::fill(block_.begin() + 512, block_.begin() + 1024, std::byte{0});
  ExpectDataLoss("bad checksum");
}

TEST_F(BlockHeaderTest, OtherFormatVersionIsUnimplemented) {
  header_.version = kFormatVersion + 1;
  Seal();
  EXPECT_EQ(Verify().code(), absl::StatusCode::kUnimplemented);
}

TEST_F(BlockHeaderTest, DamagedBlockOfOtherVersionIsDataLoss) {
  header_.version = kFormatVersion + 1;
  Seal();
  block_[2000] ^= std::byte{1};
  ExpectDataLoss("bad checksum");
}

TEST_F(BlockHeaderTest, OtherTypeIsWrongIdentity) {
  header_.type = static_cast<uint16_t>(BlockType::kFreeMapTable);
  Seal();
  ExpectDataLoss("wrong identity: type 4 (free map table), expected tree node");
}

TEST_F(BlockHeaderTest, OtherStoreIsWrongIdentity) {
  header_.uuid[15] ^= 1;
  Seal();
  ExpectDataLoss("wrong identity: belongs to store deadbeef-0001-0203-0405-06070809");
}

TEST_F(BlockHeaderTest, MisplacedBlockIsWrongIdentity) {
  header_.address = kAddress + 1;
  Seal();
  ExpectDataLoss("wrong identity: was written for address 78");
}

TEST_F(BlockHeaderTest, PayloadBeyondTheBlockIsBadStructure) {
  header_.payload_bytes = kBlockBytes - kHeaderBytes;
  Seal();
  EXPECT_TRUE(Verify().ok());
  header_.payload_bytes = kBlockBytes - kHeaderBytes + 1;
  Seal();
  ExpectDataLoss("bad structure");
  header_.payload_bytes = ~0u;
  Seal();
  ExpectDataLoss("bad structure");
}

TEST_F(BlockHeaderTest, ShorterThanAHeaderIsDataLoss) {
  for (size_t size = 0; size < kHeaderBytes; ++size) {
    const std::vector<std::byte> cut(block_.begin(), block_.begin() + size);
    EXPECT_EQ(VerifyBlock(cut, BlockType::kTreeNode, kUuid, kAddress, "tree node").code(),
              absl::StatusCode::kDataLoss);
  }
}

TEST_F(BlockHeaderTest, RandomBytesAreDataLoss) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 1000; ++round) {
    std::vector<std::byte> noise(random() % 300);
    for (std::byte& b : noise) b = static_cast<std::byte>(random());
    if (noise.size() >= 4 && round % 2) std::memcpy(noise.data(), &kMagic, 4);
    EXPECT_EQ(VerifyBlock(noise, BlockType::kLogRecord, kUuid, kAddress, "log record").code(),
              absl::StatusCode::kDataLoss);
  }
}

TEST(UuidStringTest, IsTheUsualForm) { EXPECT_EQ(UuidString(kUuid), "deadbeef-0001-0203-0405-060708090a0b"); }

}  // namespace
}  // namespace untorn
