// Drives one Device for many threads, without a thread of its own.
//
// A thread that needs a completion calls Wait(). One of the waiting threads reaps for all of them, so at
// queue depth one the calling thread does its own I/O without a hand-off. A thread that stands by takes care
// of I/O that nobody waits for. The pump wakes a thread only if the thread's condition is true,
// or if the thread is to reap or to do the shared job.
//
// A thread may also carry a request out itself, if the device can do so (Device::Execute) and that is the faster road
// (RoadChoice). The device must then have no submitted requests. For a read it is enough that another thread reaps these.
//
// A flush that fails may have lost writes that it covered, and no later flush brings them back. Another
// thread may wait for the same writes with a flush of its own. So after one flush has failed, every flush
// that completes later fails too. A write that was to be durable counts as a flush here: the device may have
// flushed for it. Writes that overlap one which a thread carries out complete together (OverlappingWrites). Of requests
// that were all submitted, the pump trusts the order of completion.
//
// A write may find no space in the file system below (FoundNoSpace). The pump then keeps it, and sends the same bytes to
// the same place again until there is room. Where the file system may
// write through the page cache all the same, a durable write is kept only if all earlier writes are flushed: the error could
// be that of an earlier write. For its sender the write is in flight all the time. So everything that must
// come later waits, and no record of the log is ever written twice.
//
// Threading: the owner's mutex guards the pump and all that the completion functions touch. The caller of
// every method holds the mutex. Methods that take the Lock release it around calls of the device.
// Completion functions (IoRequest::done) run with the mutex held and must not block.
#ifndef UNTORN_DEVICE_IO_PUMP_H_
#define UNTORN_DEVICE_IO_PUMP_H_

#include <semaphore.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/lock.h"
#include "device/cached_writes.h"
#include "device/device.h"
#include "device/overlapping_writes.h"
#include "device/road_choice.h"

namespace untorn {

// The I/O that a pump has queued since it was made.
struct IoCounts {
  uint64_t reads = 0, writes = 0, flushes = 0;
  uint64_t durable_writes = 0;  // those of the writes that are durable by themselves
  uint64_t executed = 0;        // those that the waiting thread carried out itself
  uint64_t bytes_read = 0, bytes_written = 0;
};

class IoPump {
 public:
  IoPump(Device& device, std::mutex& mu) : device_(device), mu_(mu) {}

  Device& device() { return device_; }
  std::mutex& mutex() { return mu_; }

  // Puts a request in the outbox. The next Kick() or Wait() sends the request to the device. A thread in
  // Wait(), or the one that stands by, reaps it.
  void Queue(IoRequest* request) REQUIRES_STORE_LOCK;
  // Sends the outbox to the device. Releases the lock while the device takes it.
  void Kick(Lock& lock) REQUIRES_STORE_LOCK;
  // Blocks until `ready()` or `work()` is true. If `work()` is true, the pump has chosen the calling thread
  // to do one shared job for all waiting threads. Sending the next commit is such a job. Meanwhile the thread
  // reaps, or sleeps while another thread reaps. Both functions run with the lock held, on any thread that
  // waits or calls Notify() or Attend(). I/O must be under way, or some thread must call Notify(); otherwise
  // the call never returns.
  void Wait(
      Lock& lock, absl::FunctionRef<bool()> ready,
      absl::FunctionRef<bool()> work = [] { return false; }) REQUIRES_STORE_LOCK;
  // Is for one background thread. Returns once `ready()` is true, or after `timeout_ms`. The thread reaps
  // only while no other thread waits, and otherwise sleeps until WakeStandby(). So a thread that waits always
  // reaps its own I/O.
  void StandBy(Lock& lock, int timeout_ms, absl::FunctionRef<bool()> ready) REQUIRES_STORE_LOCK;
  void WakeStandby() REQUIRES_STORE_LOCK { standby_.notify_one(); }
  // Says whether I/O is under way for which no thread waits.
  bool Unattended() const REQUIRES_STORE_LOCK { return Reapable() && waiting_ == executing_; }
  // Must be called after a change that may make the `ready` of a waiting thread true, unless a completion
  // made the change.
  void Notify() REQUIRES_STORE_LOCK;
  // Must be called by a thread that returns without Wait() while I/O or a shared job is left. Another thread
  // takes over.
  void Attend() REQUIRES_STORE_LOCK;

