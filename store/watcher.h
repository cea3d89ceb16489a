// The watcher reads what the owner of a store publishes (store/publisher.h). While a watcher lives, the owner publishes.
//
// The file may be there already, from an owner that was killed. A watcher believes only what has changed since the watcher
// began, and only if an owner is there afterwards.
//
// Threading: not thread-safe.
#ifndef UNTORN_STORE_WATCHER_H_
#define UNTORN_STORE_WATCHER_H_

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "device/device.h"
#include "store/stats_file.h"

namespace untorn::internal {

class Watcher {
 public:
  // Asks the owner of the store for its statistics. Takes no lock that keeps anybody out.
  //  kUnavailable  no process has the store open for writing
  // The other errors are those of OpenFileDevice.
  static absl::StatusOr<std::unique_ptr<Watcher>> Open(const std::string& path);

  // Returns the newest page, a text of PrometheusText(), if it is newer than the last one. Does not wait: a page comes about
  // once a second.
  //  kAborted           the process that had the store open has closed it, or has ended
  //  kUnavailable       nothing has come for 5 seconds, or the owner cannot write the file; the message says what to do
  //  kPermissionDenied  this process may not read the file
  absl::StatusOr<std::optional<std::string>> Poll();

 private:
  using Clock = std::chrono::steady_clock;

  Watcher(std::unique_ptr<Device> device, const std::string& path)
      : device_(std::move(device)), file_(path) {}
  // "process N", or words for a process that cannot be seen.
  std::string Owner() const;

  const std::unique_ptr<Device> device_;
  const StatsFile file_;
  std::string last_;
  Clock::time_point last_came_ = Clock::now();
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_WATCHER_H_
