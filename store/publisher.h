// The publisher writes the statistics of a store to a file while another process watches (docs/decisions/036). A watcher
// locks kWatchByte (extent/lease.h). Then a thread writes the file once a second, and removes it at the end.
//
// Threading: Step() and Stop() are called by one thread at a time, and without the store's lock.
#ifndef UNTORN_STORE_PUBLISHER_H_
#define UNTORN_STORE_PUBLISHER_H_

#include <condition_variable>
#include <functional>
#include <string>
#include <thread>

#include "base/lock.h"
#include "base/mutex.h"
#include "device/device.h"
#include "store/stats_file.h"

namespace untorn::internal {

class Publisher {
 public:
  // `device` is the owner's, and must live until Stop() has returned. `page` returns what is published, and `warn` tells the
  // application; both take the store's lock.
  Publisher(Device& device, std::function<std::string()> page, std::function<void(const std::string&)> warn);
  ~Publisher();

  // Looks whether somebody watches. Must be called now and then, by an owner.
  void Step() EXCLUDES_STORE_LOCK;
  // Ends the thread, and removes the file. Nobody calls Step() any more.
  void Stop() EXCLUDES_STORE_LOCK;

 private:
  bool Watched() const;
  void Run();
  void Publish();

  Device& device_;
  const std::function<std::string()> page_;
  const std::function<void(const std::string&)> warn_;
  StatsFile file_;       // of the thread, while it runs
  bool looked_ = false;  // for what a killed owner has left
  bool warned_of_thread_ = false;
  bool warned_ = false;  // since the file was written last
  std::thread thread_;
  Mutex mu_;
  std::condition_variable cv_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false, running_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_PUBLISHER_H_
