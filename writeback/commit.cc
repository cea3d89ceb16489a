// Sending commits: which units, which way, and where to.
//
// Crash states. A commit with a record: its data goes to blocks that nothing durable refers to (or, unwritten
// ones, that read as zeros), so until the record counts, every block is as before, however far the data is that
// goes out ahead of it; the record counts only with all its data (by hash, or because something claims it), and a
// transaction only with its last record. So: old or new. A unit in place: one write that the device keeps whole,
// over blocks whose record is settled, so that no hash is compared with them any more; nothing else of the unit is
// anywhere. So: old or new.
#include "writeback/commit.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace untorn {
namespace {

// What is written back because it is old goes in smaller steps: somebody may come meanwhile and wait.
constexpr uint64_t kWantedBatchBlocks = (32 << 20) / kBlockBytes;
constexpr uint64_t kOldBatchBlocks = (8 << 20) / kBlockBytes;
constexpr size_t kIovecsPerWrite = 1024;
constexpr size_t kNodesPerLoad = 32;
constexpr uint64_t kAlignBlocksMin = (64 << 10) / kBlockBytes;

}  // namespace

// What the unit's entries take in the log at most, but for the name of an object that units sent with it rename.
uint64_t Engine::LogBytesBound(const Unit& unit) {
  constexpr uint64_t kNamed = 24 + 8, kHole = 32, kGone = 16;
  uint64_t bytes = unit.data_blocks * kMapEntryBytes;
  for (const auto& [name, target] : unit.names) bytes += kNamed + name.size();
  for (const auto& [id, change] : unit.changes) {
    const ObjectState& object = *change.object;
    bytes += change.unwritten.size() * kMapEntryBytes + change.holes.runs() * kHole + kGone;
    bytes += kNamed + std::max(object.name.size(), object.sent_name.size());
    if (change.name) bytes += change.name->size();
  }
  return bytes;
}

uint64_t Engine::LogBlocksBound(uint64_t bytes) {
  // A record may end early by an entry that no longer fits.
  return 1 + bytes / (kRecordEntryBytesMax - 512) + BlocksFor(bytes + kRecordHeaderBytes);
}

absl::StatusOr<bool> Engine::AwaitJoin(Lock& lock, const CowFork::UnitSet& units) {
  uint64_t bytes = 0, largest_bytes = 0;
  Unit* largest = nullptr;
  for (Unit* unit : units) {
    const uint64_t own = LogBytesBound(*unit);
    bytes += own;
    if (own >= largest_bytes) largest = unit;
    largest_bytes = std::max(largest_bytes, own);
  }
  if (largest == nullptr || LogBlocksBound(bytes) <= volume_->geometry().log_blocks / 4) return true;
  absl::Status synced = SyncUnits(lock, {fork_.Shared(largest)});
  return synced.ok() ? absl::StatusOr<bool>(false) : absl::StatusOr<bool>(synced);
}

bool Engine::InPlaceBefore(uint64_t epoch) const {
  return std::any_of(commits_.begin(), commits_.end(),
                     [&](const auto& c) { return c->in_place && c->epoch_min < epoch; });
}

