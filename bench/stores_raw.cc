// Plain I/O without the store around it: the limits that the store is measured against.
#include <liburing.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "bench/raw_file.h"
#include "bench/stores.h"

#ifndef RWF_ATOMIC  // Linux 6.11
#define RWF_ATOMIC 0x00000040
#endif

namespace untorn::bench {
namespace {

// Each page overwritten where it is, by itself. Nothing makes several of them one.
class RawOverwrite : public PageStore {
 public:
  absl::Status Commit(int, std::span<const PageWrite> pages) override {
    for (const PageWrite& p : pages) {
      if (absl::Status s = Overwrite(Place(p.object, p.page), p.data); !s.ok()) return s;
    }
    return absl::OkStatus();
  }
  absl::Status Read(int, uint32_t object, uint64_t page, std::byte* out) override {
    return file_.Read(Place(object, page), out, options_.page_bytes);
  }

 protected:
  absl::Status OpenFile(const PageStoreOptions& options) {
    options_ = options;
    return file_.Open(options.directory + "/raw", options.page_bytes * options.pages * options.objects);
  }
  virtual absl::Status Overwrite(uint64_t offset, const std::byte* data) = 0;

  PageStoreOptions options_;
  RawFile file_;

 private:
  uint64_t Place(uint32_t object, uint64_t page) const {
    return (object * options_.pages + page) * options_.page_bytes;
  }
};

class RawOverwriteByCall : public RawOverwrite {
 public:
  static absl::StatusOr<std::unique_ptr<PageStore>> Open(const PageStoreOptions& options, int flags) {
    auto store = std::make_unique<RawOverwriteByCall>();
    store->flags_ = flags;
    if (absl::Status s = store->OpenFile(options); !s.ok()) return s;
    return store;
  }

 private:
  absl::Status Overwrite(uint64_t offset, const std::byte* data) override {
    const iovec iov{const_cast<std::byte*>(data), options_.page_bytes};
    const ssize_t n = pwritev2(file_.fd(), &iov, 1, offset, flags_);
    if (n != static_cast<ssize_t>(options_.page_bytes)) return IoError("pwritev2", n < 0 ? -errno : n);
    return absl::OkStatus();
  }
  int flags_ = 0;
};

// In the calling thread.
class RawOverwriteByRing : public RawOverwrite {
 public:
  static absl::StatusOr<std::unique_ptr<PageStore>> Open(const PageStoreOptions& options, bool) {
    auto store = std::make_unique<RawOverwriteByRing>();
    if (absl::Status s = store->OpenFile(options); !s.ok()) return s;
    if (const int e = io_uring_queue_init(8, &store->ring_, 0); e < 0) return IoError("io_uring", e);
    store->ring_made_ = true;
    return store;
  }
  ~RawOverwriteByRing() override {
    if (ring_made_) io_uring_queue_exit(&ring_);
  }

 private:
  absl::Status Overwrite(uint64_t offset, const std::byte* data) override {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_write(sqe, file_.fd(), data, options_.page_bytes, offset);
    sqe->rw_flags = RWF_DSYNC;
    if (const int sent = io_uring_submit_and_wait(&ring_, 1); sent < 0) return IoError("io_uring", sent);
    io_uring_cqe* cqe;
    if (const int e = io_uring_wait_cqe(&ring_, &cqe); e < 0) return IoError("io_uring", e);
    const int n = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    return n == static_cast<int>(options_.page_bytes) ? absl::OkStatus() : IoError("write", n);
  }
  io_uring ring_;
  bool ring_made_ = false;
};

// The shape of the fastest commit: all pages in one contiguous write, a log block beside it, then one flush. Clients
// that come together share one: the first sends for all. Nothing of it could be recovered.
class RawPacked : public PageStore {
 public:
  static absl::StatusOr<std::unique_ptr<PageStore>> Open(const PageStoreOptions& options, bool) {
    auto store = std::make_unique<RawPacked>();
    store->options_ = options;
    store->slots_ = 2 * options.pages * options.objects;
    absl::Status s =
        store->file_.Open(options.directory + "/raw", kLogBytes + store->slots_ * options.page_bytes);
    if (!s.ok()) return s;
    if (const int e = io_uring_queue_init(8, &store->ring_, 0); e < 0) return IoError("io_uring", e);
    store->ring_made_ = true;
    store->place_of_.assign(options.pages * options.objects, 0);
    store->page_at_.assign(store->slots_, UINT64_MAX);
    std::memset(store->log_.data(), 0, store->log_.size());
    return store;
  }
  ~RawPacked() override {
    if (ring_made_) io_uring_queue_exit(&ring_);
  }

