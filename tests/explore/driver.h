// Takes steps to a store and to the model of it.
//
// A step happens in two halves, so that between them the explorer can check what a cut during the call may
// leave: Call() makes the call and tells the model of the change; Acknowledge() tells it what the call's
// return made durable.
#ifndef UNTORN_TESTS_EXPLORE_DRIVER_H_
#define UNTORN_TESTS_EXPLORE_DRIVER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "sim/simulated_device.h"
#include "tests/explore/other_reader.h"
#include "tests/explore/step.h"
#include "tests/untorn/model.h"
#include "untorn/store.h"

namespace untorn {

// Reads everything there is. An error is what a reader was told.
absl::StatusOr<Observed> ObserveStore(Store& store);

// Equal for what is equal.
uint64_t HashOfAll(const Observed& observed);

class Driver {
 public:
  // `device`: the store's. `may_refuse`: lack of space is no error of calls that need some. The store must have been opened without
  // threads of its own.
  Driver(Store& store, SimulatedDevice& device, Model model, uint64_t first_stamp, bool may_refuse);
  ~Driver();

  // "" or what is wrong: a call that failed and should not have, a read that returned something else.
  std::string Call(const Step& step);
  std::string Acknowledge();
  // After the last step: releases what is held, and has all asynchronous writes done.
  std::string Finish();
  // Reads all objects and compares them with the model, but for those of a call whose fate is unknown.
  std::string CheckReads();
  // A call has failed, and the device had a fault before: whether its change will be there is unknown. No
  // further steps then.
  bool stopped() const { return stopped_; }
  // A caller or a waiter was told of a failure.
  bool told_of_failure() const { return told_of_failure_; }
  // After that: if the store has failed, it refuses changes and says so at every sync (promise 8).
  std::string CheckFailedStore();

  const Model& model() const { return model_; }
  uint64_t next_stamp() const { return next_stamp_; }

 private:
  struct AsyncWrite {
    int completions = 0;
    absl::Status status;
    Model::OpId op = 0;
    bool sync = false;
    bool acknowledged = false;
  };
  // What a thread of its own does, and the device holds back at its first read.
  struct Held {
    std::atomic<bool> done = false;
    std::thread thread;
  };
  struct HeldRead : Held {
    std::string object;
    uint64_t offset = 0;
    std::vector<std::byte> got;
    absl::StatusOr<size_t> read = 0;
    std::vector<std::vector<std::byte>> may_see;  // contents of the range since it began
  };

  struct HeldCheckpoint : Held {
    absl::Status status;
  };

  // The object's handle; null if there is no such object.
  const Object* Find(const std::string& name);
  uint64_t IdOf(const std::string& name) const { return model_.names().at(name); }
  std::string Judge(const absl::Status& status, const Step& step, bool* done);
  std::string JudgeAsync(const AsyncWrite& write);
  void Tell(const Step& step, const std::function<void()>& change);
  std::string Write(const Step& step);
  std::string Transact(const Step& step);
  void HoldAtFirstRead(Held& held, std::function<void()> run);
  void HoldRead(const Step& step);
  void HoldCheckpoint();
  std::string Release();
  std::string ReadElsewhere();
  std::vector<std::byte> Content(const std::string& name, uint64_t offset, uint64_t length) const;

  Store& store_;
  SimulatedDevice& device_;
  Model model_;
  uint64_t next_stamp_;
  const bool may_refuse_;
  bool full_ = false;           // the disk has no space
  bool accepted_only_ = false;  // the last call has changed something that is not durable
  std::map<std::string, Object> handles_;
  std::vector<std::shared_ptr<AsyncWrite>> async_;
  std::unique_ptr<HeldRead> held_read_;
  std::unique_ptr<HeldCheckpoint> held_checkpoint_;
  std::unique_ptr<OtherReader> other_reader_;
  std::vector<std::function<void()>> acknowledge_;
  bool stopped_ = false, told_of_failure_ = false;
  std::set<std::string> uncertain_;  // objects of the call that failed
};

}  // namespace untorn

#endif  // UNTORN_TESTS_EXPLORE_DRIVER_H_
