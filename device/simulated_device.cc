#include "device/simulated_device.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "device/check.h"
#include "device/transfer.h"

namespace untorn {
namespace {

constexpr uint64_t kSectorsPerBlock = kBlockBytes / kSectorBytes;

struct alignas(64) Block {
  char bytes[kBlockBytes];
};
// Shared by the views and records that hold the same content; never changed once shared.
using BlockPtr = std::shared_ptr<const Block>;
using BlockMap = absl::flat_hash_map<uint64_t, BlockPtr>;

constexpr Block kZeroBlock = {};

const Block& Find(const BlockMap& map, uint64_t number) {
  auto it = map.find(number);
  return it == map.end() ? kZeroBlock : *it->second;
}

std::shared_ptr<Block> CopyOf(const Block& block) { return std::make_shared<Block>(block); }

// A write as the disk keeps it: whole blocks, and which of their sectors it reaches.
struct WriteRecord {
  uint64_t first_block = 0;
  bool atomic = false;
  std::vector<BlockPtr> blocks;
  std::vector<bool> torn_sectors;  // empty: all of them land

  void ApplyTo(BlockMap& map) const {
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (torn_sectors.empty()) {
        map[first_block + i] = blocks[i];
      } else {
        ApplySectors(map, i);
      }
    }
  }

  // Keeps some sectors only: scattered ones, or a prefix, or a suffix.
  void Tear(std::mt19937_64& rng) {
    const size_t sectors = blocks.size() * kSectorsPerBlock;
    torn_sectors.assign(sectors, false);
    const uint64_t pattern = rng() % 4;
    const size_t cut = rng() % (sectors + 1);
    for (size_t i = 0; i < sectors; ++i) {
      if (pattern == 0) {
        torn_sectors[i] = i < cut;
      } else if (pattern == 1) {
        torn_sectors[i] = i >= cut;
      } else {
        torn_sectors[i] = rng() % 2 == 0;
      }
    }
  }

 private:
  void ApplySectors(BlockMap& map, size_t index) const {
    const auto sectors = torn_sectors.begin() + static_cast<ptrdiff_t>(index * kSectorsPerBlock);
    if (std::none_of(sectors, sectors + kSectorsPerBlock, [](bool lands) { return lands; })) return;
    std::shared_ptr<Block> merged = CopyOf(Find(map, first_block + index));
    for (uint64_t s = 0; s < kSectorsPerBlock; ++s) {
      if (!sectors[static_cast<ptrdiff_t>(s)]) continue;
      std::memcpy(merged->bytes + s * kSectorBytes, blocks[index]->bytes + s * kSectorBytes, kSectorBytes);
    }
    map[first_block + index] = std::move(merged);
  }
};

// A request between Submit() and Reap().
struct Pending {
  IoRequest* request = nullptr;  // may be gone once the device is being destroyed
  IoOp op = IoOp::kRead;
  absl::Status status;        // decided at Submit(); not OK: the request fails
  bool refused = false;       // fails without an effect
  WriteRecord write;          // of a write: its content as of Submit()
  uint64_t flush_covers = 0;  // of a flush: unflushed writes before this number
};

bool IsWrite(IoOp op) { return op == IoOp::kWrite || op == IoOp::kAtomicWrite; }

std::vector<BlockPtr> CopyContent(const IoRequest& request) {
  std::vector<BlockPtr> blocks;
  blocks.reserve(request.length_bytes() / kBlockBytes);
  for (const iovec& v : request.iov) {
    for (size_t at = 0; at < v.iov_len; at += kBlockBytes) {
      auto block = std::make_shared<Block>();
      std::memcpy(block->bytes, static_cast<const char*>(v.iov_base) + at, kBlockBytes);
      blocks.push_back(std::move(block));
    }
  }
  return blocks;
}

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

struct SimulatedDisk::State {
  explicit State(uint64_t size) : size_bytes(size) {}

