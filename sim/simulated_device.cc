#include "sim/simulated_device.h"

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "device/transfer.h"
#include "sim/simulated_disk_state.h"

namespace untorn {
namespace {

// A request between Submit() and Reap().
struct Pending {
  IoRequest* request = nullptr;  // may be gone once the device is being destroyed
  IoOp op = IoOp::kRead;
  absl::Status status;   // decided at Submit(); the request fails if not OK
  bool refused = false;  // fails without an effect
  bool held = false;
  std::optional<SimulatedFault::Kind> fault;
  DiskWrite write;                  // for a write: its content at Submit()
  uint64_t flush_covers = 0;        // for a flush: covers unflushed writes before this number
  uint64_t flush_length_bytes = 0;  // and the length that the file had
  uint64_t done_ns = 0;             // in virtual time
};

std::vector<DiskBlockPtr> CopyContent(const IoRequest& request) {
  std::vector<DiskBlockPtr> blocks;
  blocks.reserve(request.length_bytes() / kBlockBytes);
  for (const iovec& v : request.iov) {
    for (size_t at = 0; at < v.iov_len; at += kBlockBytes) {
      blocks.push_back(MakeDiskBlock(static_cast<const char*>(v.iov_base) + at));
    }
  }
  return blocks;
}

// Stops the process if the buffer of a write has changed in flight (invariant 1 of Device).
void CheckUnchanged(const Pending& pending) {
  size_t i = 0;
  for (const iovec& v : pending.request->iov) {
    for (size_t at = 0; at < v.iov_len; at += kBlockBytes, ++i) {
      if (std::memcmp(pending.write.blocks[i]->bytes, static_cast<const char*>(v.iov_base) + at,
                      kBlockBytes) == 0) {
        continue;
      }
      std::fprintf(
          stderr,
          "untorn: simulated device: the buffer of a write at offset %llu changed in flight, at byte %zu\n",
          static_cast<unsigned long long>(pending.request->offset_bytes), i * kBlockBytes);
      std::abort();
    }
  }
}

}  // namespace

struct SimulatedDevice::Impl final : DiskUser {
  struct Planned {
    SimulatedFault fault;
    uint64_t seen = 0;
  };

  std::shared_ptr<SimulatedDisk> disk;
  SimulatedDeviceOptions options;
  std::mt19937_64 rng;
  std::vector<Pending> pending;
  std::vector<Planned> faults;
  uint64_t faults_seen = 0;
  IoOp hold_op = IoOp::kRead;
  uint64_t to_hold = 0;
  bool hold_forever = false;
  uint64_t virtual_ns = 0;
  uint64_t handed_over_ns = 0;  // the last one
  std::vector<bool> read_blocks;
  std::vector<BlockNumber> blocks_read;
  uint64_t reads_fingerprint = 0;
  std::condition_variable submitted;

  SimulatedDisk::State& state() { return *disk->state_; }

  std::vector<const DiskWrite*> InFlight() const override {
    std::vector<const DiskWrite*> writes;
    for (const Pending& p : pending) {
      // A refused or lost write never lands.
      if (IsWrite(p.op) && !p.refused && p.fault != SimulatedFault::kLostWrite) writes.push_back(&p.write);
    }
    return writes;
  }

  void ApplyFaults(Pending& p) {
    for (Planned& planned : faults) {
      const SimulatedFault& fault = planned.fault;
      if (fault.op != p.op) continue;
      // Every fault counts all operations of its kind, but only one fault strikes an operation.
      ++planned.seen;
      if (p.fault || planned.seen < fault.first || planned.seen - fault.first >= fault.count) continue;
      ++faults_seen;
      p.fault = fault.kind;
      if (fault.kind == SimulatedFault::kError) p.status = fault.status;
    }
  }

