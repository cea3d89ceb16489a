// What goes on in the background: two threads of the store's own, and a pool for asynchronous reads. Without threads
// (in tests and simulations) the same work is done inside calls.
//
// One thread sends what nobody waits for, reaps what nobody waits for, and makes callbacks. The other makes checkpoints
// and prepares space, so that neither holds up asynchronous writes.
//
// Threading: methods are called with the lock held, but for Run() and Join().
#ifndef UNTORN_STORE_BACKGROUND_H_
#define UNTORN_STORE_BACKGROUND_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/lock.h"
#include "writeback/checkpointer.h"
#include "writeback/committer.h"
#include "writeback/parts.h"

namespace untorn::internal {

class Background {
 public:
  // `cache_bytes`: what cached pages may take.
  Background(std::mutex& mu, const Parts& parts, Committer& committer, Checkpointer& checkpointer,
             uint64_t cache_bytes);

  // Starts the threads. Without it all work is done in AfterChange().
  void Start() REQUIRES_STORE_LOCK;
  // At the end of every call that changed something: does what is due, where there is no thread for it.
  void AfterChange(Lock& lock) REQUIRES_STORE_LOCK;
  // Has the first thread look for callbacks, and for what is wanted.
  void Wake() REQUIRES_STORE_LOCK;
  // Runs `work` on a thread of the pool, or at once where there is none. Called without the lock.
  void Run(std::function<void()> work) EXCLUDES_STORE_LOCK;
  // Waits until the pool has done all it was given.
  void AwaitRun(Lock& lock) REQUIRES_STORE_LOCK;
  // Lets the threads end. Then Join(), without the lock.
  void Stop() REQUIRES_STORE_LOCK;
  void Join() EXCLUDES_STORE_LOCK;

 private:
  void WritebackLoop() EXCLUDES_STORE_LOCK;
  void MaintenanceLoop() EXCLUDES_STORE_LOCK;
  void RunLoop() EXCLUDES_STORE_LOCK;
  void Serve() REQUIRES_STORE_LOCK;
  void WakeMaintenance() REQUIRES_STORE_LOCK {
    ++wakes_;
    maintenance_cv_.notify_one();
  }

  std::mutex& mu_;
  const Parts parts_;
  Committer& committer_;
  Checkpointer& checkpointer_;
  const uint64_t cache_bytes_;
  bool started_ GUARDED_BY_STORE_LOCK = false, stop_ GUARDED_BY_STORE_LOCK = false;
  uint64_t wakes_ GUARDED_BY_STORE_LOCK = 0;
  std::condition_variable maintenance_cv_, work_cv_;
  std::vector<std::thread> threads_ GUARDED_BY_STORE_LOCK;
  std::deque<std::function<void()>> work_ GUARDED_BY_STORE_LOCK;
  int workers_ GUARDED_BY_STORE_LOCK = 0, busy_workers_ GUARDED_BY_STORE_LOCK = 0;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_BACKGROUND_H_
