// The stores that fuzz inputs edit.
#ifndef UNTORN_TESTS_FUZZ_BASE_IMAGE_H_
#define UNTORN_TESTS_FUZZ_BASE_IMAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "extent/superblock.h"
#include "sim/simulated_device.h"

namespace untorn {

using BlockBytes = std::array<std::byte, kBlockBytes>;

// A store that was killed with records in its log, and where its metadata is.
struct BaseImage {
  std::shared_ptr<SimulatedDisk> disk;
  Superblock superblock;  // in both slots
  // Both slots, then kLogBlocks of the log's ring from the checkpoint on, the records first, then the tree and the
  // free-space map, then the lane records in lanes.
  std::vector<BlockNumber> blocks;
  std::vector<BlockBytes> contents;
};

inline constexpr size_t kFirstLogBlock = 2, kLogBlocks = 12;

// All of the smallest size, with some of everything: the tree a single node, of two levels, of three.
inline constexpr int kBaseImages = 3;
// Made when first asked for; always the same.
const BaseImage& GetBaseImage(int index);

std::unique_ptr<SimulatedDevice> DeviceOn(const std::shared_ptr<SimulatedDisk>& disk);
// For what can only fail by a defect of the fuzzing itself.
void Must(const absl::Status& status);

}  // namespace untorn

#endif  // UNTORN_TESTS_FUZZ_BASE_IMAGE_H_