  // Blocking I/O of one request, or of several at once. Releases the lock meanwhile, and uses the requests'
  // `done` and `context`. Returns the first error among the requests.
  absl::Status Run(Lock& lock, IoRequest* request) REQUIRES_STORE_LOCK;
  absl::Status RunAll(Lock& lock, absl::Span<IoRequest* const> requests) REQUIRES_STORE_LOCK;

  uint64_t in_flight() const REQUIRES_STORE_LOCK { return in_flight_ + kept_.size() - kept_sent_; }

  // ---- Writes that found no space below ----
  // The pump keeps such writes from now on. Before, they fail. Calls `tell` with the error when the first write is kept, and
  // with OK when none is kept any more. `tell` runs with the mutex held.
  void KeepWritesWithoutSpace(std::function<void(const absl::Status&)> tell) REQUIRES_STORE_LOCK;
  // Completes the kept writes with their errors, and keeps no more.
  void GiveUpKeptWrites() REQUIRES_STORE_LOCK;
  bool short_of_space() const REQUIRES_STORE_LOCK { return !kept_.empty(); }
  // Returns kResourceExhausted while a write is kept.
  absl::Status CheckSpaceBelow() const REQUIRES_STORE_LOCK;
  // As CheckSpaceBelow(), but sends the kept writes again before.
  absl::Status TrySpaceBelow(Lock& lock) REQUIRES_STORE_LOCK;
  const IoCounts& counts() const REQUIRES_STORE_LOCK { return counts_; }

 private:
  // A seat is where one thread sleeps. It is a semaphore, so a thread can be woken by one that does not hold
  // the mutex. With a condition variable the woken thread would run into the mutex of the thread that wakes
  // it.
  class Seat {
   public:
    Seat() { sem_init(&woken_, 0, 0); }
    ~Seat() { sem_destroy(&woken_); }
    Seat(const Seat&) = delete;
    void Sleep() {
      while (sem_wait(&woken_) != 0) {  // EINTR
      }
    }
    // Is called once for each Sleep(). Another thread may use the seat before this call returns.
    void Wake() { sem_post(&woken_); }

   private:
    sem_t woken_;
  };
  struct Sleeper {
    absl::FunctionRef<bool()> ready, work;
    Seat* seat;
    bool leads = false;
  };

  struct Kept {
    IoRequest* request;
    bool sent = false;  // again
  };

