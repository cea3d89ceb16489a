#include "demo/ranges.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace untorn::demo {
namespace {

constexpr uint64_t kMagic = 0x646570'6d617473;  // "stamped"
constexpr size_t kSectorBytes = 512;

struct Header {
  uint64_t magic;
  uint64_t checksum;  // of everything after it
  uint64_t version;
  uint64_t range;
  uint64_t length;
};
constexpr size_t kChecksummedFrom = offsetof(Header, version);

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

void FillStamped(const Stamp& stamp, std::span<std::byte> out) {
  UNTORN_CHECK(out.size() >= kStampedBytesMin, "a range is too short for its stamp");
  // Mix is a bijection: equal words at equal places mean equal seeds.
  const uint64_t seed = Mix((uint64_t{stamp.range} << 40) + stamp.version);
  size_t at = 0;
  for (; at + sizeof(uint64_t) <= out.size(); at += sizeof(uint64_t)) {
    const uint64_t word = Mix(seed + at);
    std::memcpy(out.data() + at, &word, sizeof(word));
  }
  const uint64_t last = Mix(seed + at);
  std::memcpy(out.data() + at, &last, out.size() - at);
  Header header{kMagic, 0, stamp.version, stamp.range, out.size()};
  std::memcpy(out.data(), &header, sizeof(header));
  header.checksum = XXH3_64bits(out.data() + kChecksummedFrom, out.size() - kChecksummedFrom);
  std::memcpy(out.data(), &header, sizeof(header));
}

std::optional<Stamp> ReadStamp(std::span<const std::byte> content) {
  if (content.size() < kStampedBytesMin) return std::nullopt;
  Header header;
  std::memcpy(&header, content.data(), sizeof(header));
  if (header.magic != kMagic || header.length != content.size()) return std::nullopt;
  if (header.checksum != XXH3_64bits(content.data() + kChecksummedFrom, content.size() - kChecksummedFrom)) {
    return std::nullopt;
  }
  return Stamp{static_cast<uint32_t>(header.range), header.version};
}

bool IsZero(std::span<const std::byte> content) {
  return std::all_of(content.begin(), content.end(), [](std::byte b) { return b == std::byte{0}; });
}

std::string DescribeTorn(std::span<const std::byte> content, uint32_t range, uint64_t first, uint64_t last) {
  constexpr uint64_t kVersionsMax = 5000;
  const size_t sectors = (content.size() + kSectorBytes - 1) / kSectorBytes;
  std::vector<std::string> found(sectors, "unknown");
  const auto sector = [](auto bytes, size_t i) {
    return bytes.subspan(i * kSectorBytes, std::min(kSectorBytes, bytes.size() - i * kSectorBytes));
  };
  for (size_t i = 0; i < sectors; ++i) {
    if (IsZero(sector(content, i))) found[i] = "zeros";
  }
  if (last - first > kVersionsMax) first = last - kVersionsMax;
  std::vector<std::byte> expected(content.size());
  for (uint64_t version = first; version <= last; ++version) {
    FillStamped({range, version}, expected);
    for (size_t i = 0; i < sectors; ++i) {
      if (std::ranges::equal(sector(content, i), sector(std::span<const std::byte>(expected), i))) {
        found[i] = absl::StrCat("version ", version);
      }
    }
  }
  std::string out;
  for (size_t begin = 0; begin < sectors;) {
    size_t end = begin;
    while (end < sectors && found[end] == found[begin]) ++end;
    absl::StrAppend(&out, out.empty() ? "sectors " : ", ", begin, "-", end - 1, ": ", found[begin]);
    begin = end;
  }
  return out;
}

}  // namespace untorn::demo
