// Many threads, one device, no thread of the pump's own.
#include "device/io_pump.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "sim/simulated_device.h"
#include "tests/device/device_testing.h"

namespace untorn {
namespace {

using std::chrono::milliseconds;

// Completes what the test tells it to, in submission order.
class ManualDevice : public Device {
 public:
  void Submit(absl::Span<IoRequest* const> requests) override {
    std::lock_guard<std::mutex> lock(mu_);
    submitted_.insert(submitted_.end(), requests.begin(), requests.end());
  }
  void Reap(bool wait, std::vector<IoRequest*>* completed) override {
    std::unique_lock<std::mutex> lock(mu_);
    ++reapers_;
    if (wait) changed_.wait(lock, [this] { return allowed_ > 0 && !submitted_.empty(); });
    --reapers_;
    if (allowed_ == 0 || submitted_.empty()) return;
    --allowed_;
    last_reaper_ = std::this_thread::get_id();
    completed->push_back(submitted_.front());
    submitted_.erase(submitted_.begin());
  }
  // From now on requests may be carried out in the thread that waits.
  void AllowExecute() { info_.can_execute = true; }
  void Execute(IoRequest* request) override {
    std::unique_lock<std::mutex> lock(mu_);
    ++executing_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return end_.has_value(); });
    --executing_;
    request->status = *std::exchange(end_, std::nullopt);
  }
  void AwaitExecution() {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [this] { return executing_ > 0; });
  }
  void EndExecution(absl::Status status) {
    std::lock_guard<std::mutex> lock(mu_);
    end_ = std::move(status);
    changed_.notify_all();
  }
  std::thread::id last_reaper() {
    std::lock_guard<std::mutex> lock(mu_);
    return last_reaper_;
  }
  void CompleteOne() {
    std::lock_guard<std::mutex> lock(mu_);
    ++allowed_;
    changed_.notify_all();
  }
  void AwaitReaper() {
    while (true) {
      {
        std::lock_guard<std::mutex> lock(mu_);
        if (reapers_ > 0) return;
      }
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<IoRequest*> submitted_;
  int allowed_ = 0;
  int reapers_ = 0;
  int executing_ = 0;
  std::optional<absl::Status> end_;  // of an execution
  std::thread::id last_reaper_;
};

void SetFlag(IoRequest* request) { *static_cast<bool*>(request->context) = true; }

struct FlaggedRequest {
  FlaggedRequest() {
    request.op = IoOp::kFlush;
    request.done = SetFlag;
    request.context = &done;
  }
  bool done = false;  // guarded by the pump's mutex
  IoRequest request;
};

class IoPumpTest : public testing::Test {
 protected:
  std::thread Waiter(bool* flag) {
    return std::thread([this, flag] {
      Lock lock(mu_);
      pump_.Wait(lock, [flag] { return *flag; });
    });
  }

  std::thread Background() {
    return std::thread([this] {
      Lock lock(mu_);
      while (!stop_) pump_.StandBy(lock, 1'000'000, [this] { return stop_; });
    });
  }
  void Stop(std::thread* background) {
    {
      Lock lock(mu_);
      stop_ = true;
      pump_.WakeStandby();
    }
    background->join();
  }

  ManualDevice device_;
  std::mutex mu_;
  IoPump pump_{device_, mu_};
  bool stop_ = false;  // guarded by mu_
};

TEST_F(IoPumpTest, ReaperThatLeavesHandsOverToOneThatSleeps) {
  FlaggedRequest first, second;
  {
    Lock lock(mu_);
    pump_.Queue(&first.request);
    pump_.Queue(&second.request);
  }
  std::thread reaper = Waiter(&first.done);
  device_.AwaitReaper();
  std::thread sleeper = Waiter(&second.done);
  std::this_thread::sleep_for(milliseconds(20));
  device_.CompleteOne();
  reaper.join();
  device_.AwaitReaper();
  device_.CompleteOne();
  sleeper.join();
  Lock lock(mu_);
  EXPECT_EQ(pump_.in_flight(), 0u);
}

TEST_F(IoPumpTest, AttendWakesASleeperToReap) {
  FlaggedRequest request;
  std::thread sleeper = Waiter(&request.done);
  std::this_thread::sleep_for(milliseconds(20));
  {
    Lock lock(mu_);
    pump_.Queue(&request.request);
    pump_.Kick(lock);
    pump_.Attend();
  }
  device_.AwaitReaper();
  device_.CompleteOne();
  sleeper.join();
}

struct FlaggedWrite : FlaggedRequest {
  FlaggedWrite() {
    request.op = IoOp::kWrite;
    request.durable = true;
  }
};

class IoPumpExecuteTest : public IoPumpTest {
 protected:
  void SetUp() override { device_.AllowExecute(); }

  void Queue(FlaggedRequest* r) {
    Lock lock(mu_);
    pump_.Queue(&r->request);
  }
  bool Done(const FlaggedRequest& r) {
    Lock lock(mu_);
    return r.done;
  }
  // Queues the write, and returns a thread that carries it out until EndExecution().
  std::thread Executor(FlaggedWrite* write) {
    Queue(write);
    std::thread thread = Waiter(&write->done);
    device_.AwaitExecution();
    return thread;
  }
};

TEST_F(IoPumpExecuteTest, ThreadThatWaitsForASingleRequestCarriesItOut) {
  FlaggedWrite single;
  std::thread waiter = Executor(&single);
  EXPECT_FALSE(Done(single));
  device_.EndExecution(absl::OkStatus());
  waiter.join();
  EXPECT_TRUE(Done(single));
  Lock lock(mu_);
  EXPECT_EQ(pump_.in_flight(), 0u);
  EXPECT_EQ(pump_.counts().executed, 1u);
}

// A flush may take long, and others may have to wait for it.
TEST_F(IoPumpExecuteTest, FlushesAndSeveralRequestsAreSubmitted) {
  FlaggedRequest flush;
  Queue(&flush);
  std::thread waiter = Waiter(&flush.done);
  device_.CompleteOne();
  waiter.join();
  FlaggedWrite first, second;
  Queue(&first);
  Queue(&second);
  waiter = Waiter(&second.done);
  device_.CompleteOne();
  device_.CompleteOne();
  waiter.join();
  Lock lock(mu_);
  EXPECT_EQ(pump_.counts().executed, 0u);
}

TEST_F(IoPumpExecuteTest, OtherThreadsReadMeanwhile) {
  FlaggedWrite write;
  FlaggedRequest read, second_read;
  read.request.op = second_read.request.op = IoOp::kRead;
  std::thread waiter = Executor(&write);
  Queue(&read);
  Queue(&second_read);
  std::thread reader = Waiter(&second_read.done);
  device_.CompleteOne();
  device_.CompleteOne();
  reader.join();
  EXPECT_TRUE(Done(read));
  EXPECT_FALSE(Done(write));
  device_.EndExecution(absl::OkStatus());
  waiter.join();
}

TEST_F(IoPumpExecuteTest, ReadIsCarriedOutWhileAnotherThreadReaps) {
  FlaggedWrite first, second;
  FlaggedRequest read;
  read.request.op = IoOp::kRead;
  Queue(&first);
  Queue(&second);
  std::thread writer = Waiter(&second.done);
  device_.AwaitReaper();
  Queue(&read);
  std::thread reader = Waiter(&read.done);
  device_.AwaitExecution();
  device_.EndExecution(absl::OkStatus());
  reader.join();
  EXPECT_FALSE(Done(first));
  device_.CompleteOne();
  device_.CompleteOne();
  writer.join();
  Lock lock(mu_);
  EXPECT_EQ(pump_.in_flight(), 0u);
}

TEST_F(IoPumpExecuteTest, StandByReapsMeanwhileWhatNobodyWaitsFor) {
  FlaggedWrite write;
  FlaggedRequest read;
  read.request.op = IoOp::kRead;
  std::thread waiter = Executor(&write);
  std::thread background = Background();
  {
    Lock lock(mu_);
    pump_.Queue(&read.request);
    pump_.Kick(lock);
    pump_.Attend();
  }
  device_.AwaitReaper();
  device_.CompleteOne();
  Stop(&background);
  EXPECT_TRUE(Done(read));
  device_.EndExecution(absl::OkStatus());
  waiter.join();
}

// The failure must reach both. The kernel may tell it only to the one that ended first.
TEST_F(IoPumpExecuteTest, DurableWriteThatIsQueuedMeanwhileCompletesTogetherWithIt) {
  FlaggedWrite executed, submitted;
  std::thread waiter = Executor(&executed);
  Queue(&submitted);
  std::thread second = Waiter(&submitted.done);
  device_.CompleteOne();
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(Done(submitted));
  device_.EndExecution(absl::InternalError("asked"));
  waiter.join();
  second.join();
  EXPECT_FALSE(executed.request.status.ok());
  Lock lock(mu_);
  EXPECT_EQ(pump_.in_flight(), 0u);
  // Both are over, so it is known that cached writes may be lost.
  FlaggedRequest flush;
  device_.CompleteOne();
  EXPECT_FALSE(pump_.Run(lock, &flush.request).ok());
}

TEST_F(IoPumpExecuteTest, ExecutedWriteCompletesTogetherWithOneThatIsQueuedMeanwhile) {
  FlaggedWrite executed, submitted;
  submitted.request.status = absl::InternalError("asked");
  std::thread waiter = Executor(&executed);
  Queue(&submitted);
  std::thread second = Waiter(&submitted.done);
  device_.AwaitReaper();
  device_.EndExecution(absl::OkStatus());
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(Done(executed));
  device_.CompleteOne();
  waiter.join();
  second.join();
  EXPECT_FALSE(executed.request.status.ok()) << "the other one may have lost what this one had written";
}

TEST_F(IoPumpExecuteTest, FlushIsSentAfterTheWritesThatCompleteTogether) {
  FlaggedWrite executed, submitted;
  FlaggedRequest flush;
  std::thread waiter = Executor(&executed);
  Queue(&submitted);
  Queue(&flush);
  std::thread second = Waiter(&submitted.done);
  std::thread third = Waiter(&flush.done);
  device_.AwaitReaper();
  // The write fails, and waits for the other one.
  device_.EndExecution(absl::InternalError("asked"));
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(Done(executed));
  device_.CompleteOne();
  waiter.join();
  second.join();
  EXPECT_FALSE(Done(flush));
  device_.CompleteOne();
  third.join();
  EXPECT_FALSE(flush.request.status.ok());
  Lock lock(mu_);
  EXPECT_EQ(pump_.in_flight(), 0u);
}

TEST_F(IoPumpTest, NotifyWakesAWaiterWithoutIo) {
  bool flag = false;
  std::thread sleeper = Waiter(&flag);
  std::this_thread::sleep_for(milliseconds(20));
  {
    Lock lock(mu_);
    flag = true;
    pump_.Notify();
  }
  sleeper.join();
}

TEST_F(IoPumpTest, CompletionMayQueueTheNextRequest) {
  struct Chain {
    IoPump* pump;
    FlaggedRequest next;
  };
  Chain chain = {&pump_, {}};
  IoRequest first;
  first.op = IoOp::kFlush;
  first.context = &chain;
  first.done = [](IoRequest* request) {
    auto* c = static_cast<Chain*>(request->context);
    c->next.request.context = &c->next.done;
    c->pump->Queue(&c->next.request);
  };
  device_.CompleteOne();
  device_.CompleteOne();
  Lock lock(mu_);
  pump_.Queue(&first);
  pump_.Wait(lock, [&] { return chain.next.done; });
  EXPECT_EQ(pump_.in_flight(), 0u);
}

TEST_F(IoPumpTest, CompletionWakesOnlyTheThreadThatWaitsForIt) {
  FlaggedRequest first, second, third;
  {
    Lock lock(mu_);
    for (FlaggedRequest* r : {&first, &second, &third}) pump_.Queue(&r->request);
  }
  int looked = 0;  // guarded by mu_
  std::thread reaper = Waiter(&third.done);
  device_.AwaitReaper();
  std::thread sleeper([&] {
    Lock lock(mu_);
    const std::thread::id self = std::this_thread::get_id();
    pump_.Wait(lock, [&] {
      looked += std::this_thread::get_id() == self;
      return second.done;
    });
  });
  std::this_thread::sleep_for(milliseconds(20));
  device_.CompleteOne();
  device_.CompleteOne();
  sleeper.join();
  EXPECT_LE(looked, 2) << "when it went to sleep, and when it was woken";
  device_.CompleteOne();
  reaper.join();
}

TEST_F(IoPumpTest, OneOfThoseWhoCouldIsWokenToWork) {
  bool work = false, stop = false;  // guarded by mu_
  int worked = 0;
  std::vector<std::thread> sleepers;
  for (int i = 0; i < 3; ++i) {
    sleepers.emplace_back([&] {
      Lock lock(mu_);
      while (!stop) {
        pump_.Wait(
            lock, [&] { return stop; }, [&] { return work; });
        if (std::exchange(work, false)) ++worked;
      }
    });
  }
  std::this_thread::sleep_for(milliseconds(20));
  for (int done = 1; done <= 10; ++done) {
    {
      Lock lock(mu_);
      work = true;
      pump_.Attend();
    }
    for (bool over = false; !over;) {
      std::this_thread::yield();
      Lock lock(mu_);
      over = worked == done;
    }
  }
  {
    Lock lock(mu_);
    stop = true;
    pump_.Notify();
  }
  for (std::thread& t : sleepers) t.join();
  EXPECT_EQ(worked, 10);
}

TEST_F(IoPumpTest, StandByGivesUpAfterItsTime) {
  Lock lock(mu_);
  pump_.StandBy(lock, 5, [] { return false; });
  pump_.StandBy(lock, 1'000'000, [] { return true; });
}

TEST_F(IoPumpTest, StandByReapsWhatNobodyWaitsFor) {
  std::thread background = Background();
  FlaggedRequest request;
  {
    Lock lock(mu_);
    pump_.Queue(&request.request);
    pump_.Kick(lock);
    EXPECT_TRUE(pump_.Unattended());
    pump_.Attend();
  }
  device_.AwaitReaper();
  device_.CompleteOne();
  Stop(&background);
  EXPECT_TRUE(request.done);
}

TEST_F(IoPumpTest, StandByReapsWhatALeavingThreadLeavesUnattended) {
  std::thread background = Background();
  FlaggedRequest first, second;
  device_.CompleteOne();
  {
    Lock lock(mu_);
    pump_.Queue(&first.request);
    pump_.Queue(&second.request);
    pump_.Wait(lock, [&] { return first.done; });
  }
  device_.AwaitReaper();
  device_.CompleteOne();
  Stop(&background);
  EXPECT_TRUE(second.done);
}

TEST_F(IoPumpTest, StandByLeavesTheReapingToAThreadThatWaits) {
  std::thread background = Background();
  for (int i = 0; i < 20; ++i) {
    FlaggedRequest request;
    device_.CompleteOne();
    Lock lock(mu_);
    pump_.Queue(&request.request);
    pump_.WakeStandby();
    pump_.Wait(lock, [&] { return request.done; });
    EXPECT_EQ(device_.last_reaper(), std::this_thread::get_id());
  }
  Stop(&background);
}

TEST_F(IoPumpTest, RunAllReturnsAnErrorAmongTheResults) {
  SimulatedDevice device(std::make_shared<SimulatedDisk>(1 << 20), {});
  device.FailAfter(IoOp::kWrite, 2, absl::InternalError("asked"));
  IoPump pump(device, mu_);
  AlignedBuffer buffer = Filled(4096, 'x');
  std::vector<IoRequest> requests(3, Request(IoOp::kWrite, 0, buffer));
  std::vector<IoRequest*> pointers = {&requests[0], &requests[1], &requests[2]};
  Lock lock(mu_);
  EXPECT_EQ(pump.RunAll(lock, pointers).code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(requests[0].status.ok());
  EXPECT_TRUE(requests[2].status.ok());
}

// What a failed flush has cost no later one brings back: so nobody may take a later one for success.
TEST_F(IoPumpTest, AllFlushesFailOnceOneHasFailed) {
  SimulatedDevice device(std::make_shared<SimulatedDisk>(1 << 20), {});
  device.FailAfter(IoOp::kFlush, 2, absl::InternalError("asked"));
  IoPump pump(device, mu_);
  Lock lock(mu_);
  for (bool works : {true, false, false, false}) {
    IoRequest flush;
    flush.op = IoOp::kFlush;
    EXPECT_EQ(pump.Run(lock, &flush).ok(), works);
  }
}

// The device may have flushed for such a write.
TEST_F(IoPumpTest, DurableWriteThatFailsCountsAsAFailedFlush) {
  SimulatedDevice device(std::make_shared<SimulatedDisk>(1 << 20), {});
  device.FailAfter(IoOp::kWrite, 1, absl::InternalError("asked"));
  IoPump pump(device, mu_);
  Lock lock(mu_);
  AlignedBuffer buffer = Filled(kBlockBytes, 'a');
  IoRequest durable = Request(IoOp::kWrite, 0, buffer), plain = Request(IoOp::kWrite, 0, buffer);
  durable.durable = true;
  EXPECT_FALSE(pump.Run(lock, &durable).ok());
  EXPECT_FALSE(pump.Run(lock, &durable).ok()) << "this one would succeed";
  EXPECT_TRUE(pump.Run(lock, &plain).ok());
  IoRequest flush;
  flush.op = IoOp::kFlush;
  EXPECT_FALSE(pump.Run(lock, &flush).ok());
}

// The device has done nothing for it.
TEST_F(IoPumpTest, DurableWriteThatIsRefusedIsNoFailedFlush) {
  SimulatedDevice device(std::make_shared<SimulatedDisk>(1 << 20), {});
  IoPump pump(device, mu_);
  Lock lock(mu_);
  AlignedBuffer buffer = Filled(kBlockBytes, 'a');
  IoRequest refused = Request(IoOp::kAtomicWrite, 0, buffer);
  refused.durable = true;
  EXPECT_TRUE(absl::IsUnimplemented(pump.Run(lock, &refused)));
  IoRequest flush;
  flush.op = IoOp::kFlush;
  EXPECT_TRUE(pump.Run(lock, &flush).ok());
}

class IoPumpOverDeviceTest : public testing::TestWithParam<DeviceKind> {};

TEST_P(IoPumpOverDeviceTest, EveryThreadSeesItsOwnWrites) {
  if (GetParam() == DeviceKind::kUring && !HasIoUring()) GTEST_SKIP() << "the kernel refuses io_uring here";
  constexpr int kThreads = 6;
  constexpr int kRounds = 200;
  constexpr uint64_t kBlocksEach = 64;
  TempPath path;
  auto device = MakeDevice(GetParam(), path, kThreads * kBlocksEach * kBlockBytes, 0);
  ASSERT_TRUE(device.ok()) << device.status();
  std::mutex mu;
  IoPump pump(**device, mu);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 rng(t);
      for (int round = 0; round < kRounds; ++round) {
        const uint64_t offset_bytes = (t * kBlocksEach + rng() % (kBlocksEach - 4)) * kBlockBytes;
        const char value = static_cast<char>(1 + rng() % 100);
        AlignedBuffer one = Filled(kBlockBytes, value);
        AlignedBuffer two = Filled(2 * kBlockBytes, value);
        AlignedBuffer seen = Filled(3 * kBlockBytes, 0);
        IoRequest write_one = Request(IoOp::kWrite, offset_bytes, one);
        IoRequest write_two = Request(IoOp::kWrite, offset_bytes + kBlockBytes, two);
        IoRequest read = Request(IoOp::kRead, offset_bytes, seen);
        IoRequest* writes[] = {&write_one, &write_two};
        Lock lock(mu);
        ASSERT_TRUE(pump.RunAll(lock, writes).ok());
        if (round % 40 == 0) {
          IoRequest flush;
          flush.op = IoOp::kFlush;
          ASSERT_TRUE(pump.Run(lock, &flush).ok());
        }
        ASSERT_TRUE(pump.Run(lock, &read).ok());
        lock.unlock();
        ASSERT_TRUE(AllAre(seen, value));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Lock lock(mu);
  EXPECT_EQ(pump.in_flight(), 0u);
}

INSTANTIATE_TEST_SUITE_P(EveryDevice, IoPumpOverDeviceTest,
                         testing::Values(DeviceKind::kUring, DeviceKind::kSystemCalls, DeviceKind::kMemory),
                         [](const auto& info) { return DeviceKindName(info.param); });

}  // namespace
}  // namespace untorn
