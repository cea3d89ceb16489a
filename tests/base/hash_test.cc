// Hashes of pieces are those of the whole, whatever lay on the stack before.
#include "base/hash.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace untorn {
namespace {

// Leaves on the stack what looks like a hash state with this seed. xxHash keeps the secret of such a state, which it takes
// to be made from the seed. A state of xxHash 0.8 is aligned to 64 bytes, and has its seed at offset 552.
[[gnu::noinline]] void FillStackWithStates(uint64_t seed) {
  volatile uint64_t words[512];
  for (volatile uint64_t& word : words) {
    word = reinterpret_cast<uintptr_t>(&word) % 64 == 552 % 64 ? seed : 0;
  }
}

class HashTest : public testing::TestWithParam<uint64_t> {
 protected:
  HashTest() : bytes_(9000) {
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<std::byte>(i * 7 + i / 256);
  }
  std::vector<std::byte> bytes_;
};

TEST_P(HashTest, OfPartsIsThatOfTheWhole) {
  const std::span<const std::byte> all(bytes_);
  const std::span<const std::byte> parts[] = {all.first(40), all.subspan(40, 8), all.subspan(48)};
  const uint64_t whole = Hash64(all, GetParam());
  FillStackWithStates(GetParam());
  EXPECT_EQ(Hash64(parts, GetParam()), whole);
}

TEST_P(HashTest, OfPiecesOfDataIsThatOfTheWhole) {
  const iovec all[] = {{bytes_.data(), bytes_.size()}};
  const iovec pieces[] = {{bytes_.data(), 4096}, {bytes_.data() + 4096, bytes_.size() - 4096}};
  const Hash128 whole = HashData(all, GetParam());
  FillStackWithStates(GetParam());
  EXPECT_EQ(HashData(pieces, GetParam()), whole);
}

INSTANTIATE_TEST_SUITE_P(Seeds, HashTest, testing::Values(0, 1, 0x9e3779b97f4a7c15));

}  // namespace
}  // namespace untorn