  // Returns when a request that comes now is done, in virtual time.
  uint64_t DoneNs(const IoRequest& request) {
    if (!options.latency) return 0;
    const SimulatedLatency& l = *options.latency;
    const uint64_t jitter_ns = l.jitter_ns > 0 ? rng() % l.jitter_ns : 0;
    // A flush does not queue behind the reads and writes that are being handed over.
    if (request.op == IoOp::kFlush) return virtual_ns + l.flush_ns + jitter_ns;
    handed_over_ns = std::max(handed_over_ns, virtual_ns) + l.request_ns +
                     request.length_bytes() / kBlockBytes * l.block_ns;
    return handed_over_ns + (request.op == IoOp::kRead ? l.read_ns : l.write_ns) + jitter_ns;
  }

  // Returns the next request to complete, or pending.end() if all are held.
  std::vector<Pending>::iterator Next() {
    if (options.latency) {
      auto next = pending.end();
      for (auto it = pending.begin(); it != pending.end(); ++it) {
        if (!it->held && (next == pending.end() || it->done_ns < next->done_ns)) next = it;
      }
      return next;
    }
    const auto is_free = [](const Pending& p) { return !p.held; };
    const auto free = std::count_if(pending.begin(), pending.end(), is_free);
    if (free == 0) return pending.end();
    uint64_t n = options.shuffle ? rng() % free : 0;
    return std::find_if(pending.begin(), pending.end(),
                        [&](const Pending& p) { return !p.held && n-- == 0; });
  }

  void Observe(std::unique_lock<std::mutex> lock) {
    if (!state().observer || disconnected) return;
    const std::function<void()> observer = state().observer;
    // The observer looks at the disk, and takes the lock of the disk for that.
    lock.unlock();
    observer();
  }

