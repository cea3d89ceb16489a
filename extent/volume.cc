#include "extent/volume.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "extent/tree_keys.h"
#include "extent/tree_merge.h"

namespace untorn {
namespace {

// Kept back so that removing and truncating work on a full store, and what of it they leave: each has a few
// changes of the tree, and a truncate or a punched hole has edges to write.
constexpr uint64_t kReserveBlocks = 96;
constexpr uint64_t kReserveBlocksMin = 16;
constexpr uint64_t kInitiallyPreparedBlocks = (32 << 20) / kBlockBytes;
constexpr uint64_t kZeroRunBytes = 256 << 10;

}  // namespace

absl::Status Volume::Format(Device& device, uint64_t size_bytes, bool prepare_all,
                            const std::function<void(uint64_t, uint64_t)>& progress) {
  if (size_bytes == 0) size_bytes = device.info().size_bytes;
  const uint64_t total = size_bytes / kBlockBytes;
  if (total < kStoreBlocksMin || total > kStoreBlocksMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(device.info().path, ": a store has ", kStoreBlocksMin * kBlockBytes, " to ",
                     kStoreBlocksMax * kBlockBytes, " bytes, not ", size_bytes));
  }
  if (total * kBlockBytes > device.info().size_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(device.info().path, ": has ", device.info().size_bytes,
                                                   " bytes, fewer than the ", size_bytes, " asked for"));
  }
  Superblock sb;
  if (getrandom(sb.uuid.data(), sb.uuid.size(), 0) != static_cast<ssize_t>(sb.uuid.size())) {
    return absl::InternalError("no random numbers for the store's UUID");
  }
  sb.geometry = Geometry::ForSize(total);
  const Geometry& g = sb.geometry;
  sb.prepared_blocks = device.info().needs_preparing && !prepare_all
                           ? std::min(total, g.data_start + kInitiallyPreparedBlocks)
                           : total;
  sb.used_blocks = g.data_start;
  sb.epoch = 1;

  // Old superblocks go first and are flushed: a cut from here on leaves no store rather than half of two.
  const uint64_t data_blocks = device.info().needs_preparing ? sb.prepared_blocks - g.data_start : 0;
  // A file's map blocks are written when they are needed, unless all of it is prepared now.
  const uint64_t fixed_blocks = data_blocks > 0 && prepare_all ? g.data_start : g.map_start;
  const uint64_t all = (fixed_blocks + data_blocks) * kBlockBytes;
  const auto zero = [&](uint64_t start, uint64_t end, uint64_t before) {
    return WriteZerosBlocking(device, start * kBlockBytes, (end - start) * kBlockBytes, [&](uint64_t bytes) {
      if (progress) progress(before * kBlockBytes + bytes, all);
    });
  };
  if (absl::Status s = zero(0, g.log_start, 0); !s.ok()) return s;
  if (absl::Status s = FlushBlocking(device); !s.ok()) return s;
  if (absl::Status s = zero(g.log_start, fixed_blocks, g.log_start); !s.ok()) return s;
  if (data_blocks > 0) {
    if (absl::Status s = zero(g.data_start, sb.prepared_blocks, fixed_blocks); !s.ok()) return s;
  }
  if (absl::Status s = FlushBlocking(device); !s.ok()) return s;
  sb.generation = 1;
  for (int slot : {0, 1}) {
    if (absl::Status s = WriteSuperblockSlot(device, sb, slot); !s.ok()) return s;
  }
  return absl::OkStatus();
}

Volume::Volume(IoPump& pump, const Superblock& superblock, int slot, size_t node_cache_nodes)
    : pump_(pump),
      superblock_(superblock),
      slot_(slot),
      nodes_(node_cache_nodes),
      free_(superblock),
      next_object_(superblock.next_object) {}

