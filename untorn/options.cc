#include "untorn/options.h"

namespace untorn {
namespace {

struct ReasonText {
  const char* name;
  const char* sentence;
};
constexpr ReasonText kReasons[kPathReasonCount] = {
    {"in-place", "qualified: one atomic overwrite"},
    {"policy-always-cow", "the store's policy is always copy-on-write"},
    {"no-atomic-limits", "the device promises no atomic unit"},
    {"device-refused", "the device refused this atomic write"},
    {"several-ranges", "one of several ranges that commit together"},
    {"metadata-change", "changes a size or other metadata, which needs a record"},
    {"barrier-unmet", "something before a barrier was not durable yet"},
    {"unmapped", "first write of a block: nothing to overwrite"},
    {"unwritten", "first write into preallocated space"},
    {"fragmented", "its blocks are not one run on the device"},
    {"unsettled", "the record that made or opened its mapping was not settled yet"},
    {"length-not-power-of-two", "its length in blocks is not a power of two"},
    {"below-unit-min", "shorter than the device's smallest atomic unit"},
    {"above-unit-max", "longer than the device's largest atomic unit"},
    {"misaligned", "its place on the device is not a multiple of its length"},
    {"straddles-boundary", "crosses the device's atomic boundary"},
    {"read-outstanding", "a read of its blocks was on its way to the device"},
    {"cheaper-packed", "a packed run was cheaper for the batch"},
    {"mapping-damaged", "the metadata that says where its blocks are cannot be read"},
    {"not-opened", "no record says that its blocks may be overwritten in place"},
};

}  // namespace

uint64_t LatencyHistogram::PercentileNs(double percent) const {
  uint64_t seen = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    seen += counts_[bucket];
    if (seen > 0 && static_cast<double>(seen) >= static_cast<double>(count_) * percent / 100) {
      return BucketEndNs(bucket);
    }
  }
  return 0;
}

const char* PathReasonName(PathReason reason) { return kReasons[static_cast<int>(reason)].name; }
const char* PathReasonSentence(PathReason reason) { return kReasons[static_cast<int>(reason)].sentence; }

}  // namespace untorn
