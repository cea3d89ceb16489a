// Drives one Device for many threads without a thread of its own.
//
// A caller that needs a completion waits in Wait(): one of the waiting threads reaps for all, so at queue
// depth one the calling thread drives its own I/O without a hand-off to another thread. I/O that nobody waits
// for is left to a thread that stands by. A thread is woken when what it waits for is there, or when it is its
// turn to reap or to do what it can do for all: not whenever something completes.
//
// A flush that fails may have cost writes that it covered, and no later flush brings them back. Others may wait for
// those writes with a flush of their own: so once one has failed, all that complete after it fail.
//
// Threading: one mutex, the owner's, guards the pump and whatever the completions touch. Every method is
// called with it held, through the unique_lock; it is released around device calls. Completion functions
// (IoRequest::done) run with it held and must not block.
#ifndef UNTORN_DEVICE_IO_PUMP_H_
#define UNTORN_DEVICE_IO_PUMP_H_

#include <semaphore.h>

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/functional/function_ref.h"
#include "device/device.h"

namespace untorn {

// What went through a pump since it was made.
struct IoCounts {
  uint64_t reads = 0, writes = 0, flushes = 0;
  uint64_t bytes_read = 0, bytes_written = 0;
};

class IoPump {
 public:
  IoPump(Device& device, std::mutex& mu) : device_(device), mu_(mu) {}

  Device& device() { return device_; }
  std::mutex& mutex() { return mu_; }

  // Puts a request in the outbox. It goes to the device at the next Kick() or Wait(), and is reaped by a thread in
  // Wait(), or after Attend().
  void Queue(IoRequest* request);
  // Sends the outbox to the device. Releases the lock meanwhile.
  void Kick(std::unique_lock<std::mutex>& lock);
  // Returns once `ready()` is true, or `work()`: then there is something to do that one thread does for all who wait for
  // it, and this one is to do it. Reaps, or sleeps while another thread does. Both run with the lock held, and on any
  // thread that waits or calls Notify() or Attend(). Something must be under way that makes one true: I/O, or a thread
  // that calls Notify().
  void Wait(
      std::unique_lock<std::mutex>& lock, absl::FunctionRef<bool()> ready,
      absl::FunctionRef<bool()> work = [] { return false; });
  // For one thread in the background: returns once `ready()` is true, or after `timeout_ms`. It reaps only while no other
  // thread waits, and otherwise sleeps until WakeStandby(): so it takes nobody's I/O out of its hands.
  void StandBy(std::unique_lock<std::mutex>& lock, int timeout_ms, absl::FunctionRef<bool()> ready);
  void WakeStandby() { standby_.notify_one(); }
  // I/O is under way and no thread waits for any.
  bool Unattended() const { return in_flight_ > 0 && waiting_ == 0; }
  // Something that the `ready` of a Wait() may be looking at has changed.
  void Notify();
  // By a thread that leaves I/O, or work that has come up, without waiting: another takes it over.
  void Attend();

  // Blocking I/O from a thread that holds the lock; it is released meanwhile. One request, or several at
  // once. Uses the requests' `done` and `context`. Returns the first error among them.
  absl::Status Run(std::unique_lock<std::mutex>& lock, IoRequest* request);
  absl::Status RunAll(std::unique_lock<std::mutex>& lock, absl::Span<IoRequest* const> requests);

  uint64_t in_flight() const { return in_flight_; }
  const IoCounts& counts() const { return counts_; }

 private:
  // Where a thread sleeps: not on the mutex's condition, so that it can be woken without the mutex, and does not run
  // into it while the one that wakes holds it.
  class Seat {
   public:
    Seat() { sem_init(&woken_, 0, 0); }
    ~Seat() { sem_destroy(&woken_); }
    Seat(const Seat&) = delete;
    void Sleep() {
      while (sem_wait(&woken_) != 0) {  // EINTR
      }
    }
    // Once for each Sleep(). The seat may be in use again before it returns.
    void Wake() { sem_post(&woken_); }

   private:
    sem_t woken_;
  };
  struct Sleeper {
    absl::FunctionRef<bool()> ready, work;
    Seat* seat;
    bool leads = false;
  };

  void Reap(std::unique_lock<std::mutex>& lock);
  void Sleep(std::unique_lock<std::mutex>& lock, absl::FunctionRef<bool()> ready,
             absl::FunctionRef<bool()> work);
  // Both take sleepers off the list, for the caller to wake, best without the lock.
  std::vector<Seat*> TakeReady();
  // One to reap, if there is something to reap and nobody does, or to do its work; or nobody.
  Seat* TakeLeader();
  void HandOver() {
    if (Seat* leader = TakeLeader()) leader->Wake();
  }

  Device& device_;
  std::mutex& mu_;
  std::condition_variable standby_;
  std::vector<IoRequest*> outbox_;
  uint64_t in_flight_ = 0;  // queued or submitted, not yet completed
  bool reaping_ = false;
  IoCounts counts_;
  absl::Status flush_failure_;                // the first
  int waiting_ = 0;                           // threads in Wait()
  std::vector<Sleeper*> sleepers_;            // those of them that sleep, longest first
  bool led_ = false;                          // a sleeper that was woken to lead is on its way
  std::vector<std::unique_ptr<Seat>> seats_;  // that nobody sleeps in
  std::vector<IoRequest*> completed_;         // the reaping thread's
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_IO_PUMP_H_