  void Complete(Pending pending);
  absl::Status Read(const IoRequest& request, std::optional<SimulatedFault::Kind> fault);
  void Write(Pending pending);
};

absl::Status SimulatedDevice::Impl::Read(const IoRequest& request,
                                         std::optional<SimulatedFault::Kind> fault) {
  absl::Status status;
  BlockNumber number = DeviceBlockAt(request.offset_bytes);
  if (fault == SimulatedFault::kBitRot) {
    const BlockNumber rotten = number + BlockCount(rng() % WholeBlocks(request.length_bytes()).value());
    char bytes[kBlockBytes];
    std::memcpy(bytes, state().current.Find(rotten).bytes, kBlockBytes);
    bytes[rng() % kBlockBytes] ^= static_cast<char>(1 << rng() % 8);
    const DiskBlockPtr block = MakeDiskBlock(bytes);
    // The bit stays rotten for good, also after a power cut.
    state().medium.Set(rotten, block);
    state().current.Set(rotten, block);
  }
  for (const iovec& v : request.iov) {
    for (size_t at = 0; at < v.iov_len; at += kBlockBytes, ++number) {
      const bool stale = fault == SimulatedFault::kStaleRead && state().previous.contains(number);
      const DiskBlock& block = stale ? *state().previous.at(number) : state().current.Find(number);
      std::memcpy(static_cast<char*>(v.iov_base) + at, block.bytes, kBlockBytes);
      if (options.track_reads && !read_blocks[number.value()]) {
        read_blocks[number.value()] = true;
        blocks_read.push_back(number);
        reads_fingerprint += DiskBlockFingerprint(number, block);
      }
      if (block.unreadable != 0 && status.ok()) {
        status = absl::DataLossError(
            absl::StrCat("memory: block ", number.value(),
                         " has unreadable sectors, which were being written at a power cut"));
      }
    }
  }
  if (fault == SimulatedFault::kBitFlip) {
    const iovec& flipped = request.iov[rng() % request.iov.size()];
    static_cast<char*>(flipped.iov_base)[rng() % flipped.iov_len] ^= static_cast<char>(1 << rng() % 8);
  }
  return status;
}

void SimulatedDevice::Impl::Write(Pending p) {
  CheckUnchanged(p);
  if (state().full && p.status.ok()) {
    p.request->status = absl::ResourceExhaustedError(
        absl::StrCat("memory: write at offset ", p.request->offset_bytes, ": no space left"));
    if (p.write.atomic || rng() % 2 == 0) return;
    p.write.Tear(rng);
    return state().Cache(std::move(p.write));
  }
  if (p.fault == SimulatedFault::kLostWrite) return;
  if (p.fault == SimulatedFault::kMisdirectedWrite) {
    // The write goes to any other place where it fits.
    const uint64_t places = state().size_bytes / kBlockBytes - p.write.blocks.size();
    const uint64_t moved = p.write.first_block.value() + 1 + rng() % std::max<uint64_t>(places, 1);
    p.write.first_block = BlockNumber(moved % (places + 1));
  }
  if (p.fault == SimulatedFault::kError) {
    // A write that was to be durable by itself may have flushed the cache, and the flush may have failed.
    p.request->status = p.status;
    if (LosesCachedWrites(*p.request) && rng() % 2 == 0) {
      state().FailFlushBefore(state().unflushed_end(), rng);
    }
    // A write that fails keeps nothing, some sectors, or all (fault model 7).
    const uint64_t outcome = rng() % 3;
    if (outcome == 0) return;
    if (outcome == 1 && !p.write.atomic) p.write.Tear(rng);
  }
  const bool durable = p.request->durable && p.status.ok() && !options.lies.ignore_flush;
  if (durable) {
    state().CacheAndFlush(std::move(p.write));
  } else {
    state().Cache(std::move(p.write));
  }
}

void SimulatedDevice::Impl::Complete(Pending p) {
  IoRequest* request = p.request;
  request->status = p.status;
  // After Crash() or Kill() an old device has no effect any more (fault model 6).
  if (disconnected) {
    request->status = absl::InternalError(
        absl::StrCat("memory: request at offset ", request->offset_bytes, ": the simulated disk is gone"));
    return;
  }
  if (p.refused) return;
  switch (request->op) {
    case IoOp::kRead:
      if (p.status.ok()) request->status = Read(*request, p.fault);
      break;
    case IoOp::kFlush:
      if (options.lies.ignore_flush) break;
      if (p.status.ok()) {
        state().FlushBefore(p.flush_covers);
        state().durable_length_bytes = std::max(state().durable_length_bytes, p.flush_length_bytes);
      } else {
        state().FailFlushBefore(p.flush_covers, rng);
      }
      break;
    case IoOp::kWrite:
    case IoOp::kAtomicWrite:
      Write(std::move(p));
      break;
  }
}

SimulatedDevice::SimulatedDevice(std::shared_ptr<SimulatedDisk> disk, const SimulatedDeviceOptions& options)
    : impl_(std::make_unique<Impl>()) {
  impl_->disk = std::move(disk);
  impl_->options = options;
  impl_->rng.seed(options.seed);
  SimulatedDisk::State& state = impl_->state();
  info_.path = "memory";
  info_.engine = "memory";
  info_.direct_io = true;
  info_.needs_preparing = options.needs_preparing || state.is_file;
  info_.size_bytes = state.length_bytes;
  info_.atomic = options.atomic;
  info_.atomic_note = options.atomic.usable() ? "simulated" : "none: the simulated disk has no atomic writes";
  if (options.track_reads) impl_->read_blocks.resize(state.size_bytes / kBlockBytes);
  impl_->reads_fingerprint = state.LengthFingerprint();
  std::lock_guard<std::mutex> lock(state.mu);
  state.keep_previous |= options.keep_previous;
  // What the last device left in flight has landed by now, or never lands (fault model 4).
  state.orphans.clear();
  state.users.push_back(impl_.get());
}

SimulatedDevice::~SimulatedDevice() {
  SimulatedDisk::State& state = impl_->state();
  std::lock_guard<std::mutex> lock(state.mu);
  std::erase(state.users, impl_.get());
  if (impl_->disconnected) return;
  state.orphans.clear();
  // A later power cut or kill decides whether these writes land.
  for (const DiskWrite* write : impl_->InFlight()) state.orphans.push_back(*write);
}

uint64_t SimulatedDevice::size_bytes() const { return impl_->state().length_bytes; }

absl::Status SimulatedDevice::Extend(uint64_t size_bytes) {
  if (!info_.needs_preparing) return Device::Extend(size_bytes);
  SimulatedDisk::State& state = impl_->state();
  std::unique_lock<std::mutex> lock(state.mu);
  if (size_bytes > state.size_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("memory: cannot be given a size of ", size_bytes, " bytes: the file system is full"));
  }
  if (impl_->disconnected || size_bytes <= state.length_bytes) return absl::OkStatus();
  state.length_bytes = size_bytes;
  impl_->Observe(std::move(lock));
  return absl::OkStatus();
}