std::vector<std::shared_ptr<Unit>> Engine::Select(Take take) {
  std::vector<std::shared_ptr<Unit>> candidates;
  const uint64_t batch_blocks = take == Take::kWanted ? kWantedBatchBlocks : kOldBatchBlocks;
  if (take == Take::kWanted) {
    // What somebody waits for, and whatever earlier barriers put before it.
    uint64_t epoch_max = 0;
    for (std::shared_ptr<Unit>& unit : wanted_) unit = Resolve(unit);
    std::erase_if(wanted_, [](const auto& u) { return u->state != Unit::State::kPending; });
    const auto before = [](const auto& a, const auto& b) {
      return std::pair(a->epoch, a->sequence) < std::pair(b->epoch, b->sequence);
    };
    if (!std::is_sorted(wanted_.begin(), wanted_.end(), before))
      std::sort(wanted_.begin(), wanted_.end(), before);
    wanted_.erase(std::unique(wanted_.begin(), wanted_.end()), wanted_.end());
    for (const auto& unit : wanted_) epoch_max = std::max(epoch_max, unit->epoch);
    for (const auto& [order, unit] : fork_.pending()) {
      if (wanted_.empty() || order.first >= epoch_max) break;
      candidates.push_back(unit);
    }
    for (const auto& unit : wanted_) {
      if (unit->epoch == epoch_max) candidates.push_back(unit);
    }
  } else {
    uint64_t blocks = 0;
    for (const auto& [order, unit] : fork_.pending()) {
      candidates.push_back(unit);
      blocks += unit->data_blocks;
      if (blocks >= 2 * batch_blocks) break;
    }
  }
  std::vector<std::shared_ptr<Unit>> selected;
  batch_was_full_ = false;
  uint64_t blocks = 0, log_bytes = 0;
  uint64_t held_epoch = UINT64_MAX;
  for (const std::shared_ptr<Unit>& unit : candidates) {
    if (unit->epoch > held_epoch) break;
    if (fork_.MustWait(*unit) || InPlaceBefore(unit->epoch)) {
      held_epoch = std::min(held_epoch, unit->epoch);
      continue;
    }
    const uint64_t bytes = LogBytesBound(*unit);
    if (!selected.empty() && (blocks + unit->data_blocks > batch_blocks ||
                              LogBlocksBound(log_bytes + bytes) > volume_->geometry().log_blocks / 4)) {
      batch_was_full_ = true;
      break;
    }
    blocks += unit->data_blocks;
    log_bytes += bytes;
    selected.push_back(unit);
  }
  return selected;
}

// New data goes to the reserved blocks themselves, but for those that a hole of the same unit gives back, and
// not for a unit of a later epoch than others in the batch: what those do to the blocks comes first.
void Engine::Plan::UnitPlan::AddReserved(ObjectId id, const ObjectChange& change, const Mapping& m) {
  RangeSet kept;
  kept.Add(m.logical);
  change.holes.ForEach([&](BlockRange hole) { kept.Remove(hole); });
  kept.ForEach([&](BlockRange r) {
    Mapping part = m;
    part.physical += r.start - m.logical.start;
    part.logical = r;
    reserved.push_back({id, part});
  });
}

void Engine::Plan::AddCow(CowPiece piece) {
  while (piece.blocks.count > 0) {
    CowPiece part = piece;
    part.blocks.count = std::min(piece.blocks.count, kMapEntryBlocksMax);
    piece.blocks = {part.blocks.end(), piece.blocks.count - part.blocks.count};
    piece.physical += part.blocks.count;
    cow.push_back(std::move(part));
  }
}

// Decides for every unit. False: nodes were loaded, with the lock released.
absl::StatusOr<bool> Engine::PlanUnits(Lock& lock, const std::vector<std::shared_ptr<Unit>>& units,
                                       Plan* plan) {
  std::vector<BlockPointer> missing;
  const bool several_epochs = units.front()->epoch != units.back()->epoch;
  bool earlier_in_flight = false;
  for (const auto& commit : commits_) earlier_in_flight |= commit->epoch_min < units.back()->epoch;
  std::vector<Extent> candidates;
  std::vector<size_t> candidate_units;
  bool may_settle = false;
  uint64_t entry_bytes = 0;
  for (const std::shared_ptr<Unit>& unit : units) {
    Plan::UnitPlan up;
    up.unit = unit;
    std::vector<Mapping> mappings, all;
    size_t ranges = 0;
    bool metadata = unit->metadata();
    uint64_t length = 0;
    bool read_outstanding = false;
    for (const auto& [id, change] : unit->changes) {
      ranges += change.data.runs();
      metadata |= change.grow_to_bytes > change.object->durable_size_bytes;
      absl::Status failed;
      change.data.ForEach([&, id = id, &change = change](BlockRange range) {
        length = range.count * kBlockBytes;
        if (!failed.ok() || missing.size() >= kNodesPerLoad) return;
        absl::StatusOr<bool> found = volume_->TryLookup(id, range, &mappings);
        if (!found.ok()) {
          failed = found.status();
        } else if (!*found) {
          missing.push_back(volume_->missing());
        } else {
          for (const Mapping& m : mappings) {
            if (m.state == MappingState::kUnwritten && unit->epoch == units.front()->epoch)
              up.AddReserved(id, change, m);
            read_outstanding |= m.state == MappingState::kWritten && volume_->ReadOutstanding(m.extent());
          }
        }
      });
      if (!failed.ok()) return failed;
    }
    entry_bytes += LogBytesBound(*unit);
    if (!missing.empty()) continue;
    DecisionInput in;
    in.policy = options_.policy;
    in.limits = device_info_.atomic;
    in.device_refused = unit->device_refused;
    in.several_ranges = ranges > 1;
    in.metadata_change = metadata || ranges == 0;
    in.barrier_unmet = several_epochs || earlier_in_flight;
    in.read_outstanding = read_outstanding;
    in.length_bytes = length;
    in.settled = volume_->settled_lsn();
    in.mappings = mappings;
    up.reason = ranges == 0 ? PathReason::kMetadataChange : Decide(in);
    if (up.reason == PathReason::kInPlace) {
      up.in_place = {mappings.front().physical, length / kBlockBytes};
      candidates.push_back(up.in_place);
      candidate_units.push_back(plan->units.size());
    }
    may_settle =
        up.reason == PathReason::kUnsettled && mappings.size() == 1 && mappings[0].unsettled_rewrites >= 1;
    plan->units.push_back(std::move(up));
  }
  if (!missing.empty()) {
    if (absl::Status s = volume_->LoadNodes(lock, missing); !s.ok()) return s;
    return false;
  }
  plan->settle_first = may_settle && units.size() == 1;
  plan->log_blocks_bound = LogBlocksBound(entry_bytes);
  if (!candidates.empty()) {
    std::vector<InPlaceRun> runs = MergeInPlace(candidates, device_info_.atomic);
    const bool cheaper = options_.policy == WritePolicy::kHardwareOnly ||
                         InPlaceIsCheaper(runs.size(), units.size() - candidates.size());
    for (InPlaceRun& run : runs) {
      for (size_t& i : run.units) {
        i = candidate_units[i];
        if (!cheaper) plan->units[i].reason = PathReason::kCheaperPacked;
      }
      if (cheaper) plan->in_place.push_back(std::move(run));
    }
  }
  return true;
}

