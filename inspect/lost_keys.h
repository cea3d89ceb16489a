// The keys of the tree that damage has hidden. Nothing can be said of a key in such a range: it may exist or
// not.
#ifndef UNTORN_INSPECT_LOST_KEYS_H_
#define UNTORN_INSPECT_LOST_KEYS_H_

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace untorn::internal {

class LostKeys {
 public:
  // The keys of [first, limit). Without a limit the range goes to the end.
  struct Range {
    std::string first;
    std::optional<std::string> limit;
  };

  // Ranges are added in the order of their keys.
  void Add(std::string_view first, std::optional<std::string_view> limit) {
    ranges_.push_back({std::string(first), limit ? std::optional<std::string>(*limit) : std::nullopt});
  }

  bool Has(const std::string& key) const {
    const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), key,
                                        [](const std::string& k, const Range& r) { return k < r.first; });
    if (after == ranges_.begin()) return false;
    const Range& range = *std::prev(after);
    return !range.limit || key < *range.limit;
  }

  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_LOST_KEYS_H_
