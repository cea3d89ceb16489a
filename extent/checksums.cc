#include "extent/checksums.h"

#include <algorithm>

#include "base/check.h"

namespace untorn {

void ForEachBlockHash(std::span<const iovec> pieces, uint64_t key, absl::FunctionRef<void(Hash128)> hash) {
  absl::InlinedVector<iovec, 4> block;  // the parts of a block that lies in several pieces
  size_t bytes = 0;
  for (iovec piece : pieces) {
    auto* at = static_cast<std::byte*>(piece.iov_base);
    for (size_t left = piece.iov_len; left > 0;) {
      const iovec part{at, std::min<size_t>(left, kBlockBytes - bytes)};
      at += part.iov_len;
      left -= part.iov_len;
      if (part.iov_len == kBlockBytes) {
        hash(HashData({&part, 1}, key));
        continue;
      }
      block.push_back(part);
      bytes += part.iov_len;
      if (bytes < kBlockBytes) continue;
      hash(HashData(block, key));
      block.clear();
      bytes = 0;
    }
  }
  UNTORN_CHECK(bytes == 0, "a part of a block is hashed");
}

void ForEachWrongBlock(std::span<const iovec> pieces, ChecksumsRef expected, uint64_t key,
                       absl::FunctionRef<void(BlockCount)> wrong) {
  BlockCount block;
  ForEachBlockHash(pieces, key, [&](Hash128 hash) {
    if (hash.low != expected.at(block)) wrong(block);
    ++block;
  });
}

uint64_t DataChecksums::CheckOf(std::span<const uint64_t> high_halves) {
  return Hash64(std::as_bytes(high_halves));
}

DataChecksums DataChecksums::Of(std::span<const Hash128> blocks) {
  DataChecksums checksums;
  checksums.blocks.reserve(blocks.size());
  absl::InlinedVector<uint64_t, 16> high;
  high.reserve(blocks.size());
  for (const Hash128& block : blocks) {
    checksums.blocks.push_back(block.low);
    high.push_back(block.high);
  }
  checksums.check = CheckOf(high);
  return checksums;
}

DataChecksums DataChecksums::Of(std::span<const iovec> pieces, uint64_t key) {
  absl::InlinedVector<Hash128, 16> blocks;
  ForEachBlockHash(pieces, key, [&](Hash128 hash) { blocks.push_back(hash); });
  return Of(blocks);
}

}  // namespace untorn
