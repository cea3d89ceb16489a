#include "sim/simulated_disk.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "sim/simulated_disk_state.h"

namespace untorn {
namespace {

constexpr uint64_t kSectorsPerBlock = kBlockBytes / kSectorBytes;

const DiskBlock& ZeroBlock() {
  static const DiskBlockPtr zeros = MakeDiskBlock(std::vector<char>(kBlockBytes).data());
  return *zeros;
}

// Returns whether the write lands, and makes `write` what lands.
bool Lands(const SimulatedDisk::Landing& landing, DiskWrite* write) {
  if (!landing.sectors.empty()) write->sectors = landing.sectors;
  write->shorn = landing.shorn;
  return landing.lands;
}

}  // namespace

DiskBlockPtr MakeDiskBlock(const char* bytes, uint8_t unreadable) {
  auto block = std::make_shared<DiskBlock>();
  std::memcpy(block->bytes, bytes, kBlockBytes);
  block->hash = XXH3_64bits(bytes, kBlockBytes) + unreadable;
  block->unreadable = unreadable;
  return block;
}

uint64_t DiskBlockFingerprint(BlockNumber number, const DiskBlock& block) {
  // The mixing is the end of MurmurHash3. The hash is random enough by itself, the number is not.
  uint64_t mixed = block.hash ^ (number.value() + 1) * 0x9e3779b97f4a7c15;
  mixed = (mixed ^ mixed >> 33) * 0xff51afd7ed558ccd;
  return mixed ^ mixed >> 33;
}

const DiskBlocks::Chunk* DiskBlocks::FindChunk(BlockNumber number) const {
  const uint64_t index = number / Chunk::kBlocks;
  return index < chunks_->list.size() ? chunks_->list[index].get() : nullptr;
}

const DiskBlock& DiskBlocks::Find(BlockNumber number) const {
  const Chunk* chunk = FindChunk(number);
  const DiskBlock* block = chunk == nullptr ? nullptr : chunk->blocks[Chunk::IndexOf(number)].get();
  return block == nullptr ? ZeroBlock() : *block;
}

DiskBlockPtr DiskBlocks::Share(BlockNumber number) const {
  const Chunk* chunk = FindChunk(number);
  return chunk == nullptr ? nullptr : chunk->blocks[Chunk::IndexOf(number)];
}

uint64_t DiskBlocks::Fingerprint(BlockNumber number) const {
  const Chunk* chunk = FindChunk(number);
  const uint64_t known = chunk == nullptr ? 0 : chunk->fingerprints[Chunk::IndexOf(number)];
  return known != 0 ? known : DiskBlockFingerprint(number, Find(number));
}

DiskBlocks::Chunk& DiskBlocks::MutableChunk(BlockNumber number) {
  if (chunks_->is_shared) {
    // The copied list shares every chunk with the old list.
    auto own = std::make_shared<Chunks>();
    own->list = chunks_->list;
    for (const std::shared_ptr<Chunk>& chunk : own->list) {
      if (chunk != nullptr) chunk->is_shared.store(true, std::memory_order_relaxed);
    }
    chunks_ = std::move(own);
  }
  const uint64_t index = number / Chunk::kBlocks;
  if (index >= chunks_->list.size()) chunks_->list.resize(index + 1);
  std::shared_ptr<Chunk>& chunk = chunks_->list[index];
  if (chunk == nullptr) {
    chunk = std::make_shared<Chunk>();
  } else if (chunk->is_shared) {
    auto own = std::make_shared<Chunk>();
    std::copy(std::begin(chunk->blocks), std::end(chunk->blocks), own->blocks);
    std::copy(std::begin(chunk->fingerprints), std::end(chunk->fingerprints), own->fingerprints);
    chunk = std::move(own);
  }
  return *chunk;
}

void DiskBlocks::Set(BlockNumber number, DiskBlockPtr block) {
  // A block of zeros takes no memory, and equals a block that was never written.
  if (block->hash == ZeroBlock().hash) block = nullptr;
  Chunk& chunk = MutableChunk(number);
  uint64_t& fingerprint = chunk.fingerprints[Chunk::IndexOf(number)];
  fingerprint_ -= fingerprint;
  fingerprint = block == nullptr ? 0 : DiskBlockFingerprint(number, *block);
  fingerprint_ += fingerprint;
  chunk.blocks[Chunk::IndexOf(number)] = std::move(block);
}

void DiskWrite::ApplyTo(DiskBlocks* to) const {
  BlockNumber place = first_block;
  for (size_t i = 0; i < blocks.size(); ++i, ++place) {
    if (blocks[i] == nullptr) continue;
    if (sectors.empty()) {
      to->Set(place, blocks[i]);
      continue;
    }
    const auto first = sectors.begin() + static_cast<ptrdiff_t>(i * kSectorsPerBlock);
    // Nothing of the write reaches this block.
    if (!shorn && std::none_of(first, first + kSectorsPerBlock, [](bool lands) { return lands; })) continue;
    const DiskBlock& before = to->Find(place);
    uint8_t unreadable = before.unreadable;
    char merged[kBlockBytes];
    std::memcpy(merged, before.bytes, kBlockBytes);
    for (uint64_t s = 0; s < kSectorsPerBlock; ++s) {
      const uint8_t bit = 1 << s;
      if (first[static_cast<ptrdiff_t>(s)]) {
        std::memcpy(merged + s * kSectorBytes, blocks[i]->bytes + s * kSectorBytes, kSectorBytes);
        // A sector that is written again becomes readable.
        unreadable &= ~bit;
      } else if (shorn) {
        unreadable |= bit;
      }
    }
    to->Set(place, MakeDiskBlock(merged, unreadable));
  }
}

void DiskWrite::Tear(std::mt19937_64& rng) {
  const size_t count = blocks.size() * kSectorsPerBlock;
  sectors.assign(count, false);
  const uint64_t pattern = rng() % 4;
  const size_t cut = rng() % (count + 1);
  for (size_t i = 0; i < count; ++i) {
    if (pattern == 0) {
      sectors[i] = i < cut;
    } else if (pattern == 1) {
      sectors[i] = i >= cut;
    } else {
      sectors[i] = rng() % 2 == 0;
    }
  }
}

void SimulatedDisk::State::Cache(DiskWrite write) {
  const BlockNumber end = write.first_block + BlockCount(write.blocks.size());
  for (BlockNumber b = write.first_block; keep_previous && b < end; ++b) {
    if (DiskBlockPtr block = current.Share(b)) previous[b] = std::move(block);
  }
  write.ApplyTo(&current);
  unflushed.push_back(std::move(write));
}

void SimulatedDisk::State::CacheAndFlush(DiskWrite write) {
  const BlockNumber end = write.first_block + BlockCount(write.blocks.size());
  // What the cache holds for these blocks is older, and must not come over them later.
  for (DiskWrite& older : unflushed) {
    for (size_t i = 0; i < older.blocks.size(); ++i) {
      const BlockNumber block = older.first_block + BlockCount(i);
      if (block >= write.first_block && block < end) older.blocks[i] = nullptr;
    }
  }
  write.ApplyTo(&medium);
  Cache(std::move(write));
  unflushed.pop_back();
}

void SimulatedDisk::State::FlushBefore(uint64_t end) {
  while (!unflushed.empty() && unflushed_first < end) {
    unflushed.front().ApplyTo(&medium);
    unflushed.pop_front();
    ++unflushed_first;
  }
}

namespace {

// What lies beyond the end of a file reads as zeros.
void Zero(DiskBlocks* blocks, uint64_t from_bytes, uint64_t to_bytes) {
  static const DiskBlockPtr zeros = MakeDiskBlock(ZeroBlock().bytes);
  for (BlockNumber b = DeviceBlockAt(from_bytes); b < DeviceBlockAt(to_bytes); ++b) {
    if (blocks->Share(b) != nullptr) blocks->Set(b, zeros);
  }
}

}  // namespace

void SimulatedDisk::State::CutToDurableLength() {
  Zero(&medium, durable_length_bytes, length_bytes);
  length_bytes = durable_length_bytes;
}

void SimulatedDisk::State::CutTo(uint64_t end_bytes) {
  const BlockNumber end = DeviceBlockAt(end_bytes);
  for (DiskWrite& write : unflushed) {
    for (BlockCount i; i < BlockCount(write.blocks.size()); ++i) {
      if (write.first_block + i >= end) write.blocks[i.value()] = nullptr;
    }
  }
  durable_length_bytes = std::min(durable_length_bytes, end_bytes);
  Zero(&medium, end_bytes, length_bytes);
  Zero(&current, end_bytes, length_bytes);
  length_bytes = end_bytes;
}

void SimulatedDisk::State::FailFlushBefore(uint64_t end, std::mt19937_64& rng) {
  for (size_t i = 0; i < unflushed.size() && unflushed_first + i < end; ++i) {
    DiskWrite& write = unflushed[i];
    // The write stays in the cache, is torn there, or is gone (fault model 7).
    const uint64_t fate = rng() % 3;
    if (fate == 1 && !write.atomic) write.Tear(rng);
    if (fate == 2) write.sectors.assign(write.blocks.size() * kSectorsPerBlock, false);
  }
  // Sectors that are gone show what they held before, so the cache is built again.
  current = medium;
  for (const DiskWrite& write : unflushed) write.ApplyTo(&current);
}

std::vector<DiskWrite> SimulatedDisk::State::CopyInFlight() const {
  std::vector<DiskWrite> writes = orphans;
  for (const DiskUser* user : users) {
    if (user->disconnected) continue;
    for (const DiskWrite* write : user->InFlight()) writes.push_back(*write);
  }
  return writes;
}

std::vector<DiskWrite> SimulatedDisk::State::TakeInFlight(std::mt19937_64& rng) {
  std::vector<DiskWrite> writes = CopyInFlight();
  orphans.clear();
  for (DiskUser* user : users) user->disconnected = true;
  std::shuffle(writes.begin(), writes.end(), rng);
  return writes;
}

SimulatedDisk::SimulatedDisk(uint64_t size_bytes, uint64_t length_bytes, bool is_file)
    : state_(std::make_unique<State>(size_bytes / kBlockBytes * kBlockBytes,
                                     length_bytes / kBlockBytes * kBlockBytes, is_file)) {}

std::shared_ptr<SimulatedDisk> SimulatedDisk::CopyOfMedium() const {
  std::shared_ptr<SimulatedDisk> copy(
      new SimulatedDisk(state_->size_bytes, state_->length_bytes, state_->is_file));
  copy->state_->medium = state_->medium;
  copy->state_->durable_length_bytes = state_->durable_length_bytes;
  return copy;
}

SimulatedDisk::~SimulatedDisk() = default;

uint64_t SimulatedDisk::size_bytes() const { return state_->size_bytes; }
uint64_t SimulatedDisk::length_bytes() const { return state_->length_bytes; }
void SimulatedDisk::SetFull(bool full) {
  std::lock_guard<std::mutex> lock(state_->mu);
  state_->full = full;
}

void SimulatedDisk::SetSize(uint64_t size_bytes) { state_->size_bytes = size_bytes; }

void SimulatedDisk::Crash(std::mt19937_64& rng, int keep_per_mille) {
  std::lock_guard<std::mutex> lock(state_->mu);
  auto land = [&](DiskWrite write) {
    if (rng() % 1000 >= static_cast<uint64_t>(keep_per_mille)) return;
    if (!write.atomic && rng() % 2 == 0) write.Tear(rng);
    write.ApplyTo(&state_->medium);
  };
  // Completed writes land in their order, which counts where they overlap. Writes in flight have no order.
  std::vector<DiskWrite> in_flight = state_->TakeInFlight(rng);
  for (DiskWrite& write : state_->unflushed) land(std::move(write));
  for (DiskWrite& write : in_flight) land(std::move(write));
  state_->unflushed_first += state_->unflushed.size();
  state_->unflushed.clear();
  if (rng() % 2 == 0) state_->CutToDurableLength();
  state_->durable_length_bytes = state_->length_bytes;
  state_->current = state_->medium;
}

void SimulatedDisk::Kill(std::mt19937_64& rng) {
  std::lock_guard<std::mutex> lock(state_->mu);
  for (DiskWrite& write : state_->TakeInFlight(rng)) {
    // The write is lost, torn, or lands whole in the cache (fault model 4).
    const uint64_t outcome = rng() % 3;
    if (outcome == 0) continue;
    if (outcome == 1 && !write.atomic) write.Tear(rng);
    state_->Cache(std::move(write));
  }
}

std::vector<SimulatedDisk::Unflushed> SimulatedDisk::unflushed() const {
  std::lock_guard<std::mutex> lock(state_->mu);
  std::vector<Unflushed> all;
  const auto add = [&](const DiskWrite& write, bool in_flight) {
    all.push_back({write.first_block, write.blocks.size() * kSectorsPerBlock, !write.atomic, in_flight});
  };
  for (const DiskWrite& write : state_->unflushed) {
    if (!write.gone()) add(write, false);
  }
  for (const DiskWrite& write : state_->CopyInFlight()) add(write, true);
  return all;
}

std::shared_ptr<SimulatedDisk> SimulatedDisk::AfterCut(std::span<const Landing> landings) const {
  std::lock_guard<std::mutex> lock(state_->mu);
  std::shared_ptr<SimulatedDisk> after = CopyOfMedium();
  size_t i = 0;
  const auto land = [&](DiskWrite write) {
    if (Lands(landings[i++], &write)) write.ApplyTo(&after->state_->medium);
  };
  for (const DiskWrite& write : state_->unflushed) {
    if (!write.gone()) land(write);
  }
  for (DiskWrite& write : state_->CopyInFlight()) land(std::move(write));
  UNTORN_CHECK(i == landings.size(), "AfterCut needs a landing for each unflushed write");
  after->state_->CutToDurableLength();
  // The power cut empties the cache.
  after->state_->current = after->state_->medium;
  return after;
}

std::shared_ptr<SimulatedDisk> SimulatedDisk::AfterKill(std::span<const Landing> landings) const {
  std::lock_guard<std::mutex> lock(state_->mu);
  std::shared_ptr<SimulatedDisk> after = CopyOfMedium();
  after->state_->current = state_->current;
  after->state_->unflushed = state_->unflushed;
  // The landings of completed writes do not count, because the cache survives.
  size_t i = static_cast<size_t>(std::count_if(state_->unflushed.begin(), state_->unflushed.end(),
                                               [](const DiskWrite& write) { return !write.gone(); }));
  for (DiskWrite& write : state_->CopyInFlight()) {
    if (Lands(landings[i++], &write)) after->state_->Cache(std::move(write));
  }
  UNTORN_CHECK(i == landings.size(), "AfterKill needs a landing for each unflushed write");
  return after;
}

void SimulatedDisk::SetObserver(std::function<void()> observer) {
  std::lock_guard<std::mutex> lock(state_->mu);
  state_->observer = std::move(observer);
}

uint64_t SimulatedDisk::Fingerprint() const {
  std::lock_guard<std::mutex> lock(state_->mu);
  uint64_t all = state_->medium.fingerprint() + state_->LengthFingerprint();
  // What is cached counts in the order of writing: a later power cut depends on that order.
  for (const DiskWrite& write : state_->unflushed) {
    for (size_t i = 0; i < write.blocks.size(); ++i) {
      if (write.blocks[i] == nullptr) continue;
      all = all * 31 + state_->current.Fingerprint(write.first_block + BlockCount(i));
    }
  }
  return all;
}

uint64_t SimulatedDisk::Fingerprint(std::span<const BlockNumber> blocks) const {
  std::lock_guard<std::mutex> lock(state_->mu);
  uint64_t all = state_->LengthFingerprint();
  for (BlockNumber block : blocks) all += state_->current.Fingerprint(block);
  return all;
}

void SimulatedDisk::Peek(uint64_t offset_bytes, void* out, uint64_t length_bytes) const {
  UNTORN_CHECK(offset_bytes + length_bytes <= state_->size_bytes, "beyond the simulated disk");
  std::lock_guard<std::mutex> lock(state_->mu);
  char* to = static_cast<char*>(out);
  while (length_bytes > 0) {
    const uint64_t in_block = offset_bytes % kBlockBytes;
    const uint64_t count = std::min(length_bytes, kBlockBytes - in_block);
    std::memcpy(to, state_->current.Find(DeviceBlockAt(offset_bytes)).bytes + in_block, count);
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
    // Cache and medium may differ in the rest of the block, and each keeps its own rest.
    for (DiskBlocks* blocks : {&state_->medium, &state_->current}) {
      char bytes[kBlockBytes];
      std::memcpy(bytes, blocks->Find(DeviceBlockAt(offset_bytes)).bytes, kBlockBytes);
      std::memcpy(bytes + in_block, from, count);
      blocks->Set(DeviceBlockAt(offset_bytes), MakeDiskBlock(bytes));
    }
    from += count;
    offset_bytes += count;
    length_bytes -= count;
  }
}

bool SimulatedDisk::IsReadable(BlockNumber block) const {
  std::lock_guard<std::mutex> lock(state_->mu);
  return state_->current.Find(block).unreadable == 0;
}

std::shared_ptr<SimulatedDisk> SimulatedDisk::Clone() const {
  std::lock_guard<std::mutex> lock(state_->mu);
  std::shared_ptr<SimulatedDisk> clone = CopyOfMedium();
  clone->state_->current = state_->current;
  clone->state_->unflushed = state_->unflushed;
  clone->state_->unflushed_first = state_->unflushed_first;
  // The clone has no device, so writes in flight become orphans.
  clone->state_->orphans = state_->CopyInFlight();
  return clone;
}

}  // namespace untorn