absl::StatusOr<std::unique_ptr<Volume>> Volume::Open(IoPump& pump, bool read_only, size_t node_cache_nodes) {
  Device& device = pump.device();
  // What a dead owner left in the disk's cache must be durable before anything is built on it.
  if (!read_only) {
    if (absl::Status s = FlushBlocking(device); !s.ok()) return s;
  }
  const SuperblockSlots slots = ReadSuperblocks(device);
  absl::StatusOr<Superblock> superblock = UsableSuperblock(slots, device.info(), !read_only);
  if (!superblock.ok()) return superblock.status();
  absl::StatusOr<LogTail> tail = ReadLogTail(device, *superblock);
  if (!tail.ok()) return tail.status();
  if (!tail->damage.ok()) {
    return absl::DataLossError(absl::StrCat(device.info().path, ": ", std::string(tail->damage.message())));
  }
  std::unique_ptr<Volume> volume(new Volume(pump, *superblock, slots.current, node_cache_nodes));
  if (absl::Status s = volume->Recover(*tail); !s.ok()) return s;
  if (const auto& spare = slots.slots[1 - slots.current]; !spare.ok()) {
    volume->open_warnings_.push_back(absl::StrCat(
        "superblock slot ", 1 - slots.current, " is unusable (", std::string(spare.status().message()),
        "); the other one is in use and nothing is lost", read_only ? "" : "; it is written anew"));
  }
  if (read_only) return volume;

  if (std::max({superblock->generation, superblock->epoch, tail->lsn, tail->position,
                volume->next_object_}) >= kNumberMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat(device.info().path, ": the store has no numbers left to count with; open it read-only"));
  }
  Superblock next = *superblock;
  ++next.generation;
  ++next.epoch;
  next.durable_lsn = tail->lsn;
  next.prepared_blocks = tail->prepared_blocks;
  next.next_object = volume->next_object_;
  std::unique_lock lock(pump.mutex());
  if (absl::Status s = volume->WriteSuperblock(lock, next); !s.ok()) return s;
  return volume;
}

absl::Status Volume::Recover(const LogTail& tail) {
  free_.SetPrepared(tail.prepared_blocks);
  absl::Status contradiction;
  const auto note = [&](absl::Status s) {
    if (contradiction.ok()) contradiction = std::move(s);
  };
  absl::Status read =
      ForEachRecord(pump_.device(), superblock_, tail, [&](const LogRecord& record, Lsn chain_lsn) {
        for (const LogEntry& e : record.entries) {
          note(active_->Apply(e, chain_lsn, [&](Extent extent, Lsn) { note(free_.MarkFree(extent)); }));
          if (e.type == LogEntry::Type::kMap && !e.reserved_before)
            note(free_.MarkBusy({e.physical, e.logical.count}));
          next_object_ = std::max(next_object_, Value(e.object) + 1);
        }
      });
  if (!read.ok()) return read;
  if (!contradiction.ok()) return contradiction;
  counters_.recovered_records = tail.kept.size();
  counters_.dropped_records = tail.dropped;
  next_position_ = durable_position_ = tail.position;
  previous_checksum_ = durable_checksum_ = tail.checksum;
  next_lsn_ = tail.lsn + 1;
  durable_lsn_ = settled_lsn_ = tail.lsn;
  return absl::OkStatus();
}

// ---- Lookups ----

absl::StatusOr<bool> Volume::Walked(WalkResult result, const TreeCursor& cursor) {
  if (result == WalkResult::kDamaged) return cursor.damage();
  if (result == WalkResult::kMissing) {
    missing_ = cursor.missing();
    return false;
  }
  return true;
}

absl::Status Volume::CheckPlace(Extent extent) const {
  if (geometry().InDataArea(extent)) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("mapping tree: a mapping leads to blocks ", extent.start, " to ",
                                          extent.end() - 1, ", outside the data area"));
}

