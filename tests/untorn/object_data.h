// The bytes of one object as the model keeps them: sparse, in blocks; what was never written is zeros.
#ifndef UNTORN_TESTS_UNTORN_OBJECT_DATA_H_
#define UNTORN_TESTS_UNTORN_OBJECT_DATA_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

namespace untorn {

class ObjectData {
 public:
  static constexpr uint64_t kBlock = 4096;
  using Block = std::array<std::byte, kBlock>;

  uint64_t size() const { return size_; }
  // Blocks that hold something; copies of an object share them until one is changed.
  const std::map<uint64_t, std::shared_ptr<Block>>& blocks() const { return blocks_; }
  const Block& block(uint64_t index) const;
  uint64_t BlockHash(uint64_t index) const;

  void Write(uint64_t offset, std::span<const std::byte> data);
  void Truncate(uint64_t size);
  void Punch(uint64_t offset, uint64_t length);
  void Grow(uint64_t size) { size_ = size > size_ ? size : size_; }
  size_t Read(uint64_t offset, std::span<std::byte> out) const;

 private:
  Block& Mutable(uint64_t index);
  void Zero(uint64_t begin, uint64_t end);

  uint64_t size_ = 0;
  std::map<uint64_t, std::shared_ptr<Block>> blocks_;
};

uint64_t HashOf(const ObjectData::Block& block);

}  // namespace untorn

#endif  // UNTORN_TESTS_UNTORN_OBJECT_DATA_H_
