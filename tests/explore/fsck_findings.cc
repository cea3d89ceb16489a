#include "tests/explore/fsck_findings.h"

#include "absl/strings/str_cat.h"
#include "device/simulated_device.h"
#include "extent/superblock.h"
#include "untorn/inspect.h"

namespace untorn {

std::string FsckFindings(const std::shared_ptr<SimulatedDisk>& disk) {
  SimulatedDeviceOptions options;
  options.shuffle = false;
  SimulatedDevice device(disk, options);
  absl::StatusOr<FsckResult> result = FsckDevice(device);
  if (!result.ok()) return result.status().ToString();
  std::string text;
  for (const Finding& finding : result->findings) {
    // A slot that was being written is the one thing that a cut may leave to be found.
    const bool shorn = !disk->IsReadable(kSuperblockSlots[0]) || !disk->IsReadable(kSuperblockSlots[1]);
    if (finding.code == FindingCode::kSuperblockUnreadable && shorn) continue;
    absl::StrAppend(&text, text.empty() ? "" : "; ", FindingCodeName(finding.code), ": ", finding.what);
  }
  return text;
}

}  // namespace untorn
