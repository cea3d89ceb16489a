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
#include "base/hash.h"
#include "bench/raw_file.h"
#include "bench/stores.h"

#ifndef RWF_ATOMIC  // Linux 6.11
#define RWF_ATOMIC 0x00000040
#endif

namespace untorn::bench {
namespace {

// One durable write for a commit, whatever the number of its pages. A single page is overwritten where it is. Several go
// to one contiguous place, one behind the other. Nothing of it could be recovered.
class RawOneWrite : public PageStore {
 public:
  struct How {
    int flags = RWF_DSYNC;
    bool by_ring = false;  // in the calling thread
    // Does with the data what a store has to do: copies it, because the caller may change it, and hashes each block.
    bool copies_and_hashes = false;
  };
  static absl::StatusOr<std::unique_ptr<PageStore>> Open(const PageStoreOptions& options, How how) {
    auto store = std::make_unique<RawOneWrite>();
    store->options_ = options;
    store->how_ = how;
    store->slots_ = 2 * options.pages * options.objects;
    absl::Status s = store->file_.Open(options.directory + "/raw", store->slots_ * options.page_bytes);
    if (!s.ok()) return s;
    store->next_ = options.pages * options.objects;
    store->page_at_.assign(store->slots_, UINT64_MAX);
    for (uint64_t page = 0; page < store->next_; ++page) {
      store->place_of_.push_back(page);
      store->page_at_[page] = page;
    }
    if (!how.by_ring) return store;
    if (const int e = io_uring_queue_init(8, &store->ring_, 0); e < 0) return IoError("io_uring", e);
    store->ring_made_ = true;
    return store;
  }
  ~RawOneWrite() override {
    if (ring_made_) io_uring_queue_exit(&ring_);
  }

  absl::Status Commit(int client, std::span<const PageWrite> pages) override {
    // RWF_ATOMIC takes one piece of memory.
    if ((how_.flags & RWF_ATOMIC) != 0 && pages.size() > 1) {
      for (const PageWrite& page : pages) {
        if (absl::Status s = Commit(client, {&page, 1}); !s.ok()) return s;
      }
      return absl::OkStatus();
    }
    const uint64_t bytes = pages.size() * options_.page_bytes;
    const uint64_t place = Place(pages);
    iov_.clear();
    for (const PageWrite& p : pages) iov_.push_back({const_cast<std::byte*>(p.data), options_.page_bytes});
    if (how_.copies_and_hashes) {
      if (copy_.size() < bytes) copy_ = AlignedBuffer(bytes);
      std::byte* to = copy_.data();
      for (const iovec& v : iov_) {
        std::memcpy(to, v.iov_base, v.iov_len);
        for (uint64_t at = 0; at < v.iov_len; at += kBlockBytes) {
          const iovec block{to + at, kBlockBytes};
          hash_ += HashData({&block, 1}, 1).low;
        }
        to += v.iov_len;
      }
      iov_ = {{copy_.data(), bytes}};
    }
    const uint64_t offset = place * options_.page_bytes;
    const ssize_t n = how_.by_ring ? WriteByRing(offset) : WriteByCall(offset);
    return n == static_cast<ssize_t>(bytes) ? absl::OkStatus() : IoError("write", n);
  }

  absl::Status Read(int, uint32_t object, uint64_t page, std::byte* out) override {
    const uint64_t number = object * options_.pages + page, place = place_of_[number];
    if (page_at_[place] != number) return absl::NotFoundError("overwritten since by another page");
    return file_.Read(place * options_.page_bytes, out, options_.page_bytes);
  }

 private:
  // Returns where the pages go, in pages.
  uint64_t Place(std::span<const PageWrite> pages) {
    if (pages.size() == 1) return place_of_[pages[0].object * options_.pages + pages[0].page];
    if (next_ + pages.size() > slots_) next_ = 0;
    const uint64_t place = next_;
    for (const PageWrite& p : pages) {
      const uint64_t number = p.object * options_.pages + p.page;
      page_at_[next_] = number;
      place_of_[number] = next_++;
    }
    return place;
  }
  ssize_t WriteByCall(uint64_t offset) {
    const ssize_t n = pwritev2(file_.fd(), iov_.data(), iov_.size(), offset, how_.flags);
    return n < 0 ? -errno : n;
  }
  ssize_t WriteByRing(uint64_t offset) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_writev(sqe, file_.fd(), iov_.data(), iov_.size(), offset);
    sqe->rw_flags = how_.flags;
    if (const int sent = io_uring_submit_and_wait(&ring_, 1); sent < 0) return sent;
    io_uring_cqe* cqe;
    if (const int e = io_uring_wait_cqe(&ring_, &cqe); e < 0) return e;
    const ssize_t n = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    return n;
  }

  PageStoreOptions options_;
  How how_;
  RawFile file_;
  uint64_t slots_ = 0, next_ = 0, hash_ = 0;
  std::vector<uint64_t> place_of_, page_at_;
  std::vector<iovec> iov_;
  AlignedBuffer copy_;
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

const char kRaw[] = "raw write";
const char kRawHashed[] = "raw write, copied and hashed";

std::vector<Subject> RawWriteSubjects(const std::string& name) {
  const bool hashed = name == kRawHashed;
  const std::string settings = absl::StrCat(
      "O_DIRECT, RWF_DSYNC; one page in place, several as one contiguous write",
      hashed ? "; copied before, and hashed block by block" : "", "; not atomic, not recoverable");
  std::vector<Subject> subjects;
  for (const bool by_ring : {false, true}) {
    const RawOneWrite::How how{.by_ring = by_ring, .copies_and_hashes = hashed};
    subjects.push_back(
        {name + (by_ring ? ", by io_uring" : ", by pwritev2"), settings,
         [how](const PageStoreOptions& options, bool) { return RawOneWrite::Open(options, how); },
         /*reopens=*/false});
  }
  return subjects;
}

Subject RawAtomicSubject(const std::string& name) {
  return {name, "O_DIRECT, RWF_DSYNC and RWF_ATOMIC, in place",
          [](const PageStoreOptions& options, bool) {
            return RawOneWrite::Open(options, {.flags = RWF_DSYNC | RWF_ATOMIC});
          },
          /*reopens=*/false};
}

Subject RawPackedSubject() {
  return {"raw packed",
          "O_DIRECT, io_uring: one contiguous write of all pages, 4 KiB of log beside it, fdatasync; clients "
          "share; not "
          "recoverable",
          RawPacked::Open, /*reopens=*/false};
}

}  // namespace untorn::bench
