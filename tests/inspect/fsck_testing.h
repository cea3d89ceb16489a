// Changes the metadata of a closed store on a simulated disk, for tests of fsck. Changed blocks get a right
// checksum.
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
#include "tests/extent/entry_strings.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"

namespace untorn {

std::unique_ptr<SimulatedDevice> OpenDisk(const std::shared_ptr<SimulatedDisk>& disk);
void FlipByte(SimulatedDisk& disk, BlockNumber block, size_t at, int bits);
void ZeroBlock(SimulatedDisk& disk, BlockNumber block);
// Overwrites a field and puts the block's checksum right.
template <typename T>
void PatchBlock(SimulatedDisk& disk, BlockNumber block, size_t at, const T& value) {
  std::vector<std::byte> bytes(kBlockBytes);
  disk.Peek(ByteOffset(block), bytes.data(), kBlockBytes);
  std::memcpy(bytes.data() + at, &value, sizeof(value));
  SealBlock(bytes);
  disk.Poke(ByteOffset(block), bytes.data(), kBlockBytes);
}

// Where dump says that a node or a superblock is.
inline BlockNumber BlockOf(const nlohmann::json& dumped) {
  return BlockNumber(dumped["block"].get<uint64_t>());
}

class StoreEditor {
 public:
  using Entries = std::vector<EntryStrings>;

  explicit StoreEditor(std::shared_ptr<SimulatedDisk> disk);
  std::shared_ptr<SimulatedDisk> disk() { return disk_; }
  // The slot of the superblock in use.
  int slot() const { return slot_; }
  // Change it, then call PutSuperblock().
  Superblock& superblock() { return superblock_; }
  void PutSuperblock();

  // Changes a block and puts its checksum right. Returns the checksum.
  uint64_t ChangeBlock(BlockNumber block, const std::function<void(std::vector<std::byte>&)>& change);

  // Reads and writes the tree's root.
  Entries RootEntries();
  void PutRoot(int level, BlockNumber block, const Entries& entries);
  void ChangeRoot(const std::function<void(Entries&)>& change);
  // Makes the root's first entry nonsense, behind right checksums.
  void SpoilRoot();
  MappingEntry FirstMapping();

  // Reads and writes the free-space map of a store that has one group.
  std::vector<FreeMapEntry> RootTable();
  void PutRootTable(const std::vector<FreeMapEntry>& table);
  // Marks blocks as used or free, and puts all counts right.
  void ChangeBitmap(Extent extent, bool used);

  // Writes the first record after the checkpoint.
  void AppendRecord(std::vector<LogEntry> entries);

 private:
  std::vector<std::byte> Read(BlockNumber block);
  void Write(BlockNumber block, const std::vector<std::byte>& bytes);
  std::shared_ptr<SimulatedDisk> disk_;
  int slot_ = 0;
  Superblock superblock_;
};

// Makes a closed store with some of everything, in a tree of a single node: objects with written blocks, with
// preallocated blocks and without blocks. With `with_log` the store was killed, and its log has changes since
// the checkpoint.
std::shared_ptr<SimulatedDisk> SmallStore(bool with_log = false);
// Makes the same store with a tree of several levels.
std::shared_ptr<SimulatedDisk> LargeStore(bool with_log = false);

// Runs fsck, which must succeed and write nothing.
FsckResult RunFsck(const std::shared_ptr<SimulatedDisk>& disk);
// Repairs `disk` and returns the result. The repair must say beforehand what it does, succeed, and leave
// nothing to be found or done. Afterwards it must be possible to open, read and write the store.
RepairResult RunRepair(const std::shared_ptr<SimulatedDisk>& disk);
// Runs dump, which must succeed and write nothing.
nlohmann::json RunDump(const std::shared_ptr<SimulatedDisk>& disk, const DumpOptions& options = {});

}  // namespace untorn

#endif  // UNTORN_TESTS_INSPECT_FSCK_TESTING_H_
