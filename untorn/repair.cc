// fsck --repair: what fsck finds → what can be read, put in order → that written beside the old → superblocks.
#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "device/file_device.h"
#include "untorn/fsck_report.h"
#include "untorn/inspect.h"
#include "untorn/rebuild.h"
#include "untorn/salvage.h"

namespace untorn {
namespace internal {
namespace {

class Repair {
 public:
  Repair(Device& device, const RepairOptions& options) : device_(device), options_(options) {}

  absl::StatusOr<RepairResult> Run() {
    // What a dead owner left in the disk's cache must be durable before anything is built on it.
    if (!options_.dry_run) {
      if (absl::Status s = FlushBlocking(device_); !s.ok()) return s;
    }
    absl::StatusOr<FsckResult> found = FsckStage(0);
    if (!found.ok()) return found.status();
    result_.found = *std::move(found);
    if (result_.found.findings_total == 0) return std::move(result_);

    slots_ = ReadSuperblocks(device_);
    absl::StatusOr<Superblock> usable = UsableSuperblock(slots_, device_.info(), /*for_writing=*/true);
    if (!usable.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("this cannot be repaired: ", Message(usable.status())));
    }
    if (usable->generation != result_.found.generation || usable->epoch != result_.found.epoch)
      return absl::InternalError("the device does not read the same twice; the store is as it was");
    const bool only_superblock = result_.found.findings_total == 1 &&
                                 result_.found.findings[0].code == FindingCode::kSuperblockUnreadable;
    absl::Status done = only_superblock ? CopySuperblock(*usable) : WriteAnew(*usable);
    if (!done.ok()) return done;
    if (options_.dry_run) return std::move(result_);

    absl::StatusOr<FsckResult> after = FsckStage(2);
    if (!after.ok()) return after.status();
    result_.after = *std::move(after);
    result_.repaired = true;
    if (result_.after.findings_total > 0) {
      return absl::InternalError(absl::StrCat("findings are left after the repair, which is a bug: ",
                                              result_.after.findings[0].what));
    }
    return std::move(result_);
  }

 private:
  // fsck, the repair, fsck: each counts the same.
  static constexpr uint64_t kStages = 3, kStageParts = 1000;

  std::function<void(uint64_t, uint64_t)> Stage(uint64_t stage) {
    if (!options_.progress) return {};
    return [this, stage](uint64_t done, uint64_t total) {
      options_.progress(stage * kStageParts + done * kStageParts / std::max<uint64_t>(total, 1),
                        kStages * kStageParts);
    };
  }
  absl::StatusOr<FsckResult> FsckStage(uint64_t stage) { return FsckDevice(device_, Stage(stage)); }

  void Planned() {
    if (options_.planned) options_.planned(result_);
  }
  template <typename... Words>
  void Act(const Words&... words) {
    result_.actions.push_back(absl::StrCat(words...));
    ++result_.actions_total;
  }

  absl::Status CopySuperblock(const Superblock& superblock) {
    const int spare = 1 - slots_.current;
    Act("write superblock slot ", spare, " anew from slot ", slots_.current);
    Planned();
    return options_.dry_run ? absl::OkStatus() : WriteSuperblockSlot(device_, superblock, spare);
  }

  absl::Status WriteAnew(const Superblock& superblock) {
    Progress progress(Stage(1), superblock.tree.node_count * 3);  // the tree is read three times
    Salvage salvage(device_, superblock, progress);
    if (absl::Status s = salvage.Read(); !s.ok()) return s;
    if (!salvage.tail().damage.ok())
      Act("end the log at record ", salvage.tail().lsn, ": what was durable after it is lost");
    Act("write the mapping tree anew from what can be read of it",
        salvage.nodes_lost() == 0 ? "" : absl::StrCat("; nodes of it that cannot: ", salvage.nodes_lost()));
    Act("build the free-space map anew from the mappings: what nothing uses is free");
    Act("write both superblock slots");
    result_.actions_total += salvage.actions_total();
    result_.actions.insert(result_.actions.end(), salvage.actions().begin(), salvage.actions().end());
    result_.quarantined = salvage.quarantined();
    Planned();
    if (options_.dry_run) return absl::OkStatus();
    const auto& spare = slots_.slots[1 - slots_.current];
    return Rebuild(device_, superblock, slots_.current, spare.ok() ? spare->generation : 0, salvage);
  }

  Device& device_;
  const RepairOptions& options_;
  SuperblockSlots slots_;
  RepairResult result_;
};

}  // namespace
}  // namespace internal

absl::StatusOr<RepairResult> RepairDevice(Device& device, const RepairOptions& options) {
  return internal::Repair(device, options).Run();
}

absl::StatusOr<RepairResult> Repair(const std::string& path, const RepairOptions& options) {
  absl::StatusOr<std::unique_ptr<Device>> device = OpenFileDevice(path, {.read_only = options.dry_run});
  if (!device.ok()) return device.status();
  return RepairDevice(**device, options);
}

}  // namespace untorn
