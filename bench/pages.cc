#include "bench/pages.h"

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

// At both ends of each block.
constexpr uint64_t kPlaces[] = {0, kBlockBytes - sizeof(BlockStamp)};

}  // namespace

void Stamp(std::byte* page, uint64_t page_bytes, uint64_t number, uint64_t version) {
  for (uint64_t block = 0; block < page_bytes / kBlockBytes; ++block) {
    const BlockStamp stamp{number, version, block};
    for (uint64_t place : kPlaces) std::memcpy(page + block * kBlockBytes + place, &stamp, sizeof(stamp));
  }
}

absl::Status CheckStamp(const std::byte* page, uint64_t page_bytes, uint64_t number, uint64_t version) {
  for (uint64_t block = 0; block < page_bytes / kBlockBytes; ++block) {
    for (uint64_t place : kPlaces) {
      BlockStamp stamp;
      std::memcpy(&stamp, page + block * kBlockBytes + place, sizeof(stamp));
      if (stamp == BlockStamp{number, version, block}) continue;
      return absl::DataLossError(absl::StrCat("page ", number, ", block ", block, ": version ", version,
                                              " was written, but page ", stamp.number, ", block ",
                                              stamp.block, ", version ", stamp.version, " is read"));
    }
  }
  return absl::OkStatus();
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