// Gives every block of the plan's COW units its place.
absl::Status Engine::PlaceCow(Lock& lock, Plan& plan) {
  std::vector<LayoutItem> items;
  std::vector<size_t> unit_of;  // by LayoutItem::source
  for (size_t u = 0; u < plan.units.size(); ++u) {
    Plan::UnitPlan& up = plan.units[u];
    if (up.reason == PathReason::kInPlace) continue;
    for (const auto& [id, change] : up.unit->changes) {
      RangeSet rest = change.data;
      for (const auto& [object, mapping] : up.reserved) {
        if (object != id) continue;
        rest.Remove(mapping.logical);
        plan.AddCow({u, id, mapping.logical, mapping.physical, true, {}, {}});
      }
      rest.ForEach([&, id = id](BlockRange r) {
        items.push_back({up.unit->epoch, id, r, unit_of.size()});
        unit_of.push_back(u);
      });
    }
  }
  const uint64_t align_max =
      std::max<uint64_t>(kAlignBlocksMin, device_info_.atomic.unit_max_bytes / kBlockBytes);
  absl::flat_hash_map<size_t, ObjectId> object_of;
  for (const LayoutItem& item : items) object_of[item.source] = item.object;
  absl::StatusOr<std::vector<PlacedPiece>> placed = PlaceItems(
      std::move(items), align_max,
      [&](uint64_t want, uint64_t min, uint64_t alignment) {
        return volume_->Allocate(lock, want, min, alignment, std::min(want / 2, kContiguousBlocks));
      },
      [&](Extent extent) { return volume_->ReturnUnused(extent); });
  if (!placed.ok()) return placed.status();
  for (const PlacedPiece& p : *placed) {
    plan.AddCow({unit_of[p.source], object_of[p.source], p.blocks, p.physical, false, {}, {}});
  }
  for (Plan::UnitPlan& up : plan.units) {
    if (up.reason == PathReason::kInPlace) continue;  // keeps its claim: the device may refuse
    volume_->Unclaim(up.unit->claimed_blocks, 0);
    up.unit->claimed_blocks = 0;
  }
  return absl::OkStatus();
}

