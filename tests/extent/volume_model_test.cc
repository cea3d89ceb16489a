// A volume against a model of it, opened anew after every step: what is durable comes back (promise 3), whole
// (promises 1 and 6), and no block is lost or in use twice.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/extent/open_volume.h"
#include "tests/extent/test_checksums.h"
#include "tests/rounds.h"

namespace untorn {
namespace {

constexpr uint64_t kObjects = 5;
constexpr BlockCount kBlocks = 60;

struct Cell {
  MappingState state = MappingState::kHole;
  BlockNumber physical;
  char value = 0;
  bool operator==(const Cell&) const = default;
};

struct State {
  std::map<std::pair<uint64_t, ObjectBlock>, Cell> cells;  // by object and block; no holes
  std::map<uint64_t, Inode> inodes;
  std::map<std::string, uint64_t> names;
  bool operator==(const State&) const = default;

  void Apply(const LogEntry& e, char value) {
    const uint64_t object = Value(e.object);
    switch (e.type) {
      case LogEntry::Type::kMap:
      case LogEntry::Type::kHole:
        for (BlockCount i; i < e.logical.count; ++i) {
          cells.erase({object, e.logical.start + i});
          if (e.type == LogEntry::Type::kMap) {
            cells[{object, e.logical.start + i}] = {e.state, e.physical + i,
                                                    e.state == MappingState::kWritten ? value : '\0'};
          }
        }
        break;
      case LogEntry::Type::kInode:
        inodes[object] = {e.object, e.size_bytes, e.name};
        break;
      case LogEntry::Type::kInodeGone:
        inodes.erase(object);
        cells.erase(cells.lower_bound({object, ObjectBlock(0)}),
                    cells.lower_bound({object + 1, ObjectBlock(0)}));
        break;
      case LogEntry::Type::kName:
        names[e.name] = object;
        break;
      case LogEntry::Type::kNameGone:
        names.erase(e.name);
        break;
      case LogEntry::Type::kOpen:
        break;  // changes no content
    }
  }
};

class VolumeModel {
 public:
  VolumeModel(uint64_t seed, size_t node_cache_nodes) : node_cache_nodes_(node_cache_nodes), random_(seed) {
    EXPECT_TRUE(Format(disk_, 0).ok());
    Open();
  }

  void Step() {
    const uint64_t kind = Below(100);
    State before = state_;
    bool in_doubt = false;
    if (kind < 15) {
      ASSERT_TRUE(open_->Checkpoint().ok());
    } else if (kind < 25) {
      // A checkpoint that the cut interrupts.
      open_->device().FailAfter(Below(2) ? IoOp::kWrite : IoOp::kFlush, 1 + Below(6),
                                absl::InternalError("cut"), UINT64_MAX / 2);
      (void)open_->Checkpoint();
    } else if (kind < 45) {
      // A commit that the cut interrupts.
      MakeRoom();
      open_->Send(Transaction());
      in_doubt = true;
    } else {
      for (uint64_t n = 1 + Below(4); n > 0; --n) {
        MakeRoom();
        open_->Commit(Transaction());
      }
    }
    if (Below(3) == 0 && !in_doubt && kind >= 25) {
      // The process is killed: what the disk's cache has survives.
      disk_->Kill(random_);
    } else {
      disk_->Crash(random_, 300 + static_cast<int>(Below(700)));
    }
    open_.reset();
    Open();
    const State found = Found();
    if (in_doubt && found == before) state_ = before;
    ASSERT_EQ(found.cells, state_.cells);
    ASSERT_EQ(found.inodes, state_.inodes);
    ASSERT_EQ(found.names, state_.names);
    CheckData();
    CheckSpace();
  }

 private:
  uint64_t Below(uint64_t bound) { return random_() % bound; }

  void Open() {
    open_ = OpenVolume::Open(disk_, false, node_cache_nodes_, random_());
    ASSERT_NE(open_, nullptr);
  }
  void MakeRoom() {
    if (!open_->volume().log().HasRoom(20)) {
      ASSERT_TRUE(open_->Checkpoint().ok());
    }
  }

