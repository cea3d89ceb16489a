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
#include "extent/superblock.h"
#include "extent/tree_merge.h"

namespace untorn::internal {
namespace {

constexpr size_t kNamesAtOnce = 256;
// A device read, and a lookup where there is data. Behind a hole, and behind what cannot be looked up, a lookup takes
// twice as many blocks as the one before.
constexpr BlockCount kPieceBlocks{256};
constexpr size_t kDamagesInFull = 1000;

class Scrubber {
 public:
  Scrubber(StoreImpl& store, const ScrubOptions& options)
      : store_(store), front_(store.front()), options_(options) {}

  absl::StatusOr<ScrubResult> Run() {
    {
      const Lock lock(front_.mu);
      total_bytes_ = Bytes(front_.parts.volume.superblock().used_blocks);
    }
    std::string after;
    for (size_t at_once = kNamesAtOnce;;) {
      const absl::StatusOr<std::vector<ObjectInfo>> names = store_.names().List(after, at_once);
      if (absl::IsDataLoss(names.status()) && std::exchange(at_once, 1) > 1) continue;
      if (absl::IsDataLoss(names.status())) {
        // Nothing says which names follow.
        Add({"", 0, 0, 0, std::string(names.status().message())});
        break;
      }
      RETURN_IF_ERROR(names.status());
      if (names->empty()) break;
      for (const ObjectInfo& info : *names) RETURN_IF_ERROR(ScrubNamed(info));
      after = names->back().name;
    }
    RETURN_IF_ERROR(Tell(total_bytes_));
    return std::move(result_);
  }

 private:
  // A run of blocks of an object and of the device that is read at once.
  struct Piece {
    Mapping mapping;  // its checksums are those below
    BlockChecksums checksums;
  };