// Makes the write requests. Without the lock: everything it reads is frozen.
void Engine::BuildWrites(Plan& plan, Commit& commit) {
  const auto buffers_of = [](const Unit& unit, ObjectId object, BlockRange blocks, std::vector<iovec>* out) {
    for (const FrozenRange& range : unit.frozen) {
      if (range.object->id != object || blocks.start < range.blocks.start ||
          blocks.start >= range.blocks.end())
        continue;
      for (uint64_t i = 0; i < blocks.count; ++i) {
        std::byte* data = range.buffers[blocks.start - range.blocks.start + i].data();
        if (!out->empty() && static_cast<std::byte*>(out->back().iov_base) + out->back().iov_len == data) {
          out->back().iov_len += kBlockBytes;
        } else {
          out->push_back({data, kBlockBytes});
        }
      }
    }
  };
  for (Plan::CowPiece& piece : plan.cow)
    buffers_of(*plan.units[piece.unit].unit, piece.object, piece.blocks, &piece.data);
  std::vector<Plan::CowPiece*> by_place;
  for (Plan::CowPiece& piece : plan.cow) by_place.push_back(&piece);
  std::sort(by_place.begin(), by_place.end(),
            [](const auto* a, const auto* b) { return a->physical < b->physical; });
  uint64_t next = 0;
  for (const Plan::CowPiece* piece : by_place) {
    uint64_t offset = piece->physical * kBlockBytes;
    for (const iovec& v : piece->data) {
      if (commit.writes.empty() || offset != next ||
          commit.writes.back().request.iov.size() >= kIovecsPerWrite) {
        commit.writes.emplace_back();
        commit.writes.back().request.op = IoOp::kWrite;
        commit.writes.back().request.offset_bytes = offset;
      }
      commit.writes.back().request.iov.push_back(v);
      offset += v.iov_len;
      next = offset;
    }
  }
  for (const InPlaceRun& run : plan.in_place) {
    Commit::Write& write = commit.writes.emplace_back();
    write.request.op = IoOp::kAtomicWrite;
    write.request.offset_bytes = run.extent.start * kBlockBytes;
    std::vector<iovec> data;
    for (size_t u : run.units) {
      const Unit& unit = *plan.units[u].unit;
      buffers_of(unit, unit.frozen.front().object->id, unit.frozen.front().blocks, &data);
      write.in_place_units.push_back(plan.units[u].unit.get());
    }
    if (data.size() > 1) {
      // One piece of memory: RWF_ATOMIC takes one iovec.
      AlignedBuffer& bounce = commit.bounces.emplace_back(run.extent.count * kBlockBytes);
      std::byte* to = bounce.data();
      for (const iovec& v : data) to = std::copy_n(static_cast<const std::byte*>(v.iov_base), v.iov_len, to);
      data = {{bounce.data(), bounce.size()}};
    }
    write.request.iov.assign(data.begin(), data.end());
  }
}

// Without the lock, as BuildWrites.
void Engine::HashPieces(Plan& plan) {
  for (Plan::CowPiece& piece : plan.cow) piece.hash = HashData(piece.data);
}

// The record's entries: epoch by epoch, the changes of metadata before those of data.
std::vector<LogEntry> Engine::BuildEntries(Plan& plan) {
  std::vector<LogEntry> entries;
  std::vector<std::pair<uint64_t, Plan::CowPiece*>> pieces;
  for (Plan::CowPiece& piece : plan.cow) pieces.push_back({plan.units[piece.unit].unit->epoch, &piece});
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  size_t next_piece = 0;
  for (size_t u = 0; u < plan.units.size(); ++u) {
    Unit& unit = *plan.units[u].unit;
    if (plan.units[u].reason != PathReason::kInPlace) {
      for (const auto& [name, target] : unit.names) {
        entries.push_back(target ? LogEntry::Name(name, *target) : LogEntry::NameGone(name));
      }
      for (auto& [id, change] : unit.changes) {
        ObjectState& object = *change.object;
        if (change.removed) {
          entries.push_back(LogEntry::InodeGone(id));
          continue;
        }
        change.holes.ForEach([&, id = id](BlockRange r) { entries.push_back(LogEntry::Hole(id, r)); });
        for (const Mapping& m : change.unwritten) {
          entries.push_back(LogEntry::Map(id, m.logical, m.physical, MappingState::kUnwritten, {}, false));
        }
        const uint64_t size = change.set_size_bytes ? *change.set_size_bytes
                                                    : std::max(object.sent_size_bytes, change.grow_to_bytes);
        if (change.name || size != object.sent_size_bytes) {
          object.sent_size_bytes = size;
          change.recorded_size_bytes = size;
          if (change.name) object.sent_name = *change.name;
          entries.push_back(LogEntry::SetInode({id, size, object.sent_name}));
        }
      }
    }
    const bool last_of_epoch = u + 1 == plan.units.size() || plan.units[u + 1].unit->epoch != unit.epoch;
    for (; last_of_epoch && next_piece < pieces.size() && pieces[next_piece].first == unit.epoch;
         ++next_piece) {
      const Plan::CowPiece& p = *pieces[next_piece].second;
      entries.push_back(
          LogEntry::Map(p.object, p.blocks, p.physical, MappingState::kWritten, p.hash, p.reserved));
    }
  }
  return entries;
}

