// The background has two threads of the store's own, and a pool of threads for asynchronous reads. Tests and
// simulations run without threads; calls of the store then do the same work.
//
// The first thread sends what nobody waits for, reaps what nobody waits for, and makes callbacks. The second
// thread makes checkpoints, prepares space, and looks for other processes that read or watch. So neither checkpoints nor
// preparing hold up asynchronous writes.
//
// Threading: the caller holds the lock, except for Run() and Join().
#ifndef UNTORN_STORE_BACKGROUND_H_
#define UNTORN_STORE_BACKGROUND_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/lock.h"
#include "store/cache_limit.h"
#include "store/publisher.h"
#include "writeback/checkpointer.h"
#include "writeback/committer.h"
#include "writeback/parts.h"
#include "writeback/readers.h"

namespace untorn::internal {

class Background {
 public:
  // `limit` and `publisher` must outlive the background.
  Background(std::mutex& mu, const Parts& parts, Committer& committer, Checkpointer& checkpointer,
             Readers& readers, CacheLimit& limit, Publisher& publisher);

  // Starts the threads. Until Start() is called, AfterChange() does all work. kResourceExhausted: the process may not have
  // more threads; the background has to be stopped then.
  absl::Status Start() REQUIRES_STORE_LOCK;
  // Must be called at the end of every call that changed something. Evicts pages beyond the limit. Wakes the
  // threads if work is due; without threads, does the work. Without threads the call releases the lock
  // meanwhile.
  void AfterChange(Lock& lock) REQUIRES_STORE_LOCK;
  // Makes the first thread look for callbacks, and for wanted change sets.
  void Wake() REQUIRES_STORE_LOCK;
  // Runs `work` on a thread of the pool. If the store has no threads or is closed, runs `work` within the
  // call.
  void Run(std::function<void()> work) EXCLUDES_STORE_LOCK;
  // Waits until the pool has done all work that Run() gave to it.
  void AwaitRun(Lock& lock) REQUIRES_STORE_LOCK;
  // Asks the threads to end. The caller then releases the lock and calls Join(), which waits for the threads.
  void Stop() REQUIRES_STORE_LOCK;
  void Join() EXCLUDES_STORE_LOCK;

 private:
  absl::Status StartThread(void (Background::*loop)()) REQUIRES_STORE_LOCK;
  void WritebackLoop() EXCLUDES_STORE_LOCK;
  void MaintenanceLoop() EXCLUDES_STORE_LOCK;
  void RunLoop() EXCLUDES_STORE_LOCK;
  void Serve() REQUIRES_STORE_LOCK;
  // Forgets what is idle, looks at the file, and fits the page cache to what memory the machine has, now and then. Releases
  // the lock meanwhile.
  void Tidy(Lock& lock) REQUIRES_STORE_LOCK;
  // Does what is due of checkpoints and growth. Returns false if nothing was.
  bool MaintenanceStep(Lock& lock) REQUIRES_STORE_LOCK;
  void WakeMaintenance() REQUIRES_STORE_LOCK {
    ++maintenance_wakes_;
    maintenance_cv_.notify_one();
  }

  std::mutex& mu_;
  const Parts parts_;
  Committer& committer_;
  Checkpointer& checkpointer_;
  Readers& readers_;
  CacheLimit& limit_;
  Publisher& publisher_;
  bool started_ GUARDED_BY_STORE_LOCK = false, stop_ GUARDED_BY_STORE_LOCK = false;
  // Of the first thread, and of the second.
  uint64_t wakes_ GUARDED_BY_STORE_LOCK = 0, maintenance_wakes_ GUARDED_BY_STORE_LOCK = 0;
  std::chrono::steady_clock::time_point tidied_ GUARDED_BY_STORE_LOCK;
  std::condition_variable maintenance_cv_, work_cv_;
  std::vector<std::thread> threads_ GUARDED_BY_STORE_LOCK;
  std::deque<std::function<void()>> work_ GUARDED_BY_STORE_LOCK;
  int workers_ GUARDED_BY_STORE_LOCK = 0, busy_workers_ GUARDED_BY_STORE_LOCK = 0;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_BACKGROUND_H_