absl::StatusOr<bool> Volume::TryLookup(ObjectId object, BlockRange range, std::vector<Mapping>* out) {
  out->clear();
  absl::StatusOr<bool> complete = true;
  const auto in_tree = [&](BlockRange gap) {
    if (!complete.ok() || !*complete) return;
    uint64_t at = gap.start;
    const auto hole_until = [&](uint64_t end) {
      if (at < end) out->push_back({{at, end - at}, MappingState::kHole, 0, 0, 0});
      at = std::max(at, end);
    };
    const std::string end_key = MappingKey(object, gap.end());
    TreeCursor cursor(nodes_, superblock_.tree);
    WalkResult result = cursor.SeekFloor(MappingKey(object, gap.start));
    while (true) {
      complete = Walked(result, cursor);
      if (!complete.ok() || !*complete) return;
      if (result == WalkResult::kEnd) break;
      std::optional<MappingEntry> entry;
      if (result == WalkResult::kAtEntry) {
        entry = ParseMapping(cursor.key(), cursor.value());
        if (!entry) {
          complete =
              absl::DataLossError(absl::StrCat("mapping tree: ill-formed entry near object ", Value(object)));
          return;
        }
      }
      if (entry && entry->object == object && entry->mapping.logical.end() > at) {
        Mapping m = entry->mapping;
        if (absl::Status s = CheckPlace(m.extent()); !s.ok()) {
          complete = s;
          return;
        }
        const uint64_t start = std::max(at, m.logical.start), end = std::min(gap.end(), m.logical.end());
        hole_until(start);
        m.physical += start - m.logical.start;
        m.logical = {start, end - start};
        out->push_back(m);
        at = end;
      }
      // A leaf that holds nothing of the range is not read: it may be damaged.
      const std::optional<std::string_view> next = cursor.next_key();
      if (!next || *next >= end_key) break;
      result = cursor.Next();
    }
    hole_until(gap.end());
  };
  const auto add = [&](const Mapping& m) { out->push_back(m); };
  active_->Visit(object, range, add, [&](BlockRange gap) {
    if (frozen_) {
      frozen_->Visit(object, gap, add, in_tree);
    } else {
      in_tree(gap);
    }
  });
  return complete;
}

absl::StatusOr<bool> Volume::TryReachEdges(ObjectId object, BlockRange range) {
  for (uint64_t block : {range.start, range.end() - 1}) {
    TreeCursor cursor(nodes_, superblock_.tree);
    absl::StatusOr<bool> walked = Walked(cursor.SeekFloor(MappingKey(object, block)), cursor);
    if (!walked.ok() || !*walked) return walked;
  }
  return true;
}

absl::StatusOr<bool> Volume::TryFindInode(ObjectId object, std::optional<Inode>* out) {
  for (const Delta* delta : {active_.get(), frozen_.get()}) {
    if (delta == nullptr) continue;
    if (const std::optional<Inode>* found = delta->FindInode(object)) {
      *out = *found;
      return true;
    }
  }
  out->reset();
  const std::string key = InodeKey(object);
  TreeCursor cursor(nodes_, superblock_.tree);
  const WalkResult result = cursor.SeekFloor(key);
  absl::StatusOr<bool> walked = Walked(result, cursor);
  if (walked.ok() && *walked && result == WalkResult::kAtEntry && cursor.key() == key) {
    *out = ParseInode(cursor.key(), cursor.value());
    if (!*out)
      return absl::DataLossError(absl::StrCat("mapping tree: ill-formed record of object ", Value(object)));
  }
  return walked;
}

absl::StatusOr<bool> Volume::TryFindName(const std::string& name, std::optional<ObjectId>* out) {
  for (const Delta* delta : {active_.get(), frozen_.get()}) {
    if (delta == nullptr) continue;
    if (const std::optional<ObjectId>* found = delta->FindName(name)) {
      *out = *found;
      return true;
    }
  }
  out->reset();
  const std::string key = NameKey(name);
  TreeCursor cursor(nodes_, superblock_.tree);
  const WalkResult result = cursor.SeekFloor(key);
  absl::StatusOr<bool> walked = Walked(result, cursor);
  if (walked.ok() && *walked && result == WalkResult::kAtEntry && cursor.key() == key) {
    const auto parsed = ParseName(cursor.key(), cursor.value());
    if (!parsed)
      return absl::DataLossError(absl::StrCat("mapping tree: ill-formed entry for name '", name, "'"));
    *out = parsed->second;
  }
  return walked;
}

