#include "device/io_pump.h"

#include <chrono>
#include <utility>

namespace untorn {

void IoPump::Queue(IoRequest* request) {
  outbox_.push_back(request);
  ++in_flight_;
  switch (request->op) {
    case IoOp::kRead:
      ++counts_.reads;
      counts_.bytes_read += request->length_bytes();
      break;
    case IoOp::kWrite:
    case IoOp::kAtomicWrite:
      ++counts_.writes;
      counts_.bytes_written += request->length_bytes();
      break;
    case IoOp::kFlush:
      ++counts_.flushes;
      break;
  }
}

void IoPump::Kick(std::unique_lock<std::mutex>& lock) {
  if (outbox_.empty()) return;
  std::vector<IoRequest*> batch = std::exchange(outbox_, {});
  lock.unlock();
  device_.Submit(batch);
  lock.lock();
  // Whoever fell asleep while nothing was in flight has something to reap now.
  HandOver();
}

void IoPump::HandOver() {
  if (waiting_ > 0 && !reaping_ && in_flight_ > 0) changed_.notify_one();
}

void IoPump::Wait(std::unique_lock<std::mutex>& lock, absl::FunctionRef<bool()> ready) {
  ++waiting_;
  while (true) {
    while (!outbox_.empty()) Kick(lock);
    if (ready()) break;
    if (!outbox_.empty()) continue;
    if (!reaping_ && in_flight_ > 0) {
      Reap(lock);
    } else {
      changed_.wait(lock);
    }
  }
  --waiting_;
  // This thread may have been the one to reap, or the one that HandOver() woke for it.
  HandOver();
  if (Unattended()) WakeStandby();
}

void IoPump::StandBy(std::unique_lock<std::mutex>& lock, int timeout_ms, absl::FunctionRef<bool()> ready) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (true) {
    while (!outbox_.empty()) Kick(lock);
    if (ready()) break;
    if (!outbox_.empty()) continue;
    if (std::chrono::steady_clock::now() >= deadline) break;
    if (Unattended() && !reaping_) {
      Reap(lock);
    } else {
      standby_.wait_until(lock, deadline);
    }
  }
  HandOver();
}

void IoPump::Reap(std::unique_lock<std::mutex>& lock) {
  reaping_ = true;
  lock.unlock();
  completed_.clear();
  device_.Reap(/*wait=*/true, &completed_);
  lock.lock();
  reaping_ = false;
  in_flight_ -= completed_.size();
  for (IoRequest* request : completed_) {
    if (request->op == IoOp::kFlush && !request->status.ok() && flush_failure_.ok())
      flush_failure_ = request->status;
  }
  for (IoRequest* request : completed_) {
    if (request->op == IoOp::kFlush && !flush_failure_.ok()) request->status = flush_failure_;
  }
  for (IoRequest* request : completed_) {
    if (request->done != nullptr) request->done(request);
  }
  changed_.notify_all();
}

absl::Status IoPump::Run(std::unique_lock<std::mutex>& lock, IoRequest* request) {
  return RunAll(lock, absl::MakeConstSpan(&request, 1));
}

absl::Status IoPump::RunAll(std::unique_lock<std::mutex>& lock, absl::Span<IoRequest* const> requests) {
  size_t left = requests.size();
  for (IoRequest* request : requests) {
    request->context = &left;
    request->done = [](IoRequest* r) { --*static_cast<size_t*>(r->context); };
    Queue(request);
  }
  Wait(lock, [&left] { return left == 0; });
  for (IoRequest* request : requests) {
    if (!request->status.ok()) return request->status;
  }
  return absl::OkStatus();
}

}  // namespace untorn