// True: there is room. False: it waited, with the lock released.
absl::StatusOr<bool> Engine::EnsureLogRoom(Lock& lock, uint64_t blocks) {
  if (volume_->LogHasRoom(blocks)) return true;
  if (blocks > volume_->geometry().log_blocks) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "one commit would take ", blocks, " blocks of the log, which has ", volume_->geometry().log_blocks));
  }
  // The records in flight first: a checkpoint gives back only what is durable.
  pump_->Wait(lock, [&] { return commits_.empty() || !failed_.ok(); });
  if (!failed_.ok()) return failed_;
  if (absl::Status s = Checkpoint(lock); !s.ok()) return s;
  return false;
}

absl::Status Engine::AwaitLogRoom(Lock& lock, uint64_t blocks) {
  absl::StatusOr<bool> room = false;
  while (room.ok() && !*room) room = EnsureLogRoom(lock, blocks);
  return room.status();
}

// Queues what of the commit's writes is not queued yet.
void Engine::QueueWrites(Commit& commit) {
  for (; commit.queued < commit.writes.size(); ++commit.queued) {
    Commit::Write& write = commit.writes[commit.queued];
    write.commit = &commit;
    commit.in_place |= !write.in_place_units.empty();
    write.request.context = &write;
    write.request.done = [](IoRequest* r) {
      auto& w = *static_cast<Commit::Write*>(r->context);
      Commit& c = *w.commit;
      if (absl::IsUnimplemented(r->status) && !w.in_place_units.empty()) {
        c.refused.insert(c.refused.end(), w.in_place_units.begin(), w.in_place_units.end());
        c.refusal = r->status;
      } else if (!r->status.ok()) {
        c.engine->Fail(r->status);
      }
      if (--c.outstanding == 0) c.engine->Written(c);
    };
    ++commit.outstanding;
    pump_->Queue(&write.request);
  }
}

// Hands a commit to the device, or what is left of it. With a record, its entries go to the log's end (none: a
// settling record).
void Engine::Send(std::unique_ptr<Commit> commit, std::vector<LogEntry> entries, bool record) {
  Commit& c = *commit;
  c.has_record = record;
  c.epoch_min = UINT64_MAX;
  for (const auto& unit : c.units) c.epoch_min = std::min(c.epoch_min, unit->epoch);
  if (record) {
    volume_->Append(std::move(entries), &c.log);
    for (IoRequest& r : c.log.requests) c.writes.emplace_back().request = std::move(r);
  }
  QueueWrites(c);
  building_.clear();
  commits_.push_back(std::move(commit));
  ++progress_;
  if (--c.outstanding == 0) Written(c);
}

absl::Status Engine::Settle(Lock& lock) {
  if (absl::Status s = AwaitLogRoom(lock, 1); !s.ok()) return s;
  const Lsn lsn = volume_->last_lsn() + 1;
  ++stats_.settling_records;
  Send(std::make_unique<Commit>(this), {}, true);
  pump_->Wait(lock, [&] { return volume_->durable_lsn() >= lsn || !failed_.ok(); });
  return failed_;
}

// Selects and plans until all nodes that the plan needs are there. No units: there is nothing to send.
absl::Status Engine::SelectAndPlan(Lock& lock, Take take, Plan* plan) {
  const NodeCache::Hold hold(volume_->node_cache());  // all of them are needed at once
  while (true) {
    *plan = Plan();
    const std::vector<std::shared_ptr<Unit>> units = Select(take);
    if (units.empty() || !failed_.ok()) return absl::OkStatus();
    absl::StatusOr<bool> planned = PlanUnits(lock, units, plan);
    if (!planned.ok()) return planned.status();
    if (*planned) return absl::OkStatus();
    ++progress_;  // the lock was released: others may have found that they cannot send
  }
}