  mutable std::mutex mu;
  const uint64_t size_bytes;
  BlockMap medium;
  BlockMap current;                   // the medium with the cache over it
  std::deque<WriteRecord> unflushed;  // completed writes that are only in the cache, in order of completion
  uint64_t unflushed_first = 0;       // the number of unflushed.front()
  std::vector<SimulatedDevice::Impl*> devices;
  std::vector<WriteRecord> orphans;  // in flight on the device that was destroyed last

  uint64_t unflushed_end() const { return unflushed_first + unflushed.size(); }

  void Cache(WriteRecord write) {
    write.ApplyTo(current);
    unflushed.push_back(std::move(write));
  }
  void FlushBefore(uint64_t end) {
    while (!unflushed.empty() && unflushed_first < end) {
      unflushed.front().ApplyTo(medium);
      unflushed.pop_front();
      ++unflushed_first;
    }
  }
  // The writes in flight, which the disk no longer owes an answer; in an order drawn from `rng`.
  std::vector<WriteRecord> TakeInFlight(std::mt19937_64& rng);
  std::vector<WriteRecord> CopyInFlight() const;
};

struct SimulatedDevice::Impl {
  struct Fault {
    IoOp op;
    uint64_t first;  // counted in operations from now
    uint64_t count;
    absl::Status status;
    uint64_t seen = 0;
  };

  std::shared_ptr<SimulatedDisk> disk;
  SimulatedDeviceOptions options;
  std::mt19937_64 rng;
  std::vector<Pending> pending;
  std::vector<Fault> faults;
  bool disconnected = false;  // by Crash() or Kill()
  std::condition_variable submitted;

  SimulatedDisk::State& state() { return *disk->state_; }

  absl::Status NextFault(IoOp op) {
    absl::Status status;
    for (Fault& fault : faults) {
      if (fault.op != op) continue;
      ++fault.seen;
      if (status.ok() && fault.seen >= fault.first && fault.seen - fault.first < fault.count)
        status = fault.status;
    }
    return status;
  }

