// A store that is open for reading while another process has it open for writing (extent/lease.h).
#ifndef UNTORN_STORE_BESIDE_OWNER_H_
#define UNTORN_STORE_BESIDE_OWNER_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "extent/open_for_reading.h"
#include "store/fork_guard.h"
#include "store/store_impl.h"
#include "untorn/options.h"

namespace untorn::internal {

// Holds the newest state of such a store. The store shares it with all its states.
//
// Threading: thread-safe. In a fork()ed child the lock may be held for ever, so a child does without it. It finds a state that is
// whole, because a refresh changes only the place that is not the newest.
class NewestState {
 public:
  // Opens the first state.
  static absl::StatusOr<std::shared_ptr<NewestState>> Open(ReadDevice leased, const OpenOptions& options);

  std::shared_ptr<StoreImpl> Get() const;
  // Opens a state that has all that is durable now. The older state stays until nobody uses it, but its reads may fail.
  // After an error the older state stays the newest.
  //  kUnavailable         there is no owner, or it does not answer
  //  kFailedPrecondition  there is another store now
  absl::Status Refresh();

 private:
  NewestState(std::string path, const Uuid& uuid, const OpenOptions& options)
      : path_(std::move(path)), uuid_(uuid), options_(options) {}

  const std::string path_;
  const Uuid uuid_;
  const OpenOptions options_;
  std::mutex refresh_mu_;  // one thread at a time refreshes
  const ForkGuard fork_guard_;
  mutable std::mutex mu_;
  std::shared_ptr<StoreImpl> states_[2];
  std::atomic<int> newest_ = 0;
};

// Opens the state that is leased.
absl::StatusOr<std::shared_ptr<StoreImpl>> OpenLeased(ReadDevice leased, const OpenOptions& options);

}  // namespace untorn::internal

#endif  // UNTORN_STORE_BESIDE_OWNER_H_