  absl::Status ScrubNamed(const ObjectInfo& info) {
    absl::StatusOr<std::shared_ptr<ObjectState>> object = store_.names().Find(info.name);
    if (absl::IsNotFound(object.status())) return absl::OkStatus();  // removed or renamed meanwhile
    if (absl::IsDataLoss(object.status())) {
      Add({info.name, info.id, 0, info.size_bytes, std::string(object.status().message())});
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(object.status());
    ++result_.objects;
    return ScrubObject(**object, info.name);
  }

  absl::Status ScrubObject(ObjectState& object, const std::string& name) {
    Lock lock(front_.mu);
    BlockCount window = kPieceBlocks;
    bool damaged = false;  // what is before `at`
    for (ObjectBlock at; !object.removed && at < ObjectEnd(object.size_bytes);) {
      RETURN_IF_ERROR(front_.parts.health.CheckOpen());
      const ObjectBlock end = at + std::min(window, ObjectEnd(object.size_bytes) - at);
      std::optional<Piece> piece;
      bool complete = false;
      const absl::Status found = FindPiece(lock, object, end, &at, &piece, &complete);
      if (absl::IsDataLoss(found)) {
        // Without its mapping, nothing says where the data is. So that little is blamed that is right, the first
        // look at damage takes few blocks.
        if (!std::exchange(damaged, true)) {
          window = kPieceBlocks;
          continue;
        }
        AddRange(name, object, {at, end - at}, std::string(found.message()));
        at = end;
        window = std::min(2 * window, kObjectBlocksMax);
        continue;
      }
      RETURN_IF_ERROR(found);
      if (piece || complete) {
        damaged = false;
        window = piece ? kPieceBlocks : std::min(2 * window, kObjectBlocksMax);
      }
      if (piece) RETURN_IF_ERROR(ScrubPiece(lock, object, name, *piece));
    }
    // What was adopted may make a checkpoint due.
    front_.background.AfterChange(lock);
    return absl::OkStatus();
  }

  // Finds the first piece before `end` that is to be read. Lets *at stand behind what was looked at.
  absl::Status FindPiece(Lock& lock, ObjectState& object, ObjectBlock end, ObjectBlock* at,
                         std::optional<Piece>* piece, bool* complete) REQUIRES_STORE_LOCK {
    MappingReader& reader = front_.parts.volume.mappings();
    Mappings mappings;
    MissingNodes missing;
    const absl::Status looked = reader.Lookup(object.id, {*at, end - *at}, &mappings, &missing);
    for (const Mapping& m : mappings) {
      // Behind a missing or damaged node the mappings have a gap.
      if (m.logical.start != *at) break;
      const bool follows = *piece && m.state == MappingState::kWritten &&
                           (*piece)->mapping.extent().end() == m.physical &&
                           (*piece)->mapping.opened == m.opened;
      if (*piece && !follows) return absl::OkStatus();
      if (m.state != MappingState::kWritten) {
        *at = m.logical.end();
        continue;
      }
      while (*at < m.logical.end() && front_.parts.fork.pages().Committing(object, *at)) {
        if (*piece) return absl::OkStatus();
        ++*at;
      }
      BlockCount count;
      while (*at + count < m.logical.end() && !front_.parts.fork.pages().Committing(object, *at + count))
        ++count;
      if (count == 0) continue;
      const Mapping part = m.Part({*at, count});
      if (!*piece) {
        piece->emplace().mapping = part;
        (*piece)->mapping.logical.count = 0;
        (*piece)->mapping.checksums = ChecksumsRef();
      }
      (*piece)->mapping.logical.count += count;
      const BlockChecksums checksums = part.checksums.Copy(count);
      (*piece)->checksums.insert((*piece)->checksums.end(), checksums.begin(), checksums.end());
      *at += count;
      if (*at < m.logical.end()) return absl::OkStatus();
    }
    if (*piece) return absl::OkStatus();
    RETURN_IF_ERROR(looked);
    *complete = missing.empty();
    return *complete ? absl::OkStatus() : reader.LoadNodes(lock, missing);
  }

  absl::Status ScrubPiece(Lock& lock, ObjectState& object, const std::string& name,
                          const Piece& piece) REQUIRES_STORE_LOCK {
    const Mapping& m = piece.mapping;
    AlignedBuffer buffer(Bytes(m.logical.count));
    BlockChecksums found;
    absl::Status read;
    {
      const ReadPin pin = front_.parts.volume.space().PinRead(m.extent());
      read = Read(lock, m.extent(), buffer.data());
      const Unlocked unlocked(lock);
      const iovec part{buffer.data(), buffer.size()};
      if (read.ok()) {
        ForEachBlockHash({&part, 1}, front_.parts.data_key, [&](Hash128 hash) { found.push_back(hash.low); });
      }
    }
    if (front_.parts.volume.space().pending_blocks() > 0) {
      RETURN_IF_ERROR(front_.parts.volume.space().ReleasePending());
    }
    if (absl::IsDataLoss(read)) return ScrubUnreadable(lock, object, name, piece, read);
    RETURN_IF_ERROR(read);
    uint64_t wrong = 0;
    const bool excused = front_.parts.volume.ExcusesMismatch(m);
    for (BlockCount i; i < m.logical.count; ++i) {
      if (found[i.value()] == piece.checksums[i.value()]) continue;
      ++wrong;
      if (excused) continue;
      AddRange(name, object, {m.logical.start + i, 1},
               absl::StrCat("does not match its checksum, from block ", (m.physical + i).value(), " on"));
    }
    (excused ? front_.parts.stats.blocks_excused : front_.parts.stats.blocks_damaged) += wrong;
    if (excused) Adopt(object, m, found);
    result_.bytes += buffer.size();
    const Unlocked unlocked(lock);
    RETURN_IF_ERROR(Tell(std::min(result_.bytes, total_bytes_)));
    Throttle(buffer.size());
    return absl::OkStatus();
  }

  // Finds out which blocks of a piece cannot be read. One sector may hide the others.
  absl::Status ScrubUnreadable(Lock& lock, ObjectState& object, const std::string& name, const Piece& piece,
                               const absl::Status& why) REQUIRES_STORE_LOCK {
    const Mapping& m = piece.mapping;
    AlignedBuffer block(kBlockBytes);
    bool reads_elsewhere = false;
    for (BlockNumber slot : kSuperblockSlots) reads_elsewhere |= Read(lock, {slot, 1}, block.data()).ok();
    if (!reads_elsewhere) {
      return absl::InternalError(
          absl::StrCat("the device has stopped reading: ", std::string(why.message())));
    }
    if (m.logical.count == 1) {
      AddRange(name, object, m.logical, std::string(why.message()));
      return absl::OkStatus();
    }
    for (BlockCount i; i < m.logical.count; ++i) {
      Piece one;
      one.mapping = m.Part({m.logical.start + i, 1});
      one.checksums.push_back(piece.checksums[i.value()]);
      RETURN_IF_ERROR(ScrubPiece(lock, object, name, one));
    }
    return absl::OkStatus();
  }

  absl::Status Read(Lock& lock, Extent extent, std::byte* out) REQUIRES_STORE_LOCK {
    IoRequest request;
    request.op = IoOp::kRead;
    request.offset_bytes = ByteOffset(extent.start);
    request.iov = {{out, Bytes(extent.count)}};
    return front_.parts.pump.Run(lock, &request);
  }

  // Gives blocks of an open mapping the checksums of what was read. Where there is no room for that, or no mapping at
  // hand, the next scrub adopts the blocks.
  void Adopt(const ObjectState& object, const Mapping& read,
             const BlockChecksums& found) REQUIRES_STORE_LOCK {
    Volume& volume = front_.parts.volume;
    if (!front_.parts.health.CheckWritable().ok() || object.removed) return;
    Mappings mappings;
    MissingNodes missing;
    const absl::Status looked = volume.mappings().Lookup(object.id, read.logical, &mappings, &missing);
    if (!looked.ok() || !missing.empty()) return;
    std::vector<Mapping> adopted;
    SpaceCost cost;
    for (const Mapping& now : mappings) {
      // The blocks may be mapped elsewhere by now, or may have been overwritten.
      const BlockCount before = now.logical.start - read.logical.start;
      bool same = now.state == MappingState::kWritten && now.physical == read.physical + before &&
                  now.opened == read.opened;
      for (ObjectBlock b = now.logical.start; b < now.logical.end(); ++b)
        same = same && !front_.parts.fork.pages().Committing(object, b);
      if (!same) continue;
      adopted.push_back(now);
      cost.tree_entries += TreeEntriesOfCut(now.logical.count);
    }
    const std::optional<Reservation> room = volume.space().TryReserve(cost, SpaceFor::kOverwrite);
    if (!room) return;
    for (Mapping& m : adopted) {
      m.checksums = ChecksumsRef(found).From(m.logical.start - read.logical.start);
      volume.NoteOverwritten(object.id, m);
      result_.blocks_adopted += m.logical.count.value();
    }
  }

  void AddRange(const std::string& name, const ObjectState& object, BlockRange blocks, std::string why) {
    const uint64_t offset = ByteOffset(blocks.start);
    const uint64_t end = std::min(ByteOffset(blocks.end()), std::max(object.size_bytes, offset + 1));
    // A range that goes on is one range, with the cause of its beginning.
    if (last_damaged_ == object.id && last_end_bytes_ == offset) {
      if (result_.damaged_total == result_.damaged.size())
        result_.damaged.back().length_bytes += end - offset;
      result_.damaged_bytes += end - offset;
    } else {
      Add({name, Value(object.id), offset, end - offset, std::move(why)});
    }
    last_damaged_ = object.id;
    last_end_bytes_ = end;
  }

  void Add(DamagedRange range) {
    result_.damaged_bytes += range.length_bytes;
    ++result_.damaged_total;
    if (result_.damaged.size() < kDamagesInFull) result_.damaged.push_back(std::move(range));
  }

  absl::Status Tell(uint64_t done_bytes) const {
    if (!options_.progress || options_.progress(done_bytes, total_bytes_)) return absl::OkStatus();
    return absl::CancelledError("the scrub was told to stop");
  }

  void Throttle(uint64_t bytes) {
    if (options_.bytes_per_second_max == 0) return;
    const std::chrono::duration<double> takes(static_cast<double>(bytes) /
                                              static_cast<double>(options_.bytes_per_second_max));
    // A scrub that was held up does not catch up.
    next_ = std::max(next_, Clock::now()) + std::chrono::duration_cast<Clock::duration>(takes);
    std::this_thread::sleep_until(next_);
  }

  using Clock = std::chrono::steady_clock;
  StoreImpl& store_;
  const Front& front_;
  const ScrubOptions& options_;
  uint64_t total_bytes_ = 0;
  ScrubResult result_;
  ObjectId last_damaged_ = ObjectId::kNone;  // the object of the last damaged range, and where the range ends
  uint64_t last_end_bytes_ = 0;
  Clock::time_point next_;
};

}  // namespace

absl::StatusOr<ScrubResult> Scrub(StoreImpl& store, const ScrubOptions& options) {
  RETURN_IF_ERROR(store.CheckProcess());
  return Scrubber(store, options).Run();
}

}  // namespace untorn::internal
