// The write requests of a commit: every block goes to its place, in as few writes as the places allow; what
// goes in place is one write from one piece of memory, which the device keeps whole (promise 1).
#include "writeback/write_builder.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace untorn {
namespace {

class WriteBuilderTest : public testing::Test {
 protected:
  // Frozen content; a letter for each block. Buffers lie apart in memory.
  FrozenRange* Frozen(BlockRange blocks, char first_value) {
    FrozenRange& range = ranges_.emplace_back();
    range.blocks = blocks;
    for (uint64_t i = 0; i < blocks.count.value(); ++i) {
      range.buffers.push_back(Apart());
      std::memset(range.buffers.back().data(), static_cast<char>(first_value + i % 26), kBlockBytes);
    }
    return &range;
  }
  BufferRef Apart() {
    BufferRef first = pool_.New(), second = pool_.New();
    gaps_.push_back(first);
    return second;
  }
  void AddInPlace(Extent extent, char first_value) {
    auto set = std::make_shared<ChangeSet>();
    set->frozen.push_back(*Frozen({0, extent.count}, first_value));
    plan_.sets.push_back({.set = set, .reason = PathReason::kInPlace, .in_place = extent});
  }
  void Build() { EXPECT_TRUE(BuildWrites(plan_, pieces_, &commit_).ok()); }
  static std::string Text(const Commit::Write& write) {
    std::string text = std::to_string(write.request.offset_bytes / kBlockBytes) + ":";
    for (const iovec& v : write.request.iov) {
      for (size_t at = 0; at < v.iov_len; at += kBlockBytes) text += static_cast<char*>(v.iov_base)[at];
    }
    return text;
  }
  std::vector<std::string> Writes() const {
    std::vector<std::string> writes;
    for (const Commit::Write& write : commit_.data_writes) writes.push_back(Text(write));
    return writes;
  }
  using Strings = std::vector<std::string>;

