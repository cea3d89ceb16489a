#include "bench/pages.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "absl/strings/str_cat.h"
#include "device/device.h"

namespace untorn::bench {
namespace {

struct BlockStamp {
  uint64_t number, version, block;
  bool operator==(const BlockStamp&) const = default;
};

// A page is stamped at both ends of each block of it; one that is smaller than a block at its own.
template <typename F>
void ForEachPlace(uint64_t page_bytes, F f) {
  const uint64_t block_bytes = std::min(page_bytes, kBlockBytes);
  for (uint64_t block = 0; block < page_bytes / block_bytes; ++block) {
    for (uint64_t place : {uint64_t{0}, block_bytes - sizeof(BlockStamp)})
      f(block, block * block_bytes + place);
  }
}

}  // namespace

void Stamp(std::byte* page, uint64_t page_bytes, uint64_t number, uint64_t version) {
  ForEachPlace(page_bytes, [&](uint64_t block, uint64_t at) {
    const BlockStamp stamp{number, version, block};
    std::memcpy(page + at, &stamp, sizeof(stamp));
  });
}

absl::Status CheckStamp(const std::byte* page, uint64_t page_bytes, uint64_t number, uint64_t version) {
  absl::Status status;
  ForEachPlace(page_bytes, [&](uint64_t block, uint64_t at) {
    BlockStamp stamp;
    std::memcpy(&stamp, page + at, sizeof(stamp));
    if (stamp == BlockStamp{number, version, block}) return;
    status = absl::DataLossError(absl::StrCat("page ", number, ", block ", block, ": version ", version,
                                              " was written, but page ", stamp.number, ", block ",
                                              stamp.block, ", version ", stamp.version, " is read"));
  });
  return status;
}

AlignedBuffer RandomBytes(uint64_t bytes, uint64_t seed) {
  AlignedBuffer buffer(bytes, bytes % kHugePageBytes == 0 ? kHugePageBytes : kBlockBytes);
  std::mt19937_64 rng(seed);
  for (uint64_t at = 0; at + 8 <= bytes; at += 8) {
    const uint64_t value = rng();
    std::memcpy(buffer.data() + at, &value, 8);
  }
  return buffer;
}

}  // namespace untorn::bench
