#include "tests/inspect/fsck_findings.h"

#include "absl/strings/str_cat.h"
#include "extent/superblock.h"
#include "inspect/on_device.h"
#include "sim/simulated_device.h"
#include "untorn/inspect.h"

namespace untorn {

std::string FsckFindings(const SimulatedDisk& disk, ShornSlot shorn) {
  SimulatedDeviceOptions options;
  options.shuffle = false;
  SimulatedDevice device(disk.Clone(), options);
  absl::StatusOr<FsckResult> result = FsckDevice(device, {.data = true});
  if (!result.ok()) return result.status().ToString();
  const bool is_shorn = !disk.IsReadable(kSuperblockSlots[0]) || !disk.IsReadable(kSuperblockSlots[1]);
  std::string text;
  for (const Finding& finding : result->findings) {
    if (finding.code == FindingCode::kSuperblockUnreadable && is_shorn && shorn == ShornSlot::kIsNoFinding)
      continue;
    absl::StrAppend(&text, text.empty() ? "" : "; ", FindingCodeName(finding.code), ": ", finding.what);
  }
  if (result->findings_total > result->findings.size()) text += "; and more";
  return text;
}

}  // namespace untorn