absl::StatusOr<bool> Volume::TryNextName(const std::string& after,
                                         std::optional<std::pair<std::string, ObjectId>>* out) {
  out->reset();
  std::string at = after;
  while (true) {
    // The least name > `at` of each layer; the topmost layer that has the least of all decides.
    std::optional<std::pair<std::string, std::optional<ObjectId>>> least;
    for (const Delta* delta : {active_.get(), frozen_.get()}) {
      if (delta == nullptr) continue;
      auto it = delta->names().upper_bound(at);
      if (it != delta->names().end() && (!least || it->first < least->first)) least = *it;
    }
    TreeCursor cursor(nodes_, superblock_.tree);
    // No name holds a NUL, so this is the least key greater than `at`'s.
    const WalkResult result = cursor.Seek(NameKey(at) + std::string(1, '\0'));
    absl::StatusOr<bool> walked = Walked(result, cursor);
    if (!walked.ok() || !*walked) return walked;
    if (result == WalkResult::kAtEntry) {
      const auto parsed = ParseName(cursor.key(), cursor.value());
      if (!parsed) return absl::DataLossError("mapping tree: ill-formed entry in the key space of names");
      if (!least || parsed->first < least->first) least = {parsed->first, parsed->second};
    }
    if (!least) return true;
    if (least->second) {
      *out = {least->first, *least->second};
      return true;
    }
    at = least->first;
  }
}

