#include "inspect/describe.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "extent/tree_keys.h"
#include "inspect/printable.h"

namespace untorn::internal {

std::string DescribeKey(std::string_view key) {
  if (const std::optional<KeySpace> space = KeySpaceOf(key)) {
    switch (*space) {
      case KeySpace::kMapping: {
        const auto [object, block] = MappingKeyNumbers(key.data());
        return absl::StrCat("mapping of object ", Value(object), " at block ", block.value());
      }
      case KeySpace::kInode:
        // The parser takes a key with its value. A value that is well-formed lets it judge the key.
        if (const auto inode = ParseInode(key, InodeValue({ObjectId{1}, 0, "x"}))) {
          return absl::StrCat("object ", Value(inode->id));
        }
        break;
      case KeySpace::kName:
        return absl::StrCat("name '", Printable(std::string(key.substr(1))), "'");
    }
  }
  const std::string_view shown = key.substr(0, 300);
  return absl::StrCat("key 0x", absl::BytesToHexString(absl::string_view(shown.data(), shown.size())));
}

std::string DescribeRange(std::string_view first, std::optional<std::string_view> limit) {
  return absl::StrCat(first.empty() ? "everything" : absl::StrCat("everything from ", DescribeKey(first)),
                      limit           ? absl::StrCat(" to before ", DescribeKey(*limit))
                      : first.empty() ? ""
                                      : " on");
}

std::string DescribeRun(Extent extent) {
  return extent.count == 1 ? absl::StrCat("block ", Word(extent.start))
                           : absl::StrCat("blocks ", Word(extent.start), " to ", Word(extent.end() - 1));
}

std::string DescribeRun(BlockRange range) {
  return DescribeRun(Extent{BlockNumber(range.start.value()), range.count});
}

}  // namespace untorn::internal
