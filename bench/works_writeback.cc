// What moves in bulk: a set of dirty pages to the device, and an object from it, beside sequential I/O, which is the
// limit.
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/pages.h"
#include "bench/raw_file.h"
#include "bench/works.h"
#include "untorn/store.h"

namespace untorn::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kPage = 16 << 10;
constexpr uint64_t kPiece = 1 << 20;  // of sequential I/O

// A file, written and read from end to end.
class RawSequential {
 public:
  static absl::StatusOr<std::unique_ptr<RawSequential>> Make(const std::string& path, uint64_t bytes) {
    auto raw = std::make_unique<RawSequential>();
    raw->bytes_ = bytes;
    if (absl::Status s = raw->file_.Open(path, bytes); !s.ok()) return s;
    if (const int e = io_uring_queue_init(kInFlight, &raw->ring_, 0); e < 0) return IoError("io_uring", e);
    raw->ring_made_ = true;
    return raw;
  }
  ~RawSequential() {
    if (ring_made_) io_uring_queue_exit(&ring_);
  }

  // Both: bytes a second.
  absl::StatusOr<double> Write() {
    const Clock::time_point start = Clock::now();
    uint64_t sent = 0, done = 0;
    while (done < bytes_) {
      for (; sent < bytes_ && sent - done < kInFlight * kPiece; sent += kPiece) {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        io_uring_prep_write(sqe, file_.fd(), data_.data(), kPiece, sent);
      }
      io_uring_cqe* cqe;
      if (const int e = io_uring_submit_and_wait(&ring_, 1); e < 0) return IoError("io_uring", e);
      if (const int e = io_uring_wait_cqe(&ring_, &cqe); e < 0) return IoError("io_uring", e);
      const int result = cqe->res;
      io_uring_cqe_seen(&ring_, cqe);
      if (result != static_cast<int>(kPiece)) return IoError("write", result);
      done += kPiece;
    }
    if (fdatasync(file_.fd()) != 0) return absl::ErrnoToStatus(errno, "fdatasync");
    return bytes_ / SecondsSince(start);
  }
  absl::StatusOr<double> Read() {
    const Clock::time_point start = Clock::now();
    for (uint64_t at = 0; at < bytes_; at += kPiece) {
      const ssize_t n = pread(file_.fd(), data_.data(), kPiece, at);
      if (n != static_cast<ssize_t>(kPiece)) return IoError("read", n < 0 ? -errno : n);
    }
    return bytes_ / SecondsSince(start);
  }

 private:
  static constexpr unsigned kInFlight = 8;
  RawFile file_;
  uint64_t bytes_ = 0;
  AlignedBuffer data_ = RandomBytes(kHugePageBytes, 1);
  io_uring ring_;
  bool ring_made_ = false;
};

// Objects of a store whose pages are known.
class PageSet {
 public:
  explicit PageSet(uint64_t bytes) : bytes_(bytes), versions_(bytes / kPage, 0), order_(bytes / kPage) {
    for (uint64_t i = 0; i < order_.size(); ++i) order_[i] = i;
  }

  // Overwrites every page once, buffered; at random if `shuffled`.
  absl::Status Write(Object& object, bool shuffled) {
    if (shuffled) std::shuffle(order_.begin(), order_.end(), rng_);
    for (uint64_t page : order_) {
      Stamp(data_.data(), kPage, page, ++versions_[page]);
      if (absl::Status s = object.Write(page * kPage, std::span<const std::byte>(data_.span())); !s.ok())
        return s;
    }
    return absl::OkStatus();
  }
  // Writes every page once in order, a block at a time, each of them durably.
  absl::Status FillDurably(Object& object) {
    for (uint64_t page : order_) {
      Stamp(data_.data(), kPage, page, ++versions_[page]);
      for (uint64_t at = 0; at < kPage; at += kBlockBytes) {
        const std::span<const std::byte> block(data_.data() + at, kBlockBytes);
        absl::Status s = object.Write(page * kPage + at, block, {.durability = Durability::kSync});
        if (!s.ok()) return s;
      }
    }
    return absl::OkStatus();
  }
  absl::Status Check(const Object& object) {
    for (uint64_t page = 0; page < versions_.size(); ++page) {
      absl::Status s = object.Read(page * kPage, data_.span(), {.bypass_cache = true}).status();
      if (s.ok()) s = CheckStamp(data_.data(), kPage, page, versions_[page]);
      if (!s.ok()) return s;
    }
    return absl::OkStatus();
  }
  // Bytes a second.
  absl::StatusOr<double> Scan(const Object& object) {
    const Clock::time_point start = Clock::now();
    for (uint64_t at = 0; at < bytes_; at += kPiece) {
      if (auto n = object.Read(at, piece_.span().first(kPiece), {.bypass_cache = true}); !n.ok())
        return n.status();
    }
    return bytes_ / SecondsSince(start);
  }

 private:
  const uint64_t bytes_;
  std::vector<uint32_t> versions_;
  std::vector<uint64_t> order_;
  std::mt19937_64 rng_{1};
  AlignedBuffer data_ = RandomBytes(kPage, 1), piece_ = RandomBytes(kHugePageBytes, 1);
};

void AddFigures(const std::string& work, const std::vector<Series>& series, Results* results) {
  for (const Series& s : series)
    results->figures.push_back({work + ", MiB", s.subject, "", MedianOf(s.per_second) / (1 << 20)});
}

