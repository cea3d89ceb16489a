// Changes the metadata of a closed store on a simulated disk and seals what it changes, for tests of fsck.
#ifndef UNTORN_TESTS_INSPECT_FSCK_TESTING_H_
#define UNTORN_TESTS_INSPECT_FSCK_TESTING_H_

#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "extent/free_map_format.h"
#include "extent/log_format.h"
#include "extent/superblock.h"
#include "extent/tree_keys.h"
#include "extent/tree_node.h"
#include "sim/simulated_device.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"

namespace untorn {

std::unique_ptr<SimulatedDevice> OpenDisk(const std::shared_ptr<SimulatedDisk>& disk);
void FlipByte(SimulatedDisk& disk, uint64_t block, size_t at, int bits);
void ZeroBlock(SimulatedDisk& disk, uint64_t block);
// Overwrites a field and seals the block.
template <typename T>
void PatchBlock(SimulatedDisk& disk, uint64_t block, size_t at, const T& value) {
  std::vector<std::byte> bytes(kBlockBytes);
  disk.Peek(block * kBlockBytes, bytes.data(), kBlockBytes);
  std::memcpy(bytes.data() + at, &value, sizeof(value));
  SealBlock(bytes);
  disk.Poke(block * kBlockBytes, bytes.data(), kBlockBytes);
}

class StoreEditor {
 public:
  using Entries = std::vector<std::pair<std::string, std::string>>;

  explicit StoreEditor(std::shared_ptr<SimulatedDisk> disk);
  std::shared_ptr<SimulatedDisk> disk() { return disk_; }
  int slot() const { return slot_; }                // of the superblock in use
  Superblock& superblock() { return superblock_; }  // to be changed, then put
  void PutSuperblock();

  // Changes a block as it is and seals it. Returns its checksum.
  uint64_t ChangeBlock(uint64_t block, const std::function<void(std::vector<std::byte>&)>& change);

  // The tree's root.
  Entries RootEntries();
  void PutRoot(int level, uint64_t block, const Entries& entries);
  void ChangeRoot(const std::function<void(Entries&)>& change);
  MappingEntry FirstMapping();

  // The free-space map of a store of one group.
  std::vector<FreeMapEntry> RootTable();
  void PutRootTable(const std::vector<FreeMapEntry>& table);
  // Marks blocks, with all counts.
  void ChangeBitmap(uint64_t first, uint64_t count, bool used);

  // The first record after the checkpoint.
  void AppendRecord(std::vector<LogEntry> entries);

 private:
  std::vector<std::byte> Read(uint64_t block);
  void Write(uint64_t block, const std::vector<std::byte>& bytes);
  std::shared_ptr<SimulatedDisk> disk_;
  int slot_ = 0;
  Superblock superblock_;
};

// A closed store with some of everything in a tree of a single node: objects with written, preallocated and
// no blocks. `with_log`: killed, with changes since its checkpoint.
std::shared_ptr<SimulatedDisk> SmallStore(bool with_log = false);
// The same with a tree of several levels.
std::shared_ptr<SimulatedDisk> LargeStore(bool with_log = false);

// Run fsck or dump, which must succeed and write nothing.
FsckResult RunFsck(const std::shared_ptr<SimulatedDisk>& disk);
// What a repair says, which must succeed: it tells beforehand what it does, leaves nothing to be found or done, and the
// store can be opened, read and written. `disk` is repaired.
RepairResult RunRepair(const std::shared_ptr<SimulatedDisk>& disk);
nlohmann::json RunDump(const std::shared_ptr<SimulatedDisk>& disk, const DumpOptions& options = {});

}  // namespace untorn

#endif  // UNTORN_TESTS_INSPECT_FSCK_TESTING_H_
