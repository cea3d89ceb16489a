#include "store/scrub.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/status_macros.h"

namespace untorn::internal {
namespace {

constexpr size_t kNamesAtOnce = 256;
constexpr BlockCount kPieceBlocks{256};  // one device read
// A lookup takes so many blocks of an object, and twice as many behind a hole.
constexpr BlockCount kWindowBlocks{4096};
constexpr size_t kDamagesInFull = 1000;

class Scrubber {
 public:
  Scrubber(StoreImpl& store, const ScrubOptions& options)
      : store_(store), front_(store.front()), options_(options), begun_(std::chrono::steady_clock::now()) {}

  absl::StatusOr<ScrubResult> Run() {
    {
      const Lock lock(front_.mu);
      total_bytes_ = Bytes(front_.parts.volume.superblock().used_blocks);
    }
    std::string after;
    while (true) {
      const absl::StatusOr<std::vector<ObjectInfo>> names = store_.names().List(after, kNamesAtOnce);
      if (absl::IsDataLoss(names.status())) {
        // Nothing says which names follow.
        Add({"", 0, 0, 0, std::string(names.status().message())}, /*bytes=*/0);
        break;
      }
      RETURN_IF_ERROR(names.status());
      if (names->empty()) break;
      for (const ObjectInfo& info : *names) RETURN_IF_ERROR(ScrubNamed(info));
      after = names->back().name;
    }
    if (options_.progress) options_.progress(total_bytes_, total_bytes_);
    return std::move(result_);
  }

 private:
  // A piece of an object that is read at once.
  struct Piece {
    Mapping mapping;  // its checksums are those below
    BlockChecksums checksums;
  };

