// Finds out which writes a file or block device keeps whole, and who promises it.
//
// GatherAtomicFacts() asks the kernel, and DecideAtomicLimits() judges the numbers. The judgement is a pure
// function. It is needed because XFS also accepts RWF_ATOMIC on disks that cannot keep writes whole. There
// XFS does it by its own copy-on-write.
#ifndef UNTORN_DEVICE_ATOMIC_LIMITS_H_
#define UNTORN_DEVICE_ATOMIC_LIMITS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "device/device.h"

namespace untorn {

// What the kernel reports of an open file. A number that it does not report is 0.
struct AtomicFacts {
  std::string path;
  bool block_device = false;
  bool direct_io = false;

  // statx() reports these of the file itself (STATX_WRITE_ATOMIC).
  uint32_t file_unit_min_bytes = 0;
  uint32_t file_unit_max_bytes = 0;
  // The largest unit that the file system does not emulate, where it emulates any (Linux 6.16).
  uint32_t file_unit_max_opt_bytes = 0;

  // /sys reports these of the request queue of the disk below. A partition has the queue of its whole disk.
  std::string disk;  // the disk's name; empty if the file is on no single disk (btrfs, tmpfs, network)
  uint32_t disk_unit_min_bytes = 0;
  uint32_t disk_unit_max_bytes = 0;
  uint32_t disk_boundary_bytes = 0;
  uint64_t request_max_bytes = 0;  // the kernel splits larger writes, by size or by number of pages
  // The cache of the disk. kVolatileWithFua: a write may go past it (forced unit access).
  enum class Cache { kUnknown, kNone, kVolatile, kVolatileWithFua };
  Cache disk_cache = Cache::kUnknown;

  bool in_memory = false;  // the file system below has no disk

  uint64_t stated_unit_bytes = 0;  // the operator's word; 0: none
  // Why an overwrite may not go to the place of the old blocks; empty if nothing tells so.
  std::string not_in_place;
};

struct AtomicVerdict {
  AtomicLimits limits;
  std::string note;     // where the limits come from, or why there are none, for an operator
  std::string warning;  // why the operator's word may be worth nothing; empty if nothing tells so
};

// `fd` must be open, and the caller keeps it.
//  kResourceExhausted  the process has no descriptor left to ask with
absl::StatusOr<AtomicFacts> GatherAtomicFacts(int fd, const std::string& path);

// Says in words what the kernel does for a write that is to be durable.
std::string DurableWriteNote(const AtomicFacts& facts);

// kInvalidArgument: the stated unit cannot be used.
absl::StatusOr<AtomicVerdict> DecideAtomicLimits(const AtomicFacts& facts);

}  // namespace untorn

#endif  // UNTORN_DEVICE_ATOMIC_LIMITS_H_