  BufferPool pool_;
  std::vector<BufferRef> gaps_;
  std::deque<FrozenRange> ranges_;
  Plan plan_;
  CowPieces pieces_;
  Commit commit_;
};

TEST_F(WriteBuilderTest, PiecesThatAreContiguousOnTheDeviceBecomeOneWrite) {
  pieces_ = {{nullptr, Frozen({50, 2}, 'c'), {50, 2}, 12},
             {nullptr, Frozen({0, 2}, 'a'), {0, 2}, 10},
             {nullptr, Frozen({9, 1}, 'e'), {9, 1}, 14}};
  Build();
  EXPECT_EQ(Writes(), (Strings{"10:abcde"}));
  EXPECT_EQ(commit_.data_writes[0].request.op, IoOp::kWrite);
  EXPECT_TRUE(commit_.data_writes[0].in_place.empty());
}

TEST_F(WriteBuilderTest, AGapOnTheDeviceEndsAWrite) {
  pieces_ = {{nullptr, Frozen({0, 2}, 'a'), {0, 2}, 10}, {nullptr, Frozen({2, 2}, 'c'), {2, 2}, 13}};
  Build();
  EXPECT_EQ(Writes(), (Strings{"10:ab", "13:cd"}));
}

// Promise 9: the tree of a damaged store may say so.
TEST_F(WriteBuilderTest, TwoPiecesAtOnePlaceAreDamage) {
  pieces_ = {{nullptr, Frozen({0, 2}, 'a'), {0, 2}, 10}, {nullptr, Frozen({50, 2}, 'c'), {50, 2}, 11}};
  const absl::Status status = BuildWrites(plan_, pieces_, &commit_);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_NE(status.message().find("block 11"), std::string::npos) << status;
}

TEST_F(WriteBuilderTest, PieceIsThePartOfItsRangeThatItNames) {
  FrozenRange* const range = Frozen({100, 6}, 'a');
  pieces_ = {{nullptr, range, {103, 3}, 20}, {nullptr, range, {100, 3}, 40}};
  Build();
  EXPECT_EQ(Writes(), (Strings{"20:def", "40:abc"}));
}

TEST_F(WriteBuilderTest, MemoryThatIsContiguousIsOnePartOfAWrite) {
  AlignedBuffer memory(3 * kBlockBytes);
  std::memset(memory.data(), 'x', memory.size());
  Buffer buffers[3];
  BufferPool pool;
  for (int i = 0; i < 3; ++i) {
    buffers[i].references = 2;  // never given back
    buffers[i].data = memory.data() + i * kBlockBytes;
    buffers[i].pool = &pool;
  }
  FrozenRange range;  // gone before the buffers are
  range.blocks = {0, 3};
  for (Buffer& buffer : buffers) range.buffers.push_back(BufferRef(&buffer));
  pieces_ = {{nullptr, &range, {0, 3}, 7}};
  Build();
  ASSERT_EQ(Writes(), (Strings{"7:xxx"}));
  EXPECT_EQ(commit_.data_writes[0].request.iov.size(), 1u);
}

TEST_F(WriteBuilderTest, WriteEndsWhereItHasAsManyPartsAsTheKernelTakes) {
  pieces_ = {{nullptr, Frozen({0, 2500}, 'a'), {0, 2500}, 100}};
  Build();
  ASSERT_EQ(commit_.data_writes.size(), 3u);
  uint64_t next = 100;
  for (const Commit::Write& write : commit_.data_writes) {
    EXPECT_LE(write.request.iov.size(), 1024u);
    EXPECT_EQ(write.request.offset_bytes, next * kBlockBytes);
    EXPECT_EQ(Text(write).back(), static_cast<char>('a' + (next - 100 + write.request.iov.size() - 1) % 26));
    next += write.request.length_bytes() / kBlockBytes;
  }
  EXPECT_EQ(next, 2600u);
}

TEST_F(WriteBuilderTest, OneBufferInPlaceIsSentItself) {
  AddInPlace({64, 1}, 'a');
  plan_.in_place = {{{64, 1}, {0}}};
  Build();
  EXPECT_EQ(Writes(), (Strings{"64:a"}));
  const Commit::Write& write = commit_.data_writes[0];
  EXPECT_EQ(write.request.op, IoOp::kAtomicWrite);
  EXPECT_EQ(write.request.iov[0].iov_base, plan_.sets[0].set->frozen[0].buffers[0].data());
  EXPECT_TRUE(commit_.bounces.empty());
  EXPECT_EQ(write.in_place, (std::vector<ChangeSet*>{plan_.sets[0].set.get()}));
}

TEST_F(WriteBuilderTest, SeveralBuffersInPlaceGoThroughOneBounceBuffer) {
  AddInPlace({68, 4}, 'e');
  AddInPlace({64, 4}, 'a');
  plan_.in_place = {{{64, 8}, {1, 0}}};
  Build();
  EXPECT_EQ(Writes(), (Strings{"64:abcdefgh"}));
  const Commit::Write& write = commit_.data_writes[0];
  ASSERT_EQ(write.request.iov.size(), 1u) << "RWF_ATOMIC takes one piece of memory";
  ASSERT_EQ(commit_.bounces.size(), 1u);
  EXPECT_EQ(write.request.iov[0].iov_base, commit_.bounces[0].data());
  EXPECT_EQ(write.in_place, (std::vector<ChangeSet*>{plan_.sets[1].set.get(), plan_.sets[0].set.get()}));
}

TEST_F(WriteBuilderTest, WhatGoesInPlaceAndWhatIsPackedAreNeverOneWrite) {
  AddInPlace({64, 1}, 'i');
  plan_.in_place = {{{64, 1}, {0}}};
  pieces_ = {{nullptr, Frozen({0, 2}, 'a'), {0, 2}, 62}, {nullptr, Frozen({5, 1}, 'c'), {5, 1}, 65}};
  Build();
  EXPECT_EQ(Writes(), (Strings{"62:ab", "65:c", "64:i"}));
}

TEST_F(WriteBuilderTest, ManyPartsAreGatheredAndFewAreNot) {
  AlignedBuffer memory;
  for (size_t parts : {kGatherParts - 1, kGatherParts}) {
    const bool many = parts == kGatherParts;
    IoRequest write;
    std::vector<AlignedBuffer> buffers;
    for (size_t i = 0; i < parts; ++i) {
      AlignedBuffer& b = buffers.emplace_back((1 + i % 2) * kBlockBytes);
      std::fill_n(b.data(), b.size(), std::byte('a' + i));
      write.iov.push_back({b.data(), b.size()});
    }
    const uint64_t length_bytes = write.length_bytes();
    GatherData(&write, &memory);
    EXPECT_EQ(write.iov.size(), many ? 1 : parts);
    EXPECT_EQ(write.length_bytes(), length_bytes);
    EXPECT_EQ(memory.size() > 0, many) << "memory is made when it is needed";
    const auto* at = static_cast<const std::byte*>(write.iov[0].iov_base);
    for (size_t i = 0; many && i < parts; ++i) {
      EXPECT_TRUE(std::equal(buffers[i].data(), buffers[i].data() + buffers[i].size(), at)) << "part " << i;
      at += buffers[i].size();
    }
  }
}

}  // namespace
}  // namespace untorn