SimulatedDisk& SimulatedDevice::disk() { return *impl_->disk; }
const std::shared_ptr<SimulatedDisk>& SimulatedDevice::shared_disk() const { return impl_->disk; }

absl::Status SimulatedDevice::LockByte(uint64_t byte, ByteLock kind) {
  ASSIGN_OR_RETURN(const std::optional<uint64_t> other,
                   FindLock(byte, 1, kind == ByteLock::kShared ? ByteLock::kExclusive : ByteLock::kShared));
  if (other)
    return absl::UnavailableError(absl::StrCat("memory: byte ", byte, " is locked by another process"));
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  if (!impl_->disconnected) impl_->locks[byte] = kind;
  return absl::OkStatus();
}

absl::Status SimulatedDevice::UnlockByte(uint64_t byte) {
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  impl_->locks.erase(byte);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<uint64_t>> SimulatedDevice::FindLock(uint64_t first, uint64_t count,
                                                                  ByteLock kind) const {
  const SimulatedDisk::State& state = impl_->state();
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  for (const DiskUser* user : state.users) {
    if (user == impl_.get() || user->disconnected) continue;
    for (auto it = user->locks.lower_bound(first); it != user->locks.end() && it->first - first < count;
         ++it) {
      if (kind == ByteLock::kShared || it->second == ByteLock::kExclusive) return it->first;
    }
  }
  return std::optional<uint64_t>();
}

absl::Status SimulatedDevice::Shorten(uint64_t size_bytes) {
  SimulatedDisk::State& state = impl_->state();
  std::unique_lock<std::mutex> lock(state.mu);
  if (impl_->disconnected || !state.is_file || size_bytes >= state.length_bytes) return absl::OkStatus();
  state.CutTo(size_bytes);
  impl_->Observe(std::move(lock));
  return absl::OkStatus();
}

void SimulatedDevice::Submit(absl::Span<IoRequest* const> requests) {
  SimulatedDisk::State& state = impl_->state();
  std::unique_lock<std::mutex> lock(state.mu);
  bool writes = false;
  for (IoRequest* request : requests) {
    Pending pending;
    pending.request = request;
    pending.op = request->op;
    pending.status = CheckRequest(info_, state.length_bytes, *request);
    pending.refused = !pending.status.ok();
    if (pending.status.ok() && request->op == IoOp::kAtomicWrite &&
        impl_->options.refuse_atomic_per_mille > 0 &&
        impl_->rng() % 1000 < static_cast<uint64_t>(impl_->options.refuse_atomic_per_mille)) {
      pending.status = absl::UnimplementedError(absl::StrCat(
          "memory: atomic write at offset ", request->offset_bytes, ": refused, as the test asked"));
      pending.refused = true;
    }
    if (!pending.refused) impl_->ApplyFaults(pending);
    if (impl_->to_hold > 0 && request->op == impl_->hold_op) {
      --impl_->to_hold;
      pending.held = true;
    }
    pending.done_ns = impl_->DoneNs(*request);
    const uint64_t length_bytes = request->length_bytes();
    switch (request->op) {
      case IoOp::kRead:
        ++counts_.reads;
        counts_.bytes_read += length_bytes;
        break;
      case IoOp::kFlush:
        ++counts_.flushes;
        // Only writes that Reap() has handed back by now have a number (fault model 1).
        pending.flush_covers = state.unflushed_end();
        pending.flush_length_bytes = state.length_bytes;
        break;
      case IoOp::kWrite:
      case IoOp::kAtomicWrite:
        writes = true;
        ++(request->op == IoOp::kWrite ? counts_.writes : counts_.atomic_writes);
        counts_.bytes_written += length_bytes;
        counts_.durable_writes += request->durable;
        pending.write.first_block = DeviceBlockAt(request->offset_bytes);
        pending.write.atomic = request->op == IoOp::kAtomicWrite && !impl_->options.lies.tear_atomic;
        // The content is fixed here. CheckUnchanged() compares the buffers with it later.
        pending.write.blocks = CopyContent(*request);
        break;
    }
    impl_->pending.push_back(std::move(pending));
  }
  impl_->submitted.notify_one();
  if (writes) impl_->Observe(std::move(lock));
}

void SimulatedDevice::Reap(bool wait, std::vector<IoRequest*>* completed) {
  SimulatedDisk::State& state = impl_->state();
  std::unique_lock<std::mutex> lock(state.mu);
  auto next = impl_->Next();
  if (wait && next == impl_->pending.end() && !impl_->pending.empty() && !impl_->hold_forever) {
    // Only held requests are left, and the caller would wait for ever.
    for (Pending& pending : impl_->pending) pending.held = false;
    next = impl_->Next();
  }
  if (wait) {
    impl_->submitted.wait(lock, [&] { return (next = impl_->Next()) != impl_->pending.end(); });
  }
  const bool one = impl_->options.shuffle || impl_->options.latency;
  bool flushed = false;
  for (; next != impl_->pending.end(); next = impl_->Next()) {
    Pending pending = std::move(*next);
    impl_->pending.erase(next);
    impl_->virtual_ns = std::max(impl_->virtual_ns, pending.done_ns);
    flushed |= (pending.op == IoOp::kFlush || pending.request->durable) && pending.status.ok();
    completed->push_back(pending.request);
    impl_->Complete(std::move(pending));
    if (one) break;
  }
  if (flushed) impl_->Observe(std::move(lock));
}

void SimulatedDevice::Inject(const SimulatedFault& fault) {
  UNTORN_CHECK(fault.first > 0 && (fault.kind != SimulatedFault::kError || !fault.status.ok()),
               "a fault needs a number from 1, and a failure an error");
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  impl_->faults.push_back({fault});
}

void SimulatedDevice::FailAfter(IoOp op, uint64_t n, absl::Status status, uint64_t count) {
  Inject({.op = op, .first = n, .count = count, .status = std::move(status)});
}

void SimulatedDevice::ClearFaults() {
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  impl_->faults.clear();
}

uint64_t SimulatedDevice::faults_seen() const {
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  return impl_->faults_seen;
}

void SimulatedDevice::Hold(IoOp op, uint64_t count, HoldUntil until) {
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  impl_->hold_forever = until == HoldUntil::kForever;
  impl_->hold_op = op;
  impl_->to_hold = count;
}

void SimulatedDevice::Release() {
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  impl_->to_hold = 0;
  for (Pending& pending : impl_->pending) pending.held = false;
  impl_->submitted.notify_one();
}

uint64_t SimulatedDevice::held() const {
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  return std::count_if(impl_->pending.begin(), impl_->pending.end(), [](const Pending& p) { return p.held; });
}

uint64_t SimulatedDevice::virtual_ns() const {
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  return impl_->virtual_ns;
}

std::vector<BlockNumber> SimulatedDevice::blocks_read() const {
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  return impl_->blocks_read;
}

uint64_t SimulatedDevice::reads_fingerprint() const {
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  return impl_->reads_fingerprint;
}

}  // namespace untorn
