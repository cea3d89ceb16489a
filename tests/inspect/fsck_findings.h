#ifndef UNTORN_TESTS_INSPECT_FSCK_FINDINGS_H_
#define UNTORN_TESTS_INSPECT_FSCK_FINDINGS_H_

#include <string>

#include "sim/simulated_disk.h"

namespace untorn {

// Whether a superblock slot with unreadable sectors counts as a finding. A power cut leaves such a slot while
// the slot is being written.
enum class ShornSlot { kIsAFinding, kIsNoFinding };

// Returns what fsck finds on a disk that no store has open, in one line, or "" if it finds nothing.
std::string FsckFindings(const SimulatedDisk& disk, ShornSlot shorn = ShornSlot::kIsAFinding);

}  // namespace untorn

#endif  // UNTORN_TESTS_INSPECT_FSCK_FINDINGS_H_
