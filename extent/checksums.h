// Defines the checksums of data. A block of data has one of 64 bits, in the mapping that leads to the block. A log
// record has 64 bits more for each of its extents, so that recovery compares 128 bits.
//
// All of them come from one XXH3-128 of each block, seeded with the key of the store (Superblock::data_key). So
// the content of another store, or of an earlier store on the device, does not match by chance.
#ifndef UNTORN_EXTENT_CHECKSUMS_H_
#define UNTORN_EXTENT_CHECKSUMS_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "base/block_size.h"
#include "base/hash.h"

namespace untorn {

// Owns the checksums of blocks that follow one another. Most mappings have few blocks.
using BlockChecksums = absl::InlinedVector<uint64_t, 2>;

inline constexpr size_t kChecksumBytes = sizeof(uint64_t);

// Refers to checksums that somebody else owns, in a node of the tree or in a BlockChecksums.
class ChecksumsRef {
 public:
  ChecksumsRef() = default;
  explicit ChecksumsRef(const std::byte* first) : first_(first) {}
  explicit ChecksumsRef(std::span<const uint64_t> checksums) : first_(std::as_bytes(checksums).data()) {}

  explicit operator bool() const { return first_ != nullptr; }
  const std::byte* bytes() const { return first_; }
  uint64_t at(BlockCount block) const {
    uint64_t checksum;
    std::memcpy(&checksum, first_ + block.value() * kChecksumBytes, kChecksumBytes);
    return checksum;
  }
  // Refers to the checksums of the blocks from `block` on.
  ChecksumsRef From(BlockCount block) const {
    return first_ == nullptr ? ChecksumsRef() : ChecksumsRef(first_ + block.value() * kChecksumBytes);
  }
  BlockChecksums Copy(BlockCount blocks) const {
    BlockChecksums copy(first_ == nullptr ? 0 : blocks.value());
    CopyTo(copy);
    return copy;
  }
  // Copies as many checksums as `to` has room for.
  void CopyTo(std::span<uint64_t> to) const {
    if (!to.empty()) std::memcpy(to.data(), first_, to.size_bytes());
  }

 private:
  const std::byte* first_ = nullptr;
};

// Calls hash(XXH3-128 of a block) for each block of the pieces, in order. The pieces have whole blocks together.
void ForEachBlockHash(std::span<const iovec> pieces, uint64_t key, absl::FunctionRef<void(Hash128)> hash);

// Calls wrong(i) for each block i of the pieces whose checksum is not the expected one.
void ForEachWrongBlock(std::span<const iovec> pieces, ChecksumsRef expected, uint64_t key,
                       absl::FunctionRef<void(BlockCount)> wrong);

// The checksums of an extent in a log record.
struct DataChecksums {
  BlockChecksums blocks;  // the low halves of the blocks' hashes
  uint64_t check = 0;     // XXH3-64 of the high halves
  bool operator==(const DataChecksums&) const = default;

  static uint64_t CheckOf(std::span<const uint64_t> high_halves);
  static DataChecksums Of(std::span<const Hash128> blocks);
  static DataChecksums Of(std::span<const iovec> pieces, uint64_t key);
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_CHECKSUMS_H_
