#ifndef UNTORN_TESTS_INSPECT_FSCK_FINDINGS_H_
#define UNTORN_TESTS_INSPECT_FSCK_FINDINGS_H_

#include <string>

#include "sim/simulated_disk.h"

namespace untorn {

// Whether a superblock slot with unreadable sectors counts: of a disk after a power cut it was being written.
enum class ShornSlot { kIsAFinding, kIsNoFinding };

// What fsck finds on a disk that no store uses, in one line; "" if nothing.
std::string FsckFindings(const SimulatedDisk& disk, ShornSlot shorn = ShornSlot::kIsAFinding);

}  // namespace untorn

#endif  // UNTORN_TESTS_INSPECT_FSCK_FINDINGS_H_