  void Complete(Pending pending);
  void Read(IoRequest* request);
};

void SimulatedDevice::Impl::Read(IoRequest* request) {
  uint64_t number = request->offset_bytes / kBlockBytes;
  for (const iovec& v : request->iov) {
    for (size_t at = 0; at < v.iov_len; at += kBlockBytes, ++number) {
      std::memcpy(static_cast<char*>(v.iov_base) + at, Find(state().current, number).bytes, kBlockBytes);
    }
  }
}

void SimulatedDevice::Impl::Complete(Pending pending) {
  IoRequest* request = pending.request;
  request->status = pending.status;
  if (disconnected) {
    request->status = absl::InternalError(
        absl::StrCat("memory: request at offset ", request->offset_bytes, ": the simulated disk is gone"));
    return;
  }
  if (pending.refused) return;
  const bool failed = !pending.status.ok();
  switch (request->op) {
    case IoOp::kRead:
      if (!failed) Read(request);
      break;
    case IoOp::kFlush:
      if (!failed) state().FlushBefore(pending.flush_covers);
      break;
    case IoOp::kWrite:
    case IoOp::kAtomicWrite:
      CheckUnchanged(pending);
      if (failed) {
        const uint64_t outcome = rng() % 3;
        if (outcome == 0) break;
        if (outcome == 1 && !pending.write.atomic) pending.write.Tear(rng);
      }
      state().Cache(std::move(pending.write));
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
  info_.needs_preparing = options.needs_preparing;
  info_.size_bytes = state.size_bytes;
  info_.atomic = options.atomic;
  info_.atomic_note = options.atomic.usable() ? "simulated" : "none: the simulated disk has no atomic writes";
  std::lock_guard<std::mutex> lock(state.mu);
  state.orphans.clear();
  state.devices.push_back(impl_.get());
}

SimulatedDevice::~SimulatedDevice() {
  SimulatedDisk::State& state = impl_->state();
  std::lock_guard<std::mutex> lock(state.mu);
  std::erase(state.devices, impl_.get());
  if (impl_->disconnected) return;
  state.orphans.clear();
  for (Pending& pending : impl_->pending) {
    if (IsWrite(pending.op) && !pending.refused) state.orphans.push_back(std::move(pending.write));
  }
}

void SimulatedDevice::Submit(absl::Span<IoRequest* const> requests) {
  SimulatedDisk::State& state = impl_->state();
  std::lock_guard<std::mutex> lock(state.mu);
  for (IoRequest* request : requests) {
    Pending pending;
    pending.request = request;
    pending.op = request->op;
    pending.status = CheckRequest(info_, *request);
    pending.refused = !pending.status.ok();
    if (pending.status.ok() && request->op == IoOp::kAtomicWrite &&
        impl_->options.refuse_atomic_per_mille > 0 &&
        impl_->rng() % 1000 < static_cast<uint64_t>(impl_->options.refuse_atomic_per_mille)) {
      pending.status = absl::UnimplementedError(absl::StrCat(
          "memory: atomic write at offset ", request->offset_bytes, ": refused, as the test asked"));
      pending.refused = true;
    }
    if (!pending.refused) pending.status = impl_->NextFault(request->op);
    const uint64_t length_bytes = request->length_bytes();
    switch (request->op) {
      case IoOp::kRead:
        ++counts_.reads;
        counts_.bytes_read += length_bytes;
        break;
      case IoOp::kFlush:
        ++counts_.flushes;
        pending.flush_covers = state.unflushed_end();
        break;
      case IoOp::kWrite:
      case IoOp::kAtomicWrite:
        ++(request->op == IoOp::kWrite ? counts_.writes : counts_.atomic_writes);
        counts_.bytes_written += length_bytes;
        pending.write.first_block = request->offset_bytes / kBlockBytes;
        pending.write.atomic = request->op == IoOp::kAtomicWrite;
        pending.write.blocks = CopyContent(*request);
        break;
    }
    impl_->pending.push_back(std::move(pending));
  }
  impl_->submitted.notify_one();
}

void SimulatedDevice::Reap(bool wait, std::vector<IoRequest*>* completed) {
  SimulatedDisk::State& state = impl_->state();
  std::unique_lock<std::mutex> lock(state.mu);
  std::vector<Pending>& pending = impl_->pending;
  if (wait) impl_->submitted.wait(lock, [&pending] { return !pending.empty(); });
  if (pending.empty()) return;
  if (impl_->options.shuffle) {
    std::swap(pending[impl_->rng() % pending.size()], pending.back());
    Pending one = std::move(pending.back());
    pending.pop_back();
    completed->push_back(one.request);
    impl_->Complete(std::move(one));
    return;
  }
  for (Pending& one : pending) {
    completed->push_back(one.request);
    impl_->Complete(std::move(one));
  }
  pending.clear();
}

void SimulatedDevice::FailAfter(IoOp op, uint64_t n, absl::Status status, uint64_t count) {
  UNTORN_CHECK(n > 0 && !status.ok(), "FailAfter needs a number from 1 and an error");
  std::lock_guard<std::mutex> lock(impl_->state().mu);
  impl_->faults.push_back({.op = op, .first = n, .count = count, .status = std::move(status)});
}

std::vector<WriteRecord> SimulatedDisk::State::CopyInFlight() const {
  std::vector<WriteRecord> writes = orphans;
  for (const SimulatedDevice::Impl* device : devices) {
    if (device->disconnected) continue;
    for (const Pending& pending : device->pending) {
      if (IsWrite(pending.op) && !pending.refused) writes.push_back(pending.write);
    }
  }
  return writes;
}

std::vector<WriteRecord> SimulatedDisk::State::TakeInFlight(std::mt19937_64& rng) {
  std::vector<WriteRecord> writes = CopyInFlight();
  orphans.clear();
  for (SimulatedDevice::Impl* device : devices) device->disconnected = true;
  std::shuffle(writes.begin(), writes.end(), rng);
  return writes;
}

SimulatedDisk::SimulatedDisk(uint64_t size_bytes)
    : state_(std::make_unique<State>(size_bytes / kBlockBytes * kBlockBytes)) {}

SimulatedDisk::~SimulatedDisk() = default;

uint64_t SimulatedDisk::size_bytes() const { return state_->size_bytes; }

void SimulatedDisk::Crash(std::mt19937_64& rng, int keep_per_mille) {
  std::lock_guard<std::mutex> lock(state_->mu);
  auto land = [&](WriteRecord write) {
    if (rng() % 1000 >= static_cast<uint64_t>(keep_per_mille)) return;
    if (!write.atomic && rng() % 2 == 0) write.Tear(rng);
    write.ApplyTo(state_->medium);
  };
  // Completed writes keep their order where they overlap; those in flight have none.
  std::vector<WriteRecord> in_flight = state_->TakeInFlight(rng);
  for (WriteRecord& write : state_->unflushed) land(std::move(write));
  for (WriteRecord& write : in_flight) land(std::move(write));
  state_->unflushed_first += state_->unflushed.size();
  state_->unflushed.clear();
  state_->current = state_->medium;
}

void SimulatedDisk::Kill(std::mt19937_64& rng) {
  std::lock_guard<std::mutex> lock(state_->mu);
  for (WriteRecord& write : state_->TakeInFlight(rng)) {
    const uint64_t outcome = rng() % 3;
    if (outcome == 0) continue;
    if (outcome == 1 && !write.atomic) write.Tear(rng);
    state_->Cache(std::move(write));
  }
}

void SimulatedDisk::Peek(uint64_t offset_bytes, void* out, uint64_t length_bytes) const {
  UNTORN_CHECK(offset_bytes + length_bytes <= state_->size_bytes, "beyond the simulated disk");
  std::lock_guard<std::mutex> lock(state_->mu);
  char* to = static_cast<char*>(out);
  while (length_bytes > 0) {
    const uint64_t in_block = offset_bytes % kBlockBytes;
    const uint64_t count = std::min(length_bytes, kBlockBytes - in_block);
    std::memcpy(to, Find(state_->current, offset_bytes / kBlockBytes).bytes + in_block, count);
    to += count;
    offset_bytes += count;
    length_bytes -= count;
  }
}

void SimulatedDisk::Poke(uint64_t offset_bytes, const void* data, uint64_t length_bytes) {
  UNTORN_CHECK(offset_bytes + length_bytes <= state_->size_bytes, "beyond the simulated disk");
  std::lock_guard<std::mutex> lock(state_->mu);
  const char* from = static_cast<const char*>(data);
  while (length_bytes > 0) {
    const uint64_t in_block = offset_bytes % kBlockBytes;
    const uint64_t count = std::min(length_bytes, kBlockBytes - in_block);
    for (BlockMap* map : {&state_->medium, &state_->current}) {
      std::shared_ptr<Block> block = CopyOf(Find(*map, offset_bytes / kBlockBytes));
      std::memcpy(block->bytes + in_block, from, count);
      (*map)[offset_bytes / kBlockBytes] = std::move(block);
    }
    from += count;
    offset_bytes += count;
    length_bytes -= count;
  }
}

std::shared_ptr<SimulatedDisk> SimulatedDisk::Clone() const {
  std::lock_guard<std::mutex> lock(state_->mu);
  auto clone = std::make_shared<SimulatedDisk>(state_->size_bytes);
  clone->state_->medium = state_->medium;
  clone->state_->current = state_->current;
  clone->state_->unflushed = state_->unflushed;
  clone->state_->unflushed_first = state_->unflushed_first;
  clone->state_->orphans = state_->CopyInFlight();
  return clone;
}

}  // namespace untorn