bool Engine::DispatchSelected(Lock& lock, Take take) {
  bool settled = false;
  while (true) {
    Plan plan;
    absl::Status status = SelectAndPlan(lock, take, &plan);
    if (status.ok() && plan.units.empty()) return false;
    bool released = false;
    if (status.ok() && plan.settle_first && !settled) {
      released = settled = true;
      status = Settle(lock);
    } else if (status.ok()) {
      absl::StatusOr<bool> room = EnsureLogRoom(lock, plan.log_blocks_bound);
      status = room.status();
      released = room.ok() && !*room;
    }
    if (!status.ok()) {
      Fail(status);
      return false;
    }
    if (released) {
      ++progress_;
      continue;
    }
    std::vector<std::shared_ptr<Unit>> units;
    for (const Plan::UnitPlan& up : plan.units) units.push_back(up.unit);

    auto commit = std::make_unique<Commit>(this);
    commit->units = units;
    building_ = units;
    for (const auto& unit : units) fork_.Freeze(unit);
    bool record = false;
    for (const Plan::UnitPlan& up : plan.units) {
      ++stats_.units_by_reason[static_cast<int>(up.reason)];
      const uint64_t bytes = up.unit->data_blocks * kBlockBytes;
      (up.reason == PathReason::kInPlace ? stats_.in_place_bytes : stats_.cow_bytes) += bytes;
      record |= up.reason != PathReason::kInPlace;
    }
    if (absl::Status s = PlaceCow(lock, plan); !s.ok()) {
      Fail(absl::InternalError(
          absl::StrCat("claimed space could not be allocated: ", std::string(s.message()))));
      Keep(std::move(commit));
      return false;
    }
    lock.unlock();
    BuildWrites(plan, *commit);
    lock.lock();
    std::vector<LogEntry> entries;
    if (record && failed_.ok()) {
      // The data is on its way while its record is made.
      QueueWrites(*commit);
      pump_->Kick(lock);
      lock.unlock();
      HashPieces(plan);
      lock.lock();
    }
    if (!failed_.ok()) {
      Keep(std::move(commit));
      return false;
    }
    if (record) entries = BuildEntries(plan);
    if (absl::Status s = AwaitLogRoom(lock, record ? Volume::LogBlocksFor(entries) : 0); !s.ok()) {
      Fail(s);
      Keep(std::move(commit));
      return false;
    }
    Send(std::move(commit), std::move(entries), record);
    return true;
  }
}

bool Engine::Dispatch(Lock& lock, Take take) {
  dispatching_ = true;
  const uint64_t progress_before = progress_;
  const bool sent = DispatchSelected(lock, take);
  dispatching_ = false;
  if (!sent && take == Take::kWanted) nothing_to_send_at_ = progress_;
  // Not where it found nothing to send, at once: then all who wait would wake one another for ever.
  if (sent || progress_ != progress_before) {
    ++progress_;
    pump_->Kick(lock);
    pump_->Notify();
    ServeBackground();
  }
  return sent;
}

absl::Status Engine::CommitEntries(Lock& lock, std::vector<LogEntry> entries, std::function<void()> durable) {
  const uint64_t blocks = Volume::LogBlocksFor(entries);
  if (blocks > commit_log_blocks_max()) {
    return absl::ResourceExhaustedError(absl::StrCat("one commit would take ", blocks,
                                                     " blocks of the log, more than the ",
                                                     commit_log_blocks_max(), " it may"));
  }
  // Whatever a barrier put before this.
  const uint64_t epoch = fork_.epoch();
  absl::Status earlier =
      SyncUnits(lock, UnitsWhere([epoch](const Unit& unit) { return unit.epoch < epoch; }));
  if (!earlier.ok()) return earlier;
  pump_->Wait(lock, [&] { return CanDispatch() || !failed_.ok(); });
  if (!failed_.ok()) return failed_;
  dispatching_ = true;
  const absl::Status room = AwaitLogRoom(lock, blocks);
  bool done = false;
  if (room.ok()) {
    auto commit = std::make_unique<Commit>(this);
    commit->durable = [&done, durable = std::move(durable)] {
      durable();
      done = true;
    };
    Send(std::move(commit), std::move(entries), true);
  }
  dispatching_ = false;
  ++progress_;
  pump_->Notify();
  ServeBackground();
  if (!room.ok()) return room;
  pump_->Wait(lock, [&] { return done || !failed_.ok(); });
  return done ? absl::OkStatus() : failed_;
}

}  // namespace untorn