  absl::Status ScrubNamed(const ObjectInfo& info) {
    absl::StatusOr<std::shared_ptr<ObjectState>> object = store_.names().Find(info.name);
    if (absl::IsNotFound(object.status())) return absl::OkStatus();  // removed or renamed meanwhile
    if (absl::IsDataLoss(object.status())) {
      Add({info.name, info.id, 0, info.size_bytes, std::string(object.status().message())}, info.size_bytes);
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(object.status());
    ++result_.objects;
    return ScrubObject(**object, info.name);
  }

  absl::Status ScrubObject(ObjectState& object, const std::string& name) {
    Lock lock(front_.mu);
    BlockCount window = kWindowBlocks;
    for (ObjectBlock at; !object.removed && at < ObjectEnd(object.size_bytes);) {
      RETURN_IF_ERROR(front_.parts.health.CheckOpen());
      const BlockRange range{at, std::min(window, ObjectEnd(object.size_bytes) - at)};
      std::optional<Piece> piece;
      absl::Status found = FindPiece(lock, object, range, &at, &piece);
      if (absl::IsDataLoss(found)) {
        // Without its mapping, nothing says where the data is.
        AddRange(name, object, range, std::string(found.message()));
        at = range.end();
        found = absl::OkStatus();
      }
      RETURN_IF_ERROR(found);
      window = piece ? kWindowBlocks : std::min(2 * window, kObjectBlocksMax);
      if (piece) RETURN_IF_ERROR(ScrubPiece(lock, object, name, *piece));
    }
    return absl::OkStatus();
  }

  // Finds the first piece of the range that is to be read. Lets *at stand behind what was looked at.
  absl::Status FindPiece(Lock& lock, ObjectState& object, BlockRange range, ObjectBlock* at,
                         std::optional<Piece>* piece) REQUIRES_STORE_LOCK {
    MappingReader& reader = front_.parts.volume.mappings();
    Mappings mappings;
    MissingNodes missing;
    RETURN_IF_ERROR(reader.Lookup(object.id, range, &mappings, &missing));
    for (const Mapping& m : mappings) {
      // Behind a missing node the mappings have a gap.
      if (m.logical.start != *at) break;
      ObjectBlock start = m.logical.start;
      if (m.state == MappingState::kWritten) {
        while (start < m.logical.end() && OnItsWay(object, start)) ++start;
      } else {
        start = m.logical.end();
      }
      *at = start;
      if (start == m.logical.end()) continue;
      BlockCount count = 1;
      while (count < kPieceBlocks && start + count < m.logical.end() && !OnItsWay(object, start + count))
        ++count;
      const Mapping part = m.Part({start, count});
      *piece = Piece{part, part.checksums.Copy(count)};
      (*piece)->mapping.checksums = ChecksumsRef();
      *at = start + count;
      return absl::OkStatus();
    }
    return missing.empty() ? absl::OkStatus() : reader.LoadNodes(lock, missing);
  }

  bool OnItsWay(const ObjectState& object, ObjectBlock block) const REQUIRES_STORE_LOCK {
    const Page* page = front_.parts.fork.pages().Find(object, block);
    return page != nullptr && page->committing != nullptr;
  }

  absl::Status ScrubPiece(Lock& lock, ObjectState& object, const std::string& name,
                          const Piece& piece) REQUIRES_STORE_LOCK {
    const Mapping& m = piece.mapping;
    AlignedBuffer buffer(Bytes(m.logical.count));
    std::vector<BlockCount> wrong;
    BlockChecksums found;
    {
      const ReadPin pin = front_.parts.volume.space().PinRead(m.extent());
      absl::Status read = Read(lock, m.extent(), buffer.data());
      if (absl::IsDataLoss(read)) {
        // One sector may hide the others.
        for (BlockCount i; i < m.logical.count; ++i) {
          read = Read(lock, {m.physical + i, 1}, buffer.data() + Bytes(i));
          if (absl::IsDataLoss(read))
            AddRange(name, object, {m.logical.start + i, 1}, std::string(read.message()));
          if (!read.ok() && !absl::IsDataLoss(read)) break;
        }
        if (absl::IsDataLoss(read)) read = absl::OkStatus();
        RETURN_IF_ERROR(read);
        result_.bytes += buffer.size();
        return absl::OkStatus();
      }
      RETURN_IF_ERROR(read);
      const Unlocked unlocked(lock);
      const iovec part{buffer.data(), buffer.size()};
      ForEachBlockHash({&part, 1}, front_.parts.data_key, [&](Hash128 hash) { found.push_back(hash.low); });
    }
    if (front_.parts.volume.space().pending_blocks() > 0) {
      RETURN_IF_ERROR(front_.parts.volume.space().ReleasePending());
    }
    for (BlockCount i; i < m.logical.count; ++i) {
      if (found[i.value()] != piece.checksums[i.value()]) wrong.push_back(i);
    }
    result_.bytes += buffer.size();
    Stats& stats = front_.parts.stats;
    if (front_.parts.volume.ExcusesMismatch(m)) {
      stats.blocks_excused += wrong.size();
      RETURN_IF_ERROR(Adopt(object, m, found));
    } else {
      stats.blocks_damaged += wrong.size();
      for (BlockCount i : wrong) {
        AddRange(name, object, {m.logical.start + i, 1},
                 absl::StrCat("block ", (m.physical + i).value(), " does not match its checksum"));
      }
    }
    const Unlocked unlocked(lock);
    if (options_.progress) options_.progress(std::min(result_.bytes, total_bytes_), total_bytes_);
    Throttle();
    return absl::OkStatus();
  }

  absl::Status Read(Lock& lock, Extent extent, std::byte* out) REQUIRES_STORE_LOCK {
    IoRequest request;
    request.op = IoOp::kRead;
    request.offset_bytes = ByteOffset(extent.start);
    request.iov = {{out, Bytes(extent.count)}};
    return front_.parts.pump.Run(lock, &request);
  }

  // Gives blocks of an open mapping the checksums of what was read.
  absl::Status Adopt(const ObjectState& object, const Mapping& read,
                     const BlockChecksums& found) REQUIRES_STORE_LOCK {
    Volume& volume = front_.parts.volume;
    if (!front_.parts.health.CheckWritable().ok() || object.removed) return absl::OkStatus();
    Mappings mappings;
    MissingNodes missing;
    // The mapping may be another one by now. Where it cannot be looked up, the next scrub adopts the blocks.
    const absl::Status looked = volume.mappings().Lookup(object.id, read.logical, &mappings, &missing);
    if (!looked.ok() || !missing.empty()) return absl::OkStatus();
    std::vector<Mapping> adopted;
    SpaceCost cost;
    for (const Mapping& now : mappings) {
      const BlockCount before = now.logical.start - read.logical.start;
      bool same = now.state == MappingState::kWritten && now.physical == read.physical + before &&
                  now.opened == read.opened;
      for (ObjectBlock b = now.logical.start; b < now.logical.end(); ++b) same = same && !OnItsWay(object, b);
      if (!same) continue;
      adopted.push_back(now);
      cost.tree_entries += TreeEntriesOfBlocks(now.logical.count) + 2;
    }
    std::optional<Reservation> room = volume.space().TryReserve(cost, EmergencyReserve::kKept);
    if (!room) return absl::OkStatus();
    for (Mapping& m : adopted) {
      m.checksums = ChecksumsRef(found).From(m.logical.start - read.logical.start);
      volume.NoteOverwritten(object.id, m);
      result_.blocks_adopted += m.logical.count.value();
    }
    return absl::OkStatus();
  }

  void AddRange(const std::string& name, const ObjectState& object, BlockRange blocks, std::string why) {
    const uint64_t offset = ByteOffset(blocks.start);
    const uint64_t end = std::min(ByteOffset(blocks.end()), std::max(object.size_bytes, offset + 1));
    Add({name, Value(object.id), offset, end - offset, std::move(why)}, end - offset);
  }

  void Add(DamagedRange range, uint64_t bytes) {
    result_.damaged_bytes += bytes;
    ++result_.damaged_total;
    if (result_.damaged.size() < kDamagesInFull) result_.damaged.push_back(std::move(range));
  }

  void Throttle() const {
    if (options_.bytes_per_second_max == 0) return;
    const std::chrono::duration<double> due(static_cast<double>(result_.bytes) /
                                            static_cast<double>(options_.bytes_per_second_max));
    std::this_thread::sleep_until(begun_ +
                                  std::chrono::duration_cast<std::chrono::steady_clock::duration>(due));
  }

  StoreImpl& store_;
  const Front& front_;
  const ScrubOptions& options_;
  const std::chrono::steady_clock::time_point begun_;
  uint64_t total_bytes_ = 0;
  ScrubResult result_;
};

}  // namespace

absl::StatusOr<ScrubResult> Scrub(StoreImpl& store, const ScrubOptions& options) {
  RETURN_IF_ERROR(store.CheckProcess());
  return Scrubber(store, options).Run();
}

}  // namespace untorn::internal
