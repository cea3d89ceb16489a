#include "tests/fuzz/image_fuzz.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "device/simulated_device.h"
#include "extent/block_header.h"
#include "extent/superblock.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn {
namespace {

using Bytes = std::array<std::byte, kBlockBytes>;

void Must(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::abort();
}

std::unique_ptr<SimulatedDevice> DeviceOn(const std::shared_ptr<SimulatedDisk>& disk) {
  SimulatedDeviceOptions options;
  options.shuffle = false;
  options.atomic = {AtomicSource::kHardware, 4096, 16384, 0};
  return std::make_unique<SimulatedDevice>(disk, options);
}

absl::StatusOr<std::unique_ptr<Store>> OpenOn(const std::shared_ptr<SimulatedDisk>& disk, bool read_only) {
  return Store::OpenOnDevice(DeviceOn(disk), {.read_only = read_only, .cache_bytes = 4 << 20}, false);
}

struct Base {
  std::shared_ptr<SimulatedDisk> disk;
  std::vector<uint64_t> metadata;  // blocks
};

// A store with some of everything, with records in its log; `objects` decides how many levels its tree has.
Base MakeBase(int objects) {
  Base base;
  base.disk = std::make_shared<SimulatedDisk>(16 << 20);
  Must(Store::CreateOnDevice(*DeviceOn(base.disk), {}));
  absl::StatusOr<std::unique_ptr<Store>> opened = OpenOn(base.disk, false);
  Must(opened.status());
  Store& store = **opened;
  const std::vector<std::byte> data(20000, std::byte{0x5a});
  for (int i = 0; i < objects; ++i) {
    absl::StatusOr<Object> object = store.CreateObject(absl::StrCat("object of some name ", i));
    Must(object.status());
    for (uint64_t at : {0, 40000}) Must(object->Write(at, std::span(data).first(5000 + i % 3 * 4096)));
    if (i % 5 == 0) Must(object->Preallocate(100000, 20000));
  }
  Must(store.Sync());
  Must(store.Checkpoint());
  absl::StatusOr<Object> object = store.OpenObject("object of some name 0");
  Must(object.status());
  for (uint64_t at : {0, 4096, 9000}) {
    Must(object->Write(at, std::span(data).first(9000), {.durability = Durability::kSync}));
  }
  Must(object->PunchHole(4096, 8192, Durability::kSync));
  Must(object->Truncate(30000, Durability::kSync));
  Must(store.Rename("object of some name 1", "another", Durability::kSync));
  Must(store.Remove("object of some name 2", Durability::kSync));
  *object = Object();
  std::mt19937_64 rng(1);
  base.disk->Kill(rng);
  opened->reset();

  DumpOptions options;
  options.objects = false;
  absl::StatusOr<std::string> dump = DumpJsonDevice(*DeviceOn(base.disk), options);
  Must(dump.status());
  const nlohmann::json json = nlohmann::json::parse(*dump);
  const SuperblockSlots slots = ReadSuperblocks(*DeviceOn(base.disk));
  const Superblock& sb = *slots.slots[slots.current];
  for (uint64_t slot : kSuperblockSlots) base.metadata.push_back(slot);
  for (uint64_t p = sb.checkpoint_position; p < sb.checkpoint_position + 12; ++p) {
    base.metadata.push_back(sb.geometry.log_start + p % sb.geometry.log_blocks);
  }
  for (const char* part : {"tree", "free_map"}) {
    for (const auto& node : json[part]["nodes"]) {
      if (node.count("block")) base.metadata.push_back(node["block"].get<uint64_t>());
    }
  }
  return base;
}

// What an input is read from; zeros behind its end.
class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  uint8_t Byte() {
    if (bytes_.empty()) return 0;
    const uint8_t byte = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return byte;
  }
  uint16_t Short() { return static_cast<uint16_t>(Byte() | Byte() << 8); }

 private:
  std::span<const uint8_t> bytes_;
};

class Editor {
 public:
  explicit Editor(const Base& base) : base_(base), disk_(base.disk->Clone()) {
    for (uint64_t block : base.metadata) {
      Bytes& bytes = blocks_.emplace_back();
      disk_->Peek(block * kBlockBytes, bytes.data(), kBlockBytes);
    }
    before_ = blocks_;
  }

  void Edit(Input& input) {
    const uint8_t kind = input.Byte();
    Bytes& block = blocks_[input.Short() % blocks_.size()];
    size_t at = input.Short() % kBlockBytes;
    // Most of what means something is at the beginning, or, in tree nodes, at the end.
    if ((kind & 0x40) != 0) at %= 512;
    if ((kind & 0x80) != 0) at = kBlockBytes - 1 - at % 512;
    switch (kind % 6) {
      case 0:
        block[at] ^= std::byte{input.Byte()};
        break;
      case 1:
        for (uint8_t n = input.Byte() % 16; n > 0 && at < kBlockBytes; --n)
          block[at++] = std::byte{input.Byte()};
        break;
      case 2: {
        static constexpr uint64_t kInteresting[] = {0,          1,          0x7f,       0xff,
                                                    0x7fff,     0xffff,     0x7fffffff, 0xffffffff,
                                                    1ull << 48, 1ull << 60, 1ull << 63, UINT64_MAX};
        const uint64_t value = kInteresting[input.Byte() % std::size(kInteresting)];
        std::memcpy(block.data() + at, &value, std::min<size_t>(1 << input.Byte() % 4, kBlockBytes - at));
        break;
      }
      case 3:
        block = blocks_[input.Short() % blocks_.size()];
        break;
      case 4:
        block = {};
        break;
      case 5: {
        const Bytes& from = blocks_[input.Short() % blocks_.size()];
        const size_t source = input.Short() % kBlockBytes, n = input.Byte();
        std::memmove(block.data() + at, from.data() + source,
                     std::min({n, kBlockBytes - at, kBlockBytes - source}));
        break;
      }
    }
  }

