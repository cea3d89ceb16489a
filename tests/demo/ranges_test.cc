#include "demo/ranges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace untorn::demo {
namespace {

std::vector<std::byte> Stamped(uint32_t range, uint64_t version, size_t length) {
  std::vector<std::byte> content(length);
  FillStamped({range, version}, content);
  return content;
}

TEST(DemoRangesTest, WholeContentTellsItsStamp) {
  for (const size_t length : {64, 100, 501, 4096, 65537}) {
    EXPECT_EQ(ReadStamp(Stamped(7, 12, length)), (Stamp{7, 12})) << length;
  }
}

TEST(DemoRangesTest, AnySectorOfAnotherVersionIsTorn) {
  constexpr size_t kLength = 16 << 10;
  const std::vector<std::byte> old_content = Stamped(7, 12, kLength);
  const std::vector<std::byte> new_content = Stamped(7, 13, kLength);
  for (size_t at = 0; at < kLength; at += 512) {
    std::vector<std::byte> mixed = old_content;
    std::copy_n(new_content.begin() + at, 512, mixed.begin() + at);
    EXPECT_FALSE(ReadStamp(mixed).has_value()) << at;
    std::vector<std::byte> half = old_content;
    std::copy_n(new_content.begin(), at, half.begin());
    EXPECT_EQ(ReadStamp(half).has_value(), at == 0) << at;
  }
}

TEST(DemoRangesTest, EveryFlippedByteIsTorn) {
  std::vector<std::byte> content = Stamped(3, 1, 501);
  for (std::byte& byte : content) {
    byte ^= std::byte{1};
    EXPECT_FALSE(ReadStamp(content).has_value());
    byte ^= std::byte{1};
  }
}

TEST(DemoRangesTest, ContentOfAnotherLengthIsTorn) {
  const std::vector<std::byte> content = Stamped(3, 1, 8192);
  EXPECT_FALSE(ReadStamp(std::span(content).first(4096)).has_value());
  EXPECT_FALSE(ReadStamp(std::span(content).subspan(4096)).has_value());
  EXPECT_FALSE(ReadStamp(std::vector<std::byte>(4096)).has_value());
  EXPECT_FALSE(ReadStamp({}).has_value());
}

TEST(DemoRangesTest, VersionsDifferInEveryWord) {
  const std::vector<std::byte> a = Stamped(3, 1, 4096);
  const std::vector<std::byte> b = Stamped(3, 2, 4096);
  // The header's magic, range and length are the same.
  for (size_t at = 40; at < a.size(); at += 8) {
    EXPECT_FALSE(std::equal(a.begin() + at, a.begin() + at + 8, b.begin() + at)) << at;
  }
}

TEST(DemoRangesTest, TornContentIsDescribed) {
  std::vector<std::byte> mixed = Stamped(7, 12, 4096);
  const std::vector<std::byte> new_content = Stamped(7, 13, 4096);
  std::copy_n(new_content.begin() + 1024, 1024, mixed.begin() + 1024);
  std::fill_n(mixed.begin() + 2048, 512, std::byte{0});
  std::fill_n(mixed.begin() + 3584, 512, std::byte{1});
  EXPECT_EQ(DescribeTorn(mixed, 7, 10, 20),
            "sectors 0-1: version 12, 2-3: version 13, 4-4: zeros, 5-6: version 12, 7-7: unknown");
}

}  // namespace
}  // namespace untorn::demo
