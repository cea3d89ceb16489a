#include "writeback/log_entries.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "base/check.h"

namespace untorn {
namespace {

constexpr uint64_t kHoleBytes = 32, kGoneBytes = 16;
constexpr uint64_t kNamedBytes = 24 + 8;  // an entry with a name, without the name; its padding included

// Adds entries for names, holes, placed extents and sizes.
void AddMetadata(ChangeSet& set, std::vector<LogEntry>* entries) {
  for (const auto& [name, target] : set.names) {
    UNTORN_CHECK(!name.empty() && name.size() <= kNameBytesMax, "a name is recorded that no object may have");
    entries->push_back(target ? LogEntry::Name(name, *target) : LogEntry::NameGone(name));
  }
  for (auto& [id, change] : set.changes) {
    if (change.removed) {
      // One entry is enough for a removed object of any size: the mappings go with the inode.
      entries->push_back(LogEntry::InodeGone(id));
      continue;
    }
    change.holes.ForEach([&, id = id](BlockRange r) { entries->push_back(LogEntry::Hole(id, r)); });
    for (const PlacedExtent& e : change.placed) {
      UNTORN_CHECK(e.state != MappingState::kWritten || e.blocks.count <= kMapEntryBlocksMax,
                   "an entry names more data than recovery takes from one");
      entries->push_back(e.state == MappingState::kWritten
                             ? LogEntry::Map(id, e.blocks, e.physical, e.data, false)
                             : LogEntry::Unwritten(id, e.blocks, e.physical));
    }
    if (const std::optional<Inode> inode = RecordInode(change)) {
      entries->push_back(LogEntry::SetInode(*inode));
    }
  }
}

Hash128 HashOfBlock(const FrozenRange& range, ObjectBlock block, uint64_t data_key) {
  const iovec content{range.buffer(block).data(), kBlockBytes};
  return HashData({&content, 1}, data_key);
}

// True if the piece continues the extent of the entry, in its object and on the device.
bool Follows(const LogEntry& entry, const CowPiece& piece) {
  return entry.type == LogEntry::Type::kMap && entry.object == piece.from->object->id &&
         !entry.into_unwritten && !piece.into_unwritten && entry.logical.end() == piece.blocks.start &&
         entry.physical + entry.logical.count == piece.physical &&
         entry.logical.count + piece.blocks.count <= kMapEntryBlocksMax;
}

}  // namespace

uint64_t LogBytesMax(const ChangeSet& set) {
  uint64_t bytes = set.data_blocks.value() * kMapEntryBytes;
  for (const auto& [name, target] : set.names) bytes += kNamedBytes + name.size();
  for (const auto& [id, change] : set.changes) {
    for (const PlacedExtent& e : change.placed) bytes += MapEntryBytes(e.state, e.blocks.count);
    bytes += change.holes.runs() * kHoleBytes + kGoneBytes;
    // The entry of the object holds a name, which an earlier change set may have given to the object.
    bytes += kNamedBytes + kNameBytesMax;
  }
  return bytes;
}

BlockCount LogBlocksMax(uint64_t entry_bytes) {
  // A record may end early because the next entry does not fit. The last block of a record may be partly
  // used.
  const uint64_t records = 1 + entry_bytes / (kRecordEntryBytesMax - kEntryBytesMax);
  return BlockCount(records) + BlocksFor(entry_bytes + records * kRecordHeaderBytes);
}

BuiltEntries BuildEntries(const Plan& plan, std::span<const CowPiece> pieces, std::vector<LogEntry> memory) {
  UNTORN_CHECK(memory.empty(), "entries are built where others are");
  BuiltEntries built;
  built.entries = std::move(memory);
  built.of_piece.resize(pieces.size());
  absl::InlinedVector<size_t, 8> order(pieces.size());
  std::iota(order.begin(), order.end(), 0);
  // The pieces need not come in the order of their barrier epochs, and the entries must be in that order.
  const auto earlier = [&](size_t a, size_t b) { return pieces[a].set->epoch < pieces[b].set->epoch; };
  if (!std::is_sorted(order.begin(), order.end(), earlier))
    std::stable_sort(order.begin(), order.end(), earlier);
  built.entries.reserve(pieces.size() + plan.sets.size());
  size_t next = 0;
  BlockCount to_name, named;
  for (size_t i = 0; i < plan.sets.size(); ++i) {
    ChangeSet& set = *plan.sets[i].set;
    if (plan.sets[i].reason != PathReason::kInPlace) to_name += set.data_blocks;
    UNTORN_CHECK(i == 0 || plan.sets[i - 1].set->epoch <= set.epoch,
                 "a plan is out of order of its barrier epochs");
    if (plan.sets[i].reason != PathReason::kInPlace) AddMetadata(set, &built.entries);
    const bool last_of_epoch = i + 1 == plan.sets.size() || plan.sets[i + 1].set->epoch != set.epoch;
    // All metadata of a barrier epoch comes before the data: a hole must not take away data that came later.
    if (!last_of_epoch) continue;
    for (bool first = true; next < order.size() && pieces[order[next]].set->epoch == set.epoch; ++next) {
      const size_t at = order[next];
      const CowPiece& p = pieces[at];
      UNTORN_CHECK(p.blocks.start >= p.from->blocks.start && p.blocks.end() <= p.from->blocks.end(),
                   "a piece of data reaches out of its change set's range");
      UNTORN_CHECK(p.blocks.count <= kMapEntryBlocksMax, "a piece of data is longer than an entry can name");
      // One entry may name the extents of several change sets, because the records of a commit count only
      // together. HashPieces() needs the pieces of an entry one after another. The first piece of a barrier
      // epoch must not continue the entry before it, which may be one of metadata.
      const bool follows =
          !std::exchange(first, false) && order[next - 1] + 1 == at && Follows(built.entries.back(), p);
      if (follows) {
        built.entries.back().logical.count += p.blocks.count;
      } else {
        built.entries.push_back(LogEntry::Map(p.from->object->id, p.blocks, p.physical));
        built.entries.back().into_unwritten = p.into_unwritten;
      }
      built.of_piece[at] = built.entries.size() - 1;
      named += p.blocks.count;
    }
  }
  UNTORN_CHECK(next == order.size(), "a piece of data has no entry");
  UNTORN_CHECK(named == to_name, "the entries of a commit name other blocks than its change sets have");
  return built;
}

void HashPieces(std::span<const CowPiece> pieces, std::span<const size_t> of_piece, uint64_t data_key,
                std::vector<LogEntry>* entries) {
  UNTORN_CHECK(of_piece.size() == pieces.size(), "a piece of data has no entry");
  absl::InlinedVector<uint64_t, 64> high;  // the high halves of the hashes of one entry
  for (size_t i = 0; i < pieces.size(); ++i) {
    LogEntry& entry = (*entries)[of_piece[i]];
    UNTORN_CHECK(entry.type == LogEntry::Type::kMap, "an entry without data is hashed");
    entry.data.blocks.reserve(entry.logical.count.value());
    for (ObjectBlock b = pieces[i].blocks.start; b < pieces[i].blocks.end(); ++b) {
      const Hash128 hash = HashOfBlock(*pieces[i].from, b, data_key);
      entry.data.blocks.push_back(hash.low);
      high.push_back(hash.high);
    }
    if (i + 1 < pieces.size() && of_piece[i + 1] == of_piece[i]) continue;
    UNTORN_CHECK(entry.logical.end() == pieces[i].blocks.end(),
                 "an entry is hashed over the data of another");
    UNTORN_CHECK(high.size() == entry.logical.count.value() && entry.data.blocks.size() == high.size(),
                 "an entry is hashed over other blocks than it maps");
    entry.data.check = DataChecksums::CheckOf(high);
    high.clear();
  }
}

std::vector<Commit::Overwrite> HashOverwrites(const Plan& plan, uint64_t data_key) {
  std::vector<Commit::Overwrite> overwrites;
  for (const InPlaceRun& run : plan.in_place) {
    for (size_t i : run.candidates) {
      const Plan::SetPlan& own = plan.sets[i];
      UNTORN_CHECK(own.set->frozen.size() == 1, "a change set of several ranges goes in place");
      const FrozenRange& range = own.set->frozen.front();
      Commit::Overwrite& o = overwrites.emplace_back();
      o.set = own.set.get();
      o.object = range.object->id;
      o.blocks = range.blocks;
      o.physical = own.in_place.start;
      o.checksums.reserve(range.blocks.count.value());
      for (ObjectBlock b = range.blocks.start; b < range.blocks.end(); ++b) {
        o.checksums.push_back(HashOfBlock(range, b, data_key).low);
      }
    }
  }
  return overwrites;
}

}  // namespace untorn
