// fsck --repair: runs fsck, and salvages what can be read. Then it writes a new tree and a new free-space map
// beside the old ones, and last the superblocks that refer to them.
#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/memory_reserve.h"
#include "base/status_macros.h"
#include "device/file_device.h"
#include "inspect/describe.h"
#include "inspect/on_device.h"
#include "inspect/progress.h"
#include "inspect/rebuild.h"
#include "inspect/salvage.h"
#include "untorn/inspect.h"

namespace untorn {
namespace internal {
namespace {

class Repair {
 public:
  Repair(Device& device, const RepairOptions& options) : device_(device), options_(options) {}

  absl::StatusOr<RepairResult> Run() {
    // A dead owner may have left writes in the disk's cache. They must be durable before the repair builds on
    // them.
    if (!options_.dry_run) RETURN_IF_ERROR(FlushBlocking(device_));
    ASSIGN_OR_RETURN(result_.found, FsckStage(0));
    if (result_.found.findings_total == 0) return std::move(result_);

    slots_ = ReadSuperblocks(device_);
    absl::StatusOr<Superblock> usable = UsableSuperblock(slots_, device_, /*for_writing=*/true);
    if (!usable.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("this cannot be repaired: ", Message(usable.status())));
    }
    if (usable->generation != Generation(result_.found.generation) ||
        usable->epoch != LogEpoch(result_.found.log_epoch))
      return absl::InternalError("the device does not read the same twice; the store is as it was");
    const bool only_superblock = result_.found.findings_total == 1 &&
                                 result_.found.findings[0].code == FindingCode::kSuperblockUnreadable;
    RETURN_IF_ERROR(only_superblock ? CopySuperblock(*usable) : WriteAnew(*usable));
    if (options_.dry_run) return std::move(result_);

    ASSIGN_OR_RETURN(result_.after, FsckStage(2));
    result_.repaired = true;
    if (result_.after.findings_total > 0) {
      return absl::InternalError(absl::StrCat("findings are left after the repair, which is a bug: ",
                                              result_.after.findings[0].what));
    }
    return std::move(result_);
  }

 private:
  // Progress has three stages of the same size: fsck, the repair, fsck.
  static constexpr uint64_t kStages = 3, kStageParts = 1000;

  std::function<void(uint64_t, uint64_t)> Stage(uint64_t stage) {
    if (!options_.progress) return {};
    return [this, stage](uint64_t done, uint64_t total) {
      options_.progress(stage * kStageParts + done * kStageParts / std::max<uint64_t>(total, 1),
                        kStages * kStageParts);
    };
  }
  absl::StatusOr<FsckResult> FsckStage(uint64_t stage) {
    return FsckDevice(device_, {.progress = Stage(stage)});
  }

  void Planned() {
    if (options_.planned) options_.planned(result_);
  }
  template <typename... Words>
  void Act(const Words&... words) {
    result_.actions.push_back(absl::StrCat(Word(words)...));
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
    RETURN_IF_ERROR(salvage.Read());
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
    return Rebuild(device_, superblock, slots_.current, spare.ok() ? spare->generation : Generation(0),
                   salvage);
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
  return UnlessOutOfMemory([&]() -> absl::StatusOr<RepairResult> {
    ASSIGN_OR_RETURN(const std::unique_ptr<Device> device,
                     OpenFileDevice(path, {.read_only = options.dry_run}));
    return RepairDevice(*device, options);
  });
}

}  // namespace untorn
