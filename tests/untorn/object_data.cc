#include "tests/untorn/object_data.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace untorn {
namespace {

const ObjectData::Block kZeros{};

}  // namespace

uint64_t HashOf(const ObjectData::Block& block) { return XXH3_64bits(block.data(), block.size()); }

const ObjectData::Block& ObjectData::block(uint64_t index) const {
  auto it = blocks_.find(index);
  return it == blocks_.end() ? kZeros : *it->second;
}

uint64_t ObjectData::BlockHash(uint64_t index) const {
  static const uint64_t zeros = HashOf(kZeros);
  auto it = blocks_.find(index);
  return it == blocks_.end() ? zeros : HashOf(*it->second);
}

ObjectData::Block& ObjectData::Mutable(uint64_t index) {
  std::shared_ptr<Block>& block = blocks_[index];
  if (block == nullptr) {
    block = std::make_shared<Block>();
  } else if (block.use_count() > 1) {
    block = std::make_shared<Block>(*block);
  }
  return *block;
}

void ObjectData::Write(uint64_t offset, std::span<const std::byte> data) {
  Grow(offset + data.size());
  while (!data.empty()) {
    const uint64_t in_block = offset % kBlock;
    const size_t part = std::min<uint64_t>(kBlock - in_block, data.size());
    std::memcpy(Mutable(offset / kBlock).data() + in_block, data.data(), part);
    offset += part;
    data = data.subspan(part);
  }
}

void ObjectData::Zero(uint64_t begin, uint64_t end) {
  if (begin >= end) return;
  const uint64_t whole_begin = (begin + kBlock - 1) / kBlock;
  const uint64_t whole_end = end / kBlock;
  auto zero_part = [this](uint64_t from, uint64_t to) {
    if (from < to && blocks_.contains(from / kBlock)) {
      std::memset(Mutable(from / kBlock).data() + from % kBlock, 0, to - from);
    }
  };
  if (whole_begin > whole_end) return zero_part(begin, end);  // within one block
  zero_part(begin, whole_begin * kBlock);
  zero_part(whole_end * kBlock, end);
  blocks_.erase(blocks_.lower_bound(whole_begin), blocks_.lower_bound(whole_end));
}

void ObjectData::Truncate(uint64_t size) {
  const uint64_t end = blocks_.empty() ? 0 : (blocks_.rbegin()->first + 1) * kBlock;
  Zero(size, end);
  size_ = size;
}

void ObjectData::Punch(uint64_t offset, uint64_t length) { Zero(offset, std::min(offset + length, size_)); }

size_t ObjectData::Read(uint64_t offset, std::span<std::byte> out) const {
  if (offset >= size_) return 0;
  const size_t length = std::min<uint64_t>(out.size(), size_ - offset);
  size_t done = 0;
  while (done < length) {
    const uint64_t in_block = (offset + done) % kBlock;
    const size_t part = std::min<uint64_t>(kBlock - in_block, length - done);
    std::memcpy(out.data() + done, block((offset + done) / kBlock).data() + in_block, part);
    done += part;
  }
  return length;
}

}  // namespace untorn