absl::Status Volume::LoadNodes(std::unique_lock<std::mutex>& lock, const std::vector<BlockPointer>& nodes) {
  struct Load {
    BlockPointer pointer;
    AlignedBuffer block{kBlockBytes};
    IoRequest request;
    ReadPin pin;
  };
  std::list<Load> loads;
  std::vector<IoRequest*> requests;
  for (const BlockPointer& pointer : nodes) {
    if (std::any_of(loads.begin(), loads.end(), [&](const Load& l) { return l.pointer == pointer; }))
      continue;
    if (!geometry().InDataArea({pointer.block, 1})) {
      return absl::DataLossError(
          absl::StrCat("mapping tree: a pointer leads outside the data area, to block ", pointer.block));
    }
    Load& load = loads.emplace_back();
    load.pointer = pointer;
    load.request.op = IoOp::kRead;
    load.request.offset_bytes = pointer.block * kBlockBytes;
    load.request.iov = {{load.block.data(), kBlockBytes}};
    requests.push_back(&load.request);
  }
  // Pinned, so that the block is not reused before it is read: a checkpoint may retire the node meanwhile.
  for (Load& load : loads) load.pin = PinRead({load.pointer.block, 1});
  absl::Status status = pump_.RunAll(lock, requests);
  for (Load& load : loads) UnpinRead(load.pin);
  if (!status.ok()) return status;
  for (Load& load : loads) {
    absl::StatusOr<std::shared_ptr<const TreeNode>> node =
        TreeNode::Parse(load.block.span(), superblock_.uuid, load.pointer);
    if (!node.ok()) return node.status();
    if (absl::Status s = CheckLeafEntries(**node); !s.ok()) return s;
    nodes_.Insert(*std::move(node));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const TreeNode>> Volume::ReadNode(std::unique_lock<std::mutex>& lock,
                                                                 BlockPointer pointer) {
  while (true) {
    if (std::shared_ptr<const TreeNode> node = nodes_.Find(pointer)) return node;
    if (absl::Status s = LoadNodes(lock, {pointer}); !s.ok()) return s;
  }
}

// ---- Space ----

uint64_t Volume::MetadataReserve(uint64_t extra_entries) const {
  const uint64_t entries =
      claimed_entries_ + extra_entries + active_->tree_entries() + (frozen_ ? frozen_->tree_entries() : 0);
  const TreeRoot& tree = superblock_.tree;
  // The tree grows by this much at most, and then is copied: that it grew is paid for once, as nodes in use.
  return tree.node_count + 2 * TreeGrowthMax(tree, entries);
}

bool Volume::TryClaim(uint64_t blocks, uint64_t entries, bool reserve) {
  const uint64_t keep = reserve ? kReserveBlocksMin : kReserveBlocks;
  if (free_.free_blocks() < claimed_blocks_ + blocks + MetadataReserve(entries) + keep) return false;
  claimed_blocks_ += blocks;
  claimed_entries_ += entries;
  return true;
}

void Volume::Unclaim(uint64_t blocks, uint64_t entries) {
  UNTORN_CHECK(claimed_blocks_ >= blocks && claimed_entries_ >= entries,
               "more space is unclaimed than was claimed");
  claimed_blocks_ -= blocks;
  claimed_entries_ -= entries;
}

uint64_t Volume::BlocksOfClaim(uint64_t blocks, uint64_t entries) const {
  return blocks + MetadataReserve(entries) - MetadataReserve(0);
}

uint64_t Volume::ClaimableBlocks() const {
  const uint64_t unprepared = geometry().total_blocks - free_.prepared();
  const uint64_t taken = claimed_blocks_ + MetadataReserve(0) + kReserveBlocks;
  const uint64_t free = free_.free_blocks() + unprepared;
  return free > taken ? free - taken : 0;
}

absl::Status Volume::LoadGroup(std::unique_lock<std::mutex>& lock, uint64_t group) {
  while (const std::optional<FreeSpace::NodeAddress> at = free_.NextToLoad(group)) {
    AlignedBuffer block(kBlockBytes);
    if (at->pointer) {
      IoRequest request;
      request.op = IoOp::kRead;
      request.offset_bytes = at->pointer.block * kBlockBytes;
      request.iov = {{block.data(), kBlockBytes}};
      if (absl::Status s = pump_.Run(lock, &request); !s.ok()) return s;
    }
    if (absl::Status s = free_.LoadNode(*at, block.span(), superblock_.uuid); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status Volume::LoadGroups(std::unique_lock<std::mutex>& lock, Extent extent) {
  if (extent.count == 0) return absl::OkStatus();
  if (absl::Status s = CheckPlace(extent); !s.ok()) return s;
  for (uint64_t g = FreeSpace::GroupOf(extent.start); g <= FreeSpace::GroupOf(extent.end() - 1); ++g) {
    if (absl::Status s = LoadGroup(lock, g); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::StatusOr<Extent> Volume::Allocate(std::unique_lock<std::mutex>& lock, uint64_t want, uint64_t min,
                                        uint64_t alignment, uint64_t enough) {
  absl::Status unreadable;  // a part of the map: then those that are there have to do
  while (true) {
    if (std::optional<Extent> extent = free_.Allocate(want, min, alignment, enough, !unreadable.ok())) {
      fragmented_ |= extent->count < std::min(want, kContiguousBlocks);
      return *extent;
    }
    if (!unreadable.ok()) return unreadable;
    const std::optional<uint64_t> group = free_.UnloadedGroupWithSpace();
    if (!group) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no free run of ", min, " blocks at a multiple of ", alignment));
    }
    unreadable = LoadGroup(lock, *group);
  }
}

absl::StatusOr<bool> Volume::PrepareMore(std::unique_lock<std::mutex>& lock, uint64_t blocks) {
  if (preparing_) {
    pump_.Wait(lock, [&] { return !preparing_; });
    return true;
  }
  const uint64_t start = free_.prepared();
  const uint64_t end = std::min(geometry().total_blocks, start + blocks);
  if (start == end) return false;
  preparing_ = true;
  AlignedBuffer zeros(std::min((end - start) * kBlockBytes, kZeroRunBytes));
  std::memset(zeros.data(), 0, zeros.size());
  // One after another: a commit on its way waits for one of them at most.
  absl::Status status;
  for (uint64_t at = start; at < end && status.ok();) {
    const uint64_t bytes = std::min<uint64_t>((end - at) * kBlockBytes, zeros.size());
    IoRequest write;
    write.op = IoOp::kWrite;
    write.offset_bytes = at * kBlockBytes;
    write.iov = {{zeros.data(), bytes}};
    status = pump_.Run(lock, &write);
    at += bytes / kBlockBytes;
  }
  if (status.ok()) {
    IoRequest flush;
    flush.op = IoOp::kFlush;
    status = pump_.Run(lock, &flush);
    if (absl::IsResourceExhausted(status)) status = absl::InternalError(status.message());
  }
  preparing_ = false;
  pump_.Notify();
  if (!status.ok()) return status;
  free_.SetPrepared(end);
  fragmented_ = false;
  // Ahead of need: what cannot be read is told to those that need it.
  LoadGroups(lock, {start, end - start}).IgnoreError();
  return true;
}

bool Volume::ReadOutstanding(Extent extent) const {
  return std::any_of(reads_.begin(), reads_.end(),
                     [&](const Extent& r) { return r.start < extent.end() && extent.start < r.end(); });
}

absl::Status Volume::ReleasePending() {
  absl::Status status;
  std::erase_if(pending_, [&](const PendingFree& p) {
    if (p.mapped_by > settled_lsn_ || ReadOutstanding(p.extent)) return false;
    pending_blocks_ -= p.extent.count;
    if (absl::Status s = free_.MarkFree(p.extent); !s.ok()) status = s;
    return true;
  });
  return status;
}

// ---- Log ----

uint64_t Volume::LogBlocksFor(const std::vector<LogEntry>& entries) {
  uint64_t blocks = 0;
  size_t bytes = 0;
  for (const LogEntry& e : entries) {
    const size_t n = EncodedBytes(e);
    if (bytes + n > kRecordEntryBytesMax) {
      blocks += RecordBlocks(bytes);
      bytes = 0;
    }
    bytes += n;
  }
  return blocks + RecordBlocks(bytes);
}

bool Volume::LogHasRoom(uint64_t blocks) const { return log_blocks_used() + blocks <= geometry().log_blocks; }

void Volume::Append(std::vector<LogEntry> entries, LogAppend* out) {
  const uint64_t blocks = LogBlocksFor(entries);
  UNTORN_CHECK(LogHasRoom(blocks), "a record is appended to a full log");
  out->bytes = AlignedBuffer(blocks * kBlockBytes);
  out->first = next_lsn_;
  out->claim = durable_lsn_;
  const uint64_t start = next_position_;
  uint64_t done = 0;
  size_t next = 0;
  do {
    LogRecord record;
    record.position = next_position_;
    record.epoch = superblock_.epoch;
    record.lsn = next_lsn_++;
    record.previous_checksum = previous_checksum_;
    record.claim = out->claim;
    record.superblock_generation = superblock_.generation;
    record.prepared_blocks = free_.prepared();
    record.settling = entries.empty();
    size_t bytes = 0;
    const size_t first = next;
    while (next < entries.size() && bytes + EncodedBytes(entries[next]) <= kRecordEntryBytesMax) {
      bytes += EncodedBytes(entries[next++]);
    }
    record.entries.assign(std::make_move_iterator(entries.begin() + first),
                          std::make_move_iterator(entries.begin() + next));
    record.last = next == entries.size();
    const uint64_t n = RecordBlocks(bytes);
    previous_checksum_ = EncodeRecord(record, superblock_.uuid,
                                      out->bytes.span().subspan(done * kBlockBytes, n * kBlockBytes));
    std::move(record.entries.begin(), record.entries.end(), entries.begin() + first);
    done += n;
    next_position_ += n;
    ++out->records;
  } while (next < entries.size());
  out->last = next_lsn_ - 1;
  out->end_position = next_position_;
  out->end_checksum = previous_checksum_;
  out->entries = std::move(entries);
  counters_.log_records += out->records;
  counters_.log_bytes += blocks * kBlockBytes;

  const uint64_t ring = start % geometry().log_blocks;
  const uint64_t before_wrap = std::min(blocks, geometry().log_blocks - ring);
  out->requests.resize(before_wrap < blocks ? 2 : 1);
  const auto fill = [&](IoRequest& r, uint64_t block, uint64_t from, uint64_t n) {
    r.op = IoOp::kWrite;
    r.offset_bytes = (geometry().log_start + block) * kBlockBytes;
    r.iov = {{out->bytes.data() + from * kBlockBytes, n * kBlockBytes}};
  };
  fill(out->requests[0], ring, 0, before_wrap);
  if (before_wrap < blocks) fill(out->requests[1], 0, before_wrap, blocks - before_wrap);
}

absl::Status Volume::RecordsDurable(LogAppend& append) {
  UNTORN_CHECK(append.first == durable_lsn_ + 1, "records become durable out of order");
  durable_lsn_ = append.last;
  durable_position_ = append.end_position;
  durable_checksum_ = append.end_checksum;
  settled_lsn_ = std::max(settled_lsn_, append.claim);
  for (const LogEntry& e : append.entries) {
    const absl::Status applied = active_->Apply(e, append.last, [&](Extent extent, Lsn mapped_by) {
      pending_.push_back({extent, mapped_by});
      pending_blocks_ += extent.count;
    });
    UNTORN_CHECK(applied.ok(), "a record contradicts an earlier one");
  }
  return ReleasePending();
}

}  // namespace untorn
