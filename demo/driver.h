// The demo's parent process: it sets up a store, starts a child that writes, kills the child, and checks the
// store.
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
  std::string name;         // the mode's name
  std::string file;         // the file to import
  uint64_t file_bytes = 0;  // how many of the file's first bytes are used
  std::string directory;
  int rounds = 20;
  uint64_t seed = 1;
  OpenOptions open;
  // Returns the arguments that make this program the child of this mode. With `open_only` the child opens the
  // store and does nothing else.
  std::function<std::vector<std::string>(const std::string& store, const std::string& shared, uint64_t seed,
                                         bool open_only)>
      child_arguments;
};

class Driver {
 public:
  explicit Driver(DriverOptions options);
  // Fails if the demo cannot go on. The report has the results of the checks.
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