  void PutInOutbox(IoRequest* request) REQUIRES_STORE_LOCK;
  std::vector<IoRequest*> TakeOutbox() REQUIRES_STORE_LOCK;
  // Takes the completed requests that are not over yet off the list.
  void KeepWrites(std::vector<IoRequest*>* completed) REQUIRES_STORE_LOCK;
  void SendKeptAgain() REQUIRES_STORE_LOCK;
  // Waits for a moment, and sends the kept writes again.
  void PauseForSpace(Lock& lock) REQUIRES_STORE_LOCK;
  // Says whether a thread should do so: a kept write is not sent again, and no other thread sees to that.
  bool MayPause() const REQUIRES_STORE_LOCK { return kept_.size() > kept_sent_ && !pausing_ && trying_ == 0; }
  // Says whether the device has requests that Reap() will hand back, or will have with the outbox.
  bool Reapable() const REQUIRES_STORE_LOCK { return in_flight_ > executing_ + overlapping_.waiting(); }
  // Sends the outbox, then waits for completions, and handles these.
  void Reap(Lock& lock) REQUIRES_STORE_LOCK;
  void AwaitCompletions(Lock& lock) REQUIRES_STORE_LOCK;
  // Says whether this thread may carry out the only request of the outbox.
  bool MayExecute() const REQUIRES_STORE_LOCK;
  // Takes that request down the faster road.
  void RunSingle(Lock& lock) REQUIRES_STORE_LOCK;
  void Execute(Lock& lock) REQUIRES_STORE_LOCK;
  // Handles what the device has handed back.
  void Complete(Lock& lock, std::vector<IoRequest*>* completed) REQUIRES_STORE_LOCK;
  void Sleep(Lock& lock, absl::FunctionRef<bool()> ready, absl::FunctionRef<bool()> work) REQUIRES_STORE_LOCK;
  // TakeReady() and TakeLeader() take sleepers off the list. The caller wakes them, best without the lock.
  // TakeReady() takes all sleepers whose `ready` is true.
  std::vector<Seat*> TakeReady() REQUIRES_STORE_LOCK;
  // Takes one sleeper to reap, if there is I/O that nobody reaps. Otherwise it takes one whose `work` is
  // true, if any.
  Seat* TakeLeader() REQUIRES_STORE_LOCK;
  void HandOver() REQUIRES_STORE_LOCK {
    if (Seat* leader = TakeLeader()) leader->Wake();
  }

  Device& device_;
  std::mutex& mu_;
  std::condition_variable standby_;
  std::vector<IoRequest*> outbox_ GUARDED_BY_STORE_LOCK, spare_ GUARDED_BY_STORE_LOCK;
  uint64_t in_flight_ GUARDED_BY_STORE_LOCK = 0;  // requests that are queued, and not completed
  bool reaping_ GUARDED_BY_STORE_LOCK = false;
  RoadChoice read_road_ GUARDED_BY_STORE_LOCK, write_road_ GUARDED_BY_STORE_LOCK;
  uint64_t queued_ GUARDED_BY_STORE_LOCK = 0;     // requests that were ever queued, those sent again too
  uint64_t executing_ GUARDED_BY_STORE_LOCK = 0;  // requests that threads carry out themselves
  OverlappingWrites overlapping_ GUARDED_BY_STORE_LOCK;
  IoCounts counts_ GUARDED_BY_STORE_LOCK;
  bool keeps_ GUARDED_BY_STORE_LOCK = false;
  std::function<void(const absl::Status&)> tell_ GUARDED_BY_STORE_LOCK;
  int pause_ms_ GUARDED_BY_STORE_LOCK = 1;
  int trying_ GUARDED_BY_STORE_LOCK = 0;          // threads in TrySpaceBelow()
  bool pausing_ GUARDED_BY_STORE_LOCK = false;    // a thread is in PauseForSpace()
  std::vector<Kept> kept_ GUARDED_BY_STORE_LOCK;  // writes that found no space, and are not over
  size_t kept_sent_ GUARDED_BY_STORE_LOCK = 0;    // those that are sent again
  std::string why_kept_ GUARDED_BY_STORE_LOCK;    // what the system said last
  CachedWrites cached_ GUARDED_BY_STORE_LOCK;
  absl::Status flush_failure_ GUARDED_BY_STORE_LOCK;  // the first failure of a flush
  uint64_t waiting_ GUARDED_BY_STORE_LOCK = 0;        // threads in Wait()
  std::vector<Sleeper*> sleepers_
      GUARDED_BY_STORE_LOCK;                // threads in Wait() that sleep, the longest sleeper first
  bool led_ GUARDED_BY_STORE_LOCK = false;  // TakeLeader() took a sleeper that has not run yet
  std::vector<std::unique_ptr<Seat>> seats_ GUARDED_BY_STORE_LOCK;  // seats that no thread uses
  std::vector<IoRequest*> completed_;                               // belongs to the thread that reaps
  std::vector<IoRequest*> executed_ GUARDED_BY_STORE_LOCK;          // a request that a thread has carried out
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_IO_PUMP_H_
