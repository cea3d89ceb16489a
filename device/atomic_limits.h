// Finds out which writes a file or block device keeps whole, and who promises it.
//
// Two steps: GatherAtomicFacts() asks the kernel, DecideAtomicLimits() judges the numbers. The judgement is a
// pure function. It exists because "the file accepts RWF_ATOMIC" does not mean that the disk does the work:
// XFS also accepts it on disks without support, by its own copy-on-write.
#ifndef UNTORN_DEVICE_ATOMIC_LIMITS_H_
#define UNTORN_DEVICE_ATOMIC_LIMITS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "device/device.h"

namespace untorn {

// What is known of an open file. 0 in a number: not reported.
struct AtomicFacts {
  std::string path;
  bool block_device = false;
  bool direct_io = false;

  // statx() of the file itself, STATX_WRITE_ATOMIC.
  uint32_t file_unit_min_bytes = 0;
  uint32_t file_unit_max_bytes = 0;
  // Linux 6.16: the largest that is not emulated, where emulation exists.
  uint32_t file_unit_max_opt_bytes = 0;

  // /sys: the request queue of the disk below (for a partition, of the whole disk).
  std::string disk;  // its name; empty if the file is on no single disk (btrfs, tmpfs, network)
  uint32_t disk_unit_min_bytes = 0;
  uint32_t disk_unit_max_bytes = 0;
  uint32_t disk_boundary_bytes = 0;
  uint64_t request_max_bytes = 0;  // larger writes are split, by size or by number of pages

  uint64_t stated_unit_bytes = 0;  // the operator's word; 0: none
};

struct AtomicVerdict {
  AtomicLimits limits;
  std::string note;  // where the limits come from, or why there are none, for an operator
};

// Threading: none of its own. `fd` is open; not owned.
AtomicFacts GatherAtomicFacts(int fd, const std::string& path);

// kInvalidArgument if the stated unit is not usable.
absl::StatusOr<AtomicVerdict> DecideAtomicLimits(const AtomicFacts& facts);

}  // namespace untorn

#endif  // UNTORN_DEVICE_ATOMIC_LIMITS_H_
