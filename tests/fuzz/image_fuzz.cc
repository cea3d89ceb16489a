#include "tests/fuzz/image_fuzz.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "inspect/on_device.h"
#include "store/on_device.h"
#include "tests/fuzz/base_image.h"
#include "tests/fuzz/image_editor.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn {
namespace {

using DiskPtr = std::shared_ptr<SimulatedDisk>;

// Reads everything, and where it may writes something. The first failure but for lack of space.
absl::Status Use(const DiskPtr& disk, bool read_only) {
  absl::Status lost;
  const auto note = [&](const absl::Status& status) {
    if (!status.ok() && status.message().empty()) std::abort();
    if (lost.ok() && !absl::IsResourceExhausted(status)) lost = status;
  };
  absl::StatusOr<std::unique_ptr<Store>> store =
      internal::OpenOnDevice(DeviceOn(disk), {.read_only = read_only, .cache_bytes = 4 << 20}, false);
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
      for (uint64_t at : {uint64_t{0}, info.size_bytes / 2})
        note(object->Read(at, bytes, {.bypass_cache = true}).status());
      // Those without data are many, and all alike.
      if (read_only || info.size_bytes == 0) continue;
      note(object->Write(info.size_bytes % 100'000, std::span(bytes).first(5000)));
    }
  }
  if (!read_only) {
    note((*store)->CreateObject("made now").status());
    note((*store)->Sync());
    note((*store)->Checkpoint());
    note((*store)->Close());
  }
  return lost;
}

bool HasFindings(const DiskPtr& disk, bool data = true) {
  const absl::StatusOr<FsckResult> result = FsckDevice(*DeviceOn(disk), {.data = data});
  return !result.ok() || result->findings_total > 0;
}

// For an image that fsck has found nothing in: it can be used, and then nothing is found either.
void MustBeSound(const DiskPtr& disk) {
  absl::Status lost = Use(disk, false);
  if (absl::IsUnimplemented(lost)) return;  // feature bits that forbid writing
  if (!lost.ok()) {
    std::fprintf(stderr, "fsck finds nothing, but: %s\n", lost.ToString().c_str());
    std::abort();
  }
  const absl::StatusOr<FsckResult> after = FsckDevice(*DeviceOn(disk), {.data = true});
  Must(after.status());
  if (after->findings_total == 0) return;
  std::fprintf(stderr, "fsck finds nothing, but once the store has been used: %s\n",
               after->findings[0].what.c_str());
  std::abort();
}

void Run(FuzzTarget target, const DiskPtr& disk, bool read_only) {
  switch (target) {
    case FuzzTarget::kOpen:
      (void)Use(disk, read_only);
      break;
    case FuzzTarget::kFsck:
      if (!HasFindings(disk)) MustBeSound(disk);
      break;
    case FuzzTarget::kDump: {
      absl::StatusOr<std::string> dump = DumpJsonDevice(*DeviceOn(disk), {});
      if (dump.ok() && !nlohmann::json::accept(*dump)) {
        std::fprintf(stderr, "dump writes what is no JSON\n");
        std::abort();
      }
      break;
    }
    case FuzzTarget::kRepair: {
      const absl::StatusOr<RepairResult> repair = RepairDevice(*DeviceOn(disk), {});
      if (repair.ok()) {
        if (HasFindings(disk, /*data=*/false)) std::abort();
        // No repair mends data.
        if (!HasFindings(disk)) MustBeSound(disk);
      } else if (!absl::IsFailedPrecondition(repair.status()) &&
                 !absl::IsResourceExhausted(repair.status())) {
        Must(repair.status());
      }
      break;
    }
  }
}

}  // namespace

void FuzzImage(FuzzTarget target, std::span<const uint8_t> input) {
  if (input.empty()) {  // the bases as they are
    for (int i = 0; i < kBaseImages; ++i) {
      const DiskPtr disk = GetBaseImage(i).disk->Clone();
      if (HasFindings(disk)) std::abort();
      Must(Use(disk, true));
      MustBeSound(disk);
    }
    return;
  }
  using Finish = ImageEditor::Finish;
  constexpr Finish kFinishes[] = {Finish::kNot,    Finish::kSeal,   Finish::kMirror, Finish::kMirror,
                                  Finish::kTotals, Finish::kTotals, Finish::kTotals, Finish::kTotals};
  const uint8_t first = input[0];
  ImageEditor editor(GetBaseImage(first % 4 % kBaseImages));
  for (input = input.subspan(1); input.size() >= kEditBytes; input = input.subspan(kEditBytes))
    editor.Edit(input.first(kEditBytes));
  Run(target, editor.FinishedDisk(kFinishes[first / 4 % std::size(kFinishes)]), first >= 128);
}

}  // namespace untorn
