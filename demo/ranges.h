// Stamped ranges. Their content says which version of which range it is, and whether it is whole.
#ifndef UNTORN_DEMO_RANGES_H_
#define UNTORN_DEMO_RANGES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace untorn::demo {

inline constexpr size_t kStampedBytesMin = 64;

struct Stamp {
  uint32_t range = 0;
  uint64_t version = 0;
  friend bool operator==(const Stamp&, const Stamp&) = default;
};

// Fills `out` (at least kStampedBytesMin) with the content of that version. The content is a header with a
// checksum of everything, and bytes that differ between any two versions in every word.
void FillStamped(const Stamp& stamp, std::span<std::byte> out);

// Returns the stamp of a content that is whole. Returns nothing for a torn content, for a mix of versions,
// and for bytes without a stamp.
std::optional<Stamp> ReadStamp(std::span<const std::byte> content);

bool IsZero(std::span<const std::byte> content);

// Describes a torn content of `range` by its sectors: "0-7: version 12, 8-31: version 13". Looks for versions
// `first` to `last`.
std::string DescribeTorn(std::span<const std::byte> content, uint32_t range, uint64_t first, uint64_t last);

}  // namespace untorn::demo

#endif  // UNTORN_DEMO_RANGES_H_