  absl::Status Commit(int, std::span<const PageWrite> pages) override {
    Waiting self{pages, false, {}};
    std::unique_lock lock(mu_);
    waiting_.push_back(&self);
    while (!self.done) {
      if (sending_) {
        changed_.wait(lock);
        continue;
      }
      sending_ = true;
      const std::vector<Waiting*> batch = std::exchange(waiting_, {});
      lock.unlock();
      const absl::Status status = Send(batch);
      lock.lock();
      sending_ = false;
      for (Waiting* w : batch) {
        w->done = true;
        w->status = status;
      }
      changed_.notify_all();
    }
    return self.status;
  }

  absl::Status Read(int, uint32_t object, uint64_t page, std::byte* out) override {
    const uint64_t number = object * options_.pages + page, place = place_of_[number];
    if (page_at_[place] != number) return absl::NotFoundError("overwritten since by another page");
    return file_.Read(kLogBytes + place * options_.page_bytes, out, options_.page_bytes);
  }

 private:
  static constexpr uint64_t kLogBytes = 4 << 20;
  struct Waiting {
    std::span<const PageWrite> pages;
    bool done;
    absl::Status status;
  };

  absl::Status Send(const std::vector<Waiting*>& batch) {
    std::vector<iovec> iov;
    for (const Waiting* w : batch) {
      for (const PageWrite& p : w->pages)
        iov.push_back({const_cast<std::byte*>(p.data), options_.page_bytes});
    }
    if (next_ + iov.size() > slots_) next_ = 0;
    uint64_t place = next_;
    for (const Waiting* w : batch) {
      for (const PageWrite& p : w->pages) {
        const uint64_t number = p.object * options_.pages + p.page;
        page_at_[place] = number;
        place_of_[number] = place++;
      }
    }
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_writev(sqe, file_.fd(), iov.data(), iov.size(), kLogBytes + next_ * options_.page_bytes);
    sqe->user_data = iov.size() * options_.page_bytes;
    sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_write(sqe, file_.fd(), log_.data(), log_.size(), log_at_);
    sqe->user_data = log_.size();
    next_ += iov.size();
    log_at_ = (log_at_ + log_.size()) % kLogBytes;
    if (absl::Status s = Await(2); !s.ok()) return s;
    sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_fsync(sqe, file_.fd(), IORING_FSYNC_DATASYNC);
    sqe->user_data = 0;
    return Await(1);
  }

  absl::Status Await(unsigned count) {
    const int sent = io_uring_submit_and_wait(&ring_, count);
    if (sent < 0) return IoError("io_uring", sent);
    absl::Status status;
    for (unsigned i = 0; i < count; ++i) {
      io_uring_cqe* cqe;
      if (const int e = io_uring_wait_cqe(&ring_, &cqe); e < 0) return IoError("io_uring", e);
      if (cqe->res < 0 || static_cast<uint64_t>(cqe->res) != cqe->user_data)
        status = IoError("write", cqe->res);
      io_uring_cqe_seen(&ring_, cqe);
    }
    return status;
  }

  PageStoreOptions options_;
  RawFile file_;
  uint64_t slots_ = 0, next_ = 0, log_at_ = 0;
  AlignedBuffer log_{kBlockBytes};
  io_uring ring_;
  bool ring_made_ = false;
  std::vector<uint64_t> place_of_, page_at_;
  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<Waiting*> waiting_;
  bool sending_ = false;
};

}  // namespace

Subject RawOverwriteSubject() {
  return {"raw overwrite", "O_DIRECT, RWF_DSYNC, in place, one page after another; not atomic",
          [](const PageStoreOptions& options, bool) { return RawOverwriteByCall::Open(options, RWF_DSYNC); }};
}

Subject RawOverwriteByRingSubject() {
  return {"raw overwrite by io_uring", "as raw overwrite, by io_uring", RawOverwriteByRing::Open};
}

Subject RawAtomicSubject(const std::string& name) {
  return {name, "O_DIRECT, RWF_DSYNC and RWF_ATOMIC, in place, one page after another",
          [](const PageStoreOptions& options, bool) {
            return RawOverwriteByCall::Open(options, RWF_DSYNC | RWF_ATOMIC);
          }};
}

Subject RawPackedSubject() {
  return {"raw packed",
          "O_DIRECT, io_uring: one contiguous write of all pages, 4 KiB of log beside it, fdatasync; clients "
          "share; not "
          "recoverable",
          RawPacked::Open, /*reopens=*/false};
}

}  // namespace untorn::bench