  // Some changes that commit together; state_ is as after them.
  std::vector<LogEntry> Transaction() {
    std::vector<LogEntry> entries;
    const auto add = [&](LogEntry e, char value = 0) {
      state_.Apply(e, value);
      entries.push_back(std::move(e));
    };
    for (uint64_t n = 1 + Below(4); n > 0; --n) {
      const uint64_t object = 1 + Below(kObjects);
      const BlockCount before(Below(kBlocks.value()));
      const ObjectBlock start = ObjectBlock(0) + before;
      BlockRange range{start, BlockCount(1 + Below(std::min<BlockCount>(kBlocks - before, 12).value()))};
      const char value = static_cast<char>('a' + Below(26));
      const uint64_t kind = Below(100);
      if (kind < 45) {
        add(open_->NewData(ObjectId{object}, range, value), value);
      } else if (kind < 60) {
        const absl::StatusOr<Extent> extent = open_->Allocate(range.count);
        EXPECT_TRUE(extent.ok()) << extent.status();
        if (!extent.ok()) continue;
        add(TestMap(ObjectId{object}, range, extent->start, MappingState::kUnwritten));
      } else if (kind < 75) {
        // Into reserved blocks, one run on the device; but not twice in a transaction, as the engine.
        const auto cell = state_.cells.lower_bound({object, start});
        if (cell == state_.cells.end() || cell->first.first != object ||
            cell->second.state != MappingState::kUnwritten || !entries.empty()) {
          continue;
        }
        range.start = cell->first.second;
        const BlockNumber physical = cell->second.physical;
        BlockCount count;
        for (auto it = cell; count < range.count && it != state_.cells.end(); ++it, ++count) {
          if (it->first != std::pair(object, range.start + count) ||
              it->second.state != MappingState::kUnwritten || it->second.physical != physical + count) {
            break;
          }
        }
        range.count = count;
        add(open_->Data(ObjectId{object}, range, physical, value, true), value);
      } else if (kind < 87) {
        add(LogEntry::Hole(ObjectId{object}, range));
      } else if (kind < 95) {
        const std::string name(1 + Below(200), value);
        add(LogEntry::SetInode({ObjectId{object}, Below(100000), name}));
        add(LogEntry::Name(name, ObjectId{object}));
      } else if (kind < 97 && !state_.names.empty()) {
        add(LogEntry::NameGone(state_.names.begin()->first));
      } else {
        add(LogEntry::InodeGone(ObjectId{object}));
      }
    }
    return entries;
  }

  State Found() {
    State found;
    for (uint64_t object = 1; object <= kObjects; ++object) {
      for (const Mapping& m : open_->Lookup(ObjectId{object}, {0, kBlocks + 20})) {
        if (m.state == MappingState::kHole) continue;
        for (BlockCount i; i < m.logical.count; ++i) {
          const ObjectBlock block = m.logical.start + i;
          char value = 0;
          if (m.state == MappingState::kWritten) {
            char sector[kSectorBytes];
            disk_->Peek(ByteOffset(m.physical + i), sector, kSectorBytes);
            value = sector[0];
          }
          found.cells[{object, block}] = {m.state, m.physical + i, value};
        }
      }
      if (const auto inode = open_->FindInode(ObjectId{object})) found.inodes[object] = *inode;
    }
    for (const auto& [name, object] : open_->Names()) {
      found.names[name] = Value(object);
      EXPECT_EQ(open_->FindName(name), object);
    }
    return found;
  }

  void CheckData() {
    std::vector<char> block(kBlockBytes);
    for (const auto& [place, cell] : state_.cells) {
      if (cell.state != MappingState::kWritten) continue;
      disk_->Peek(ByteOffset(cell.physical), block.data(), kBlockBytes);
      ASSERT_TRUE(
          std::all_of(block.begin(), block.end(), [&, &cell = cell](char c) { return c == cell.value; }))
          << "object " << place.first << " block " << place.second << " at " << cell.physical;
    }
  }

  // What can be allocated overlaps nothing that is mapped; and nothing is lost: after a checkpoint all that
  // is neither mapped nor part of the tree is free.
  void CheckSpace() {
    const std::set<BlockNumber> free = open_->Allocatable();
    std::set<BlockNumber> used;
    for (const auto& [place, cell] : state_.cells) {
      ASSERT_FALSE(free.contains(cell.physical)) << "block " << cell.physical << " is mapped and free";
      ASSERT_TRUE(used.insert(cell.physical).second) << "block " << cell.physical << " is mapped twice";
    }
    if (Below(4) != 0) return;
    ASSERT_TRUE(open_->Checkpoint().ok());
    const Volume& v = open_->volume();
    ASSERT_EQ(v.space().free_blocks() + BlockCount(used.size()) + v.superblock().tree.node_count,
              v.geometry().DataBlocks());
  }

  const size_t node_cache_nodes_;
  std::mt19937_64 random_;
  std::shared_ptr<SimulatedDisk> disk_ = std::make_shared<SimulatedDisk>(kSmallest);
  std::unique_ptr<OpenVolume> open_;
  State state_;
};

TEST(VolumeModelTest, RandomCommitsCheckpointsAndCutsLeaveWhatWasDurable) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    VolumeModel model(seed, seed % 3 == 0 ? 1 : 1000);
    for (int step = 0; step < Rounds(60); ++step) {
      model.Step();
      if (testing::Test::HasFailure()) FAIL() << "at step " << step;
    }
  }
}

}  // namespace
}  // namespace untorn
