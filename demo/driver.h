// The demo's parent: sets a store up, has a child write into it, kills the child, and checks what is left.
#ifndef UNTORN_DEMO_DRIVER_H_
#define UNTORN_DEMO_DRIVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "demo/check.h"
#include "demo/plan.h"
#include "demo/report.h"
#include "demo/shared.h"
#include "untorn/store.h"

namespace untorn::demo {

struct DriverOptions {
  std::string name;         // of the mode
  std::string file;         // to import
  uint64_t file_bytes = 0;  // its first bytes that are used
  std::string directory;
  int rounds = 20;
  uint64_t seed = 1;
  OpenOptions open;
  // Arguments for this same program that make it the child of this mode: RunChild, or only an open.
  std::function<std::vector<std::string>(const std::string& store, const std::string& shared, uint64_t seed,
                                         bool open_only)>
      child_arguments;
};

class Driver {
 public:
  explicit Driver(DriverOptions options);
  //  An error where the demo could not go on; what it checks is in the report.
  absl::StatusOr<ModeReport> Run();

 private:
  absl::Status SetUp();
  absl::Status Import(Store& store);
  absl::Status WriteFirstVersions(Store& store);
  absl::Status RunRound(int round);
  absl::Status RunChildAndKill(uint64_t seed, std::chrono::milliseconds delay);
  absl::Status KillDuringRecovery();
  absl::Status CheckWithFsck(const std::string& when);
  absl::Status CheckStore(Store& store, bool whole_file);
  absl::Status ResetAppends(size_t track, const Object& appends);
  void ResumeFrom(size_t track, const std::array<uint64_t, kPiecesMax>& versions);
  absl::StatusOr<int> Spawn(const std::vector<std::string>& arguments);
  std::string ChildMessage() const;

  const DriverOptions options_;
  const std::string store_path_;
  const std::string shared_path_;
  const std::vector<Track> tracks_;
  const std::vector<std::pair<uint64_t, uint64_t>> untouched_;
  uint64_t untouched_hash_ = 0;
  std::optional<SharedMemory> shared_;
  std::mt19937_64 random_;
  ModeReport report_;
};

}  // namespace untorn::demo

#endif  // UNTORN_DEMO_DRIVER_H_