absl::Status MeasureWriteback(const Setting& setting, const std::string& path, RawSequential& raw,
                              uint64_t bytes, Results* results) {
  // None of it is written back before it is asked for.
  auto store = Store::Open(path, {.cache_bytes = 5 * bytes});
  if (!store.ok()) return store.status();
  auto object = (*store)->CreateObject("written back");
  if (!object.ok()) return object.status();
  PageSet pages(bytes);
  const auto writeback = [&]() -> absl::StatusOr<double> {
    if (absl::Status s = pages.Write(*object, /*shuffled=*/true); !s.ok()) return s;
    const uint64_t before = (*store)->stats().cow_bytes;
    const Clock::time_point start = Clock::now();
    if (absl::Status s = (*store)->Sync(); !s.ok()) return s;
    return ((*store)->stats().cow_bytes - before) / SecondsSince(start);
  };
  for (int i = 0; i < 3; ++i) {
    if (auto warm_up = writeback(); !warm_up.ok()) return warm_up.status();
  }
  auto series = Alternate({{"untorn", writeback}, {"raw sequential", [&] { return raw.Write(); }}},
                          setting.pace.rounds);
  if (!series.ok()) return series.status();
  if (absl::Status s = (*store)->Close(); !s.ok()) return s;
  store = Store::Open(path, {});
  if (!store.ok()) return store.status();
  object = (*store)->OpenObject("written back");
  if (!object.ok()) return object.status();
  if (absl::Status s = pages.Check(*object); !s.ok()) return s;

  const std::string work = absl::StrCat("writeback of ", bytes >> 20, " MiB dirty random 16 KiB pages");
  AddRatio(work, *series, "untorn", "raw sequential", results);
  AddFigures(work, *series, results);
  results->bars.push_back({work, "untorn", "raw sequential", 0.85, {}});
  return (*store)->Remove("written back", Durability::kSync);
}

absl::Status MeasureScans(const Setting& setting, const std::string& path, RawSequential& raw, uint64_t bytes,
                          Results* results) {
  auto store = Store::Open(path, {});
  if (!store.ok()) return store.status();
  auto fresh = (*store)->CreateObject("fresh"), overwritten = (*store)->CreateObject("overwritten");
  if (!fresh.ok()) return fresh.status();
  if (!overwritten.ok()) return overwritten.status();
  PageSet fresh_pages(bytes), overwritten_pages(bytes);
  for (auto& [object, pages] :
       {std::pair(&*fresh, &fresh_pages), std::pair(&*overwritten, &overwritten_pages)}) {
    if (absl::Status s = pages->Write(*object, /*shuffled=*/false); !s.ok()) return s;
    if (absl::Status s = (*store)->Sync(); !s.ok()) return s;
  }
  auto filled = (*store)->CreateObject("filled");
  if (!filled.ok()) return filled.status();
  PageSet filled_pages(bytes / 4);
  if (absl::Status s = filled_pages.FillDurably(*filled); !s.ok()) return s;
  for (int i = 0; i < 3; ++i) {
    if (absl::Status s = overwritten_pages.Write(*overwritten, /*shuffled=*/true); !s.ok()) return s;
  }
  if (absl::Status s = (*store)->Close(); !s.ok()) return s;
  store = Store::Open(path, {});
  if (!store.ok()) return store.status();
  fresh = (*store)->OpenObject("fresh");
  overwritten = (*store)->OpenObject("overwritten");
  filled = (*store)->OpenObject("filled");
  if (!filled.ok()) return filled.status();
  if (!fresh.ok()) return fresh.status();
  if (!overwritten.ok()) return overwritten.status();
  const char kFresh[] = "untorn, as written in order", kOver[] = "untorn, after random overwrites",
             kFilled[] = "untorn, after durable writes of 4 KiB in order";
  auto series = Alternate({{kFresh, [&] { return fresh_pages.Scan(*fresh); }},
                           {kOver, [&] { return overwritten_pages.Scan(*overwritten); }},
                           {kFilled, [&] { return filled_pages.Scan(*filled); }},
                           {"raw sequential", [&] { return raw.Read(); }}},
                          setting.pace.rounds);
  if (!series.ok()) return series.status();
  if (absl::Status s = fresh_pages.Check(*fresh); !s.ok()) return s;
  if (absl::Status s = overwritten_pages.Check(*overwritten); !s.ok()) return s;
  if (absl::Status s = filled_pages.Check(*filled); !s.ok()) return s;
  const std::string work = absl::StrCat("scan of ", bytes >> 20, " MiB, 1 MiB at a time");
  AddRatio(work, *series, kFresh, "raw sequential", results);
  AddRatio(work, *series, kOver, "raw sequential", results);
  AddRatio(work, *series, kFilled, "raw sequential", results);
  AddRatio(work, *series, kOver, kFresh, results);
  results->bars.push_back({work, kOver, "raw sequential", 0.8, {}});
  results->bars.push_back({work, kFilled, "raw sequential", 0.8, {}});
  AddFigures(work, *series, results);
  return absl::OkStatus();
}

}  // namespace

absl::Status WritebackWorks(const Setting& setting, Results* results) {
  const std::string path = setting.directory + "/writeback", raw_path = setting.directory + "/sequential";
  const uint64_t bytes = (setting.quick ? uint64_t{256} : 1024) << 20;
  if (absl::Status s = Store::Create(path, {.size_bytes = 4 * bytes, .force = true, .prepare = true});
      !s.ok())
    return s;
  auto raw = RawSequential::Make(raw_path, bytes);
  if (!raw.ok()) return raw.status();
  if (absl::Status s = MeasureWriteback(setting, path, **raw, bytes, results); !s.ok()) return s;
  return MeasureScans(setting, path, **raw, bytes, results);
}

}  // namespace untorn::bench