  // Seals what was changed, and puts its new checksum where the old one stood: in what points to it, and so on.
  void Seal() {
    std::vector<uint64_t> old(blocks_.size());
    for (size_t i = 0; i < blocks_.size(); ++i) {
      std::memcpy(&old[i], before_[i].data() + offsetof(BlockHeader, checksum), sizeof(uint64_t));
    }
    std::set<size_t> changed;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (blocks_[i] != before_[i]) changed.insert(i);
    }
    for (int round = 0; round < 8 && !changed.empty(); ++round) {
      std::set<size_t> next;
      for (size_t i : changed) {
        const uint64_t sealed = SealBlock(blocks_[i]);
        for (size_t j = 0; j < blocks_.size() && old[i] != 0; ++j) {
          if (j != i && Replace(blocks_[j], old[i], sealed)) next.insert(j);
        }
        old[i] = sealed;
      }
      changed = std::move(next);
    }
  }

  std::shared_ptr<SimulatedDisk> Disk() {
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (blocks_[i] != before_[i])
        disk_->Poke(base_.metadata[i] * kBlockBytes, blocks_[i].data(), kBlockBytes);
    }
    return disk_;
  }

 private:
  static bool Replace(Bytes& block, uint64_t from, uint64_t to) {
    bool found = false;
    for (size_t at = sizeof(BlockHeader); at + sizeof(from) <= kBlockBytes; ++at) {
      if (std::memcmp(block.data() + at, &from, sizeof(from)) != 0) continue;
      std::memcpy(block.data() + at, &to, sizeof(to));
      found = true;
    }
    return found;
  }

  const Base& base_;
  std::shared_ptr<SimulatedDisk> disk_;
  std::vector<Bytes> blocks_, before_;
};

// Reads everything, and where it may writes something. The first failure but for lack of space.
absl::Status Use(const std::shared_ptr<SimulatedDisk>& disk, bool read_only) {
  absl::Status lost;
  const auto note = [&](const absl::Status& status) {
    if (!status.ok() && status.message().empty()) std::abort();
    if (lost.ok() && !absl::IsResourceExhausted(status)) lost = status;
  };
  absl::StatusOr<std::unique_ptr<Store>> store = OpenOn(disk, read_only);
  note(store.status());
  if (!store.ok()) return lost;
  absl::StatusOr<std::vector<ObjectInfo>> list = (*store)->List("", 1000);
  note(list.status());
  std::vector<std::byte> bytes(1 << 16);
  if (list.ok()) {
    for (const ObjectInfo& info : *list) {
      absl::StatusOr<Object> object = (*store)->OpenObject(info.name);
      note(object.status());
      if (!object.ok()) continue;
      note(object->Read(0, bytes).status());
      if (read_only) continue;
      note(object->Write(info.size_bytes % 100'000, std::span(bytes).first(5000)));
    }
  }
  if (!read_only) {
    note((*store)->CreateObject("made now").status());
    note((*store)->Sync());
    note((*store)->Checkpoint());
  }
  return lost;
}

}  // namespace

void FuzzImage(FuzzTarget target, std::span<const uint8_t> bytes) {
  static const Base bases[] = {MakeBase(8), MakeBase(80)};
  if (bytes.empty()) {  // as they are
    for (const Base& base : bases) {
      const absl::StatusOr<FsckResult> result = FsckDevice(*DeviceOn(base.disk));
      if (!result.ok() || result->findings_total > 0) std::abort();
      Must(Use(base.disk->Clone(), true));
      Must(Use(base.disk->Clone(), false));
    }
  }
  Input input(bytes);
  const uint8_t first = input.Byte();
  Editor editor(bases[first % std::size(bases)]);
  for (int edits = 0; edits < 64 && !input.empty(); ++edits) editor.Edit(input);
  if ((first & 0x80) == 0) editor.Seal();
  const std::shared_ptr<SimulatedDisk> disk = editor.Disk();
  switch (target) {
    case FuzzTarget::kOpen:
      (void)Use(disk->Clone(), true);
      (void)Use(disk, false);
      break;
    case FuzzTarget::kFsck: {
      absl::StatusOr<FsckResult> result = FsckDevice(*DeviceOn(disk));
      if (result.ok() && result->findings_total == 0) {
        if (absl::Status lost = Use(disk, false); !lost.ok()) {
          std::fprintf(stderr, "fsck finds nothing, but: %s\n", lost.ToString().c_str());
          std::abort();
        }
      }
      break;
    }
    case FuzzTarget::kDump: {
      absl::StatusOr<std::string> dump = DumpJsonDevice(*DeviceOn(disk), {});
      if (dump.ok() && !nlohmann::json::accept(*dump)) {
        std::fprintf(stderr, "dump writes what is no JSON\n");
        std::abort();
      }
      break;
    }
  }
}

}  // namespace untorn
