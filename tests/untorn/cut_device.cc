#include "tests/untorn/cut_device.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace untorn {

struct CutDevice::Copy {
  explicit Copy(IoRequest* original) : original(original) {
    request.op = original->op;
    request.durable = original->durable;
    request.offset_bytes = original->offset_bytes;
    const uint64_t bytes = original->length_bytes();
    if (bytes == 0) return;
    buffer = std::aligned_alloc(kBlockBytes, bytes);
    request.iov.push_back({buffer, bytes});
    if (request.op == IoOp::kRead) return;
    auto* to = static_cast<std::byte*>(buffer);
    for (const iovec& v : original->iov) {
      std::memcpy(to, v.iov_base, v.iov_len);
      to += v.iov_len;
    }
  }
  // A read that only wakes a thread waiting for completions.
  Copy() {
    buffer = std::aligned_alloc(kBlockBytes, kBlockBytes);
    request.op = IoOp::kRead;
    request.iov.push_back({buffer, kBlockBytes});
  }
  ~Copy() { std::free(buffer); }

  void Finish() {
    original->status = request.status;
    auto* from = static_cast<const std::byte*>(buffer);
    for (const iovec& v : original->iov) {
      if (request.op == IoOp::kRead) {
        if (request.status.ok()) std::memcpy(v.iov_base, from, v.iov_len);
      } else if (std::memcmp(v.iov_base, from, v.iov_len) != 0) {
        std::fprintf(stderr, "the buffer of a write at %llu changed while it was in flight\n",
                     static_cast<unsigned long long>(request.offset_bytes));
        std::abort();
      }
      from += v.iov_len;
    }
  }

  IoRequest request;
  IoRequest* original = nullptr;  // null: told already that the power is gone
  void* buffer = nullptr;
};

CutDevice::CutDevice(std::unique_ptr<SimulatedDevice> inner) : inner_(std::move(inner)) {
  info_ = inner_->info();
}

CutDevice::~CutDevice() {
  inner_.reset();  // before the copies that are in flight on it
  if (pointer_to_this_ != nullptr) *pointer_to_this_ = nullptr;
}

bool CutDevice::cut() const {
  std::lock_guard lock(mu_);
  return cut_;
}

absl::Status CutDevice::Shorten(uint64_t size_bytes) {
  std::lock_guard lock(mu_);
  return CountEventLocked() ? absl::InternalError("power cut") : inner_->Shorten(size_bytes);
}

void CutDevice::CutAfter(uint64_t events) {
  std::lock_guard lock(mu_);
  events_left_ = events;
}

void CutDevice::CutNow() {
  std::lock_guard lock(mu_);
  CutLocked();
}

void CutDevice::CutLocked() {
  if (cut_) return;
  cut_ = true;
  auto fail = [this](Copy& copy) {
    copy.original->status = absl::InternalError("power cut");
    failed_.push_back(std::exchange(copy.original, nullptr));
  };
  for (auto& [request, copy] : in_flight_) fail(*copy);
  WakeReaperLocked();
}

bool CutDevice::CountEventLocked() {
  if (events_left_ > 0 && --events_left_ == 0) CutLocked();
  return cut_;
}

void CutDevice::WakeReaperLocked() {
  if (!reaping_ || failed_.empty() || waker_) return;
  waker_ = std::make_unique<Copy>();
  IoRequest* request = &waker_->request;
  inner_->Submit({&request, 1});
}

void CutDevice::Submit(absl::Span<IoRequest* const> requests) {
  std::lock_guard lock(mu_);
  std::vector<IoRequest*> batch;
  for (IoRequest* original : requests) {
    if (CountEventLocked()) {
      original->status = absl::InternalError("power cut");
      failed_.push_back(original);
      continue;
    }
    auto copy = std::make_unique<Copy>(original);
    IoRequest* request = &copy->request;
    in_flight_[request] = std::move(copy);
    batch.push_back(request);
  }
  // Requests of this batch that came before the cut are in flight, and were told so by CutLocked.
  if (!batch.empty()) inner_->Submit(batch);
  WakeReaperLocked();
}

void CutDevice::Reap(bool wait, std::vector<IoRequest*>* completed) {
  std::unique_lock lock(mu_);
  const size_t before = completed->size();
  while (true) {
    completed->insert(completed->end(), failed_.begin(), failed_.end());
    failed_.clear();
    if (cut_ && (!wait || completed->size() > before)) return;  // what is in flight stays there
    const bool block = wait && completed->size() == before;
    reaping_ = true;
    lock.unlock();
    std::vector<IoRequest*> reaped;
    inner_->Reap(block, &reaped);
    lock.lock();
    reaping_ = false;
    for (IoRequest* request : reaped) {
      if (waker_ && request == &waker_->request) {
        waker_.reset();
        continue;
      }
      auto it = in_flight_.find(request);
      if (it->second->original != nullptr && !CountEventLocked()) {
        it->second->Finish();
        completed->push_back(it->second->original);
      }
      in_flight_.erase(it);
    }
    if (!wait || completed->size() > before) return;
  }
}

}  // namespace untorn
