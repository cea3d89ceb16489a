#ifndef UNTORN_TESTS_EXPLORE_FSCK_FINDINGS_H_
#define UNTORN_TESTS_EXPLORE_FSCK_FINDINGS_H_

#include <memory>
#include <string>

#include "device/simulated_disk.h"

namespace untorn {

// What fsck finds on a disk after a crash, in one line; "" if nothing, but for a superblock slot that was being
// written at the cut and cannot be read.
std::string FsckFindings(const std::shared_ptr<SimulatedDisk>& disk);

}  // namespace untorn

#endif  // UNTORN_TESTS_EXPLORE_FSCK_FINDINGS_H_
