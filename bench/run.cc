#include "bench/run.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <random>
#include <system_error>
#include <thread>

#include "absl/strings/str_cat.h"
#include "bench/pages.h"

namespace untorn::bench {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t NsSince(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

}  // namespace

double PercentileUs(std::vector<uint32_t>& latencies_ns, double share) {
  if (latencies_ns.empty()) return 0;
  const size_t at = std::min<size_t>(latencies_ns.size() - 1, share * latencies_ns.size());
  std::nth_element(latencies_ns.begin(), latencies_ns.begin() + at, latencies_ns.end());
  return latencies_ns[at] / 1e3;
}

// Writes those pages of all objects whose number, counted through, leaves its own number as the remainder.
struct Driver::Client {
  // In huge pages, since untorn's are: what has no memory of its own writes from here.
  Client(const Load& load, int number, uint64_t seed)
      : number(number),
        rng(seed),
        buffers(RandomBytes(std::max<uint64_t>(load.pages * load.page_bytes, kHugePageBytes), seed)) {}

  int number;
  std::mt19937_64 rng;
  AlignedBuffer buffers;
  std::vector<PageWrite> pages;
  std::vector<uint64_t> drawn;
  Run run;
  absl::Status status;
};

Driver::Driver(const Subject& subject, const Load& load) : subject_(subject), load_(load) {}

absl::StatusOr<std::unique_ptr<Driver>> Driver::Make(const Subject& subject, const Load& load,
                                                     const std::string& directory, uint64_t seed) {
  std::unique_ptr<Driver> driver(new Driver(subject, load));
  PageStoreOptions& o = driver->options_;
  o.directory = directory;
  o.page_bytes = load.page_bytes;
  o.objects = load.objects;
  o.pages = load.set_bytes / load.page_bytes / load.objects;
  o.clients = load.clients;
  o.cache_bytes = load.cache_bytes;
  std::error_code error;
  std::filesystem::remove_all(o.directory, error);
  std::filesystem::create_directories(o.directory, error);
  if (error) return absl::InternalError(absl::StrCat(o.directory, ": ", error.message()));
  auto store = subject.open(o, /*exists=*/false);
  if (!store.ok()) return store.status();
  driver->store_ = *std::move(store);
  driver->versions_.assign(o.pages * o.objects, 0);
  for (int i = 0; i < load.clients; ++i)
    driver->clients_.push_back(std::make_unique<Client>(load, i, seed + i));
  if (load.skewed) {
    double sum = 0;
    const uint64_t own = driver->versions_.size() / load.clients;
    for (uint64_t rank = 1; rank <= own; ++rank) driver->shares_.push_back(sum += std::pow(rank, -0.99));
    for (double& share : driver->shares_) share /= sum;
  }
  if (absl::Status s = driver->Fill(); !s.ok()) return s;
  if (absl::Status s = driver->Overwrite(); !s.ok()) return s;
  return driver;
}

Driver::~Driver() {
  store_.reset();
  std::error_code error;
  std::filesystem::remove_all(options_.directory, error);
}

PageWrite Driver::Stamped(uint64_t n, std::byte* data) const {
  Stamp(data, load_.page_bytes, n, versions_[n]);
  return {static_cast<uint32_t>(n / options_.pages), n % options_.pages, data};
}

absl::Status Driver::Fill() {
  const uint64_t at_once = std::max<uint64_t>(64, (256 << 10) / load_.page_bytes);
  AlignedBuffer buffers = RandomBytes(at_once * load_.page_bytes, 1);
  std::vector<PageWrite> pages;
  for (uint64_t n = 0; n < versions_.size(); ++n) {
    pages.push_back(Stamped(n, buffers.data() + pages.size() * load_.page_bytes));
    if (pages.size() < at_once && n + 1 < versions_.size()) continue;
    if (absl::Status s = store_->Commit(0, pages); !s.ok()) return s;
    pages.clear();
  }
  return absl::OkStatus();
}

absl::Status Driver::Overwrite() {
  constexpr uint64_t kAtOnce = 64;
  AlignedBuffer buffers = RandomBytes(kAtOnce * load_.page_bytes, 1);
  std::mt19937_64 rng(1);
  std::vector<PageWrite> pages;
  std::vector<uint64_t> drawn;
  for (uint64_t left = load_.overwritten * versions_.size(); left > 0; left -= drawn.size()) {
    drawn.clear();
    pages.clear();
    while (drawn.size() < std::min(left, kAtOnce)) {
      const uint64_t n = rng() % versions_.size();
      if (std::find(drawn.begin(), drawn.end(), n) != drawn.end()) continue;
      ++versions_[n];
      drawn.push_back(n);
      pages.push_back(Stamped(n, buffers.data() + pages.size() * load_.page_bytes));
    }
    if (absl::Status s = store_->Commit(0, pages); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::StatusOr<Run> Driver::RunFor(int milliseconds) {
  std::atomic<bool> stop = false;
  const auto work = [&](Client& c) {
    c.run = Run();
    c.status = absl::OkStatus();
    const uint64_t own = versions_.size() / load_.clients;
    const auto draw = [&] {
      uint64_t i = c.rng() % own;
      if (load_.skewed) {
        const double share = std::uniform_real_distribution<double>()(c.rng);
        const uint64_t rank = std::lower_bound(shares_.begin(), shares_.end(), share) - shares_.begin();
        i = std::min(rank, own - 1) * 0x9e3779b97f4a7c15u % own;  // those of a kind are not side by side
      }
      return i * load_.clients + c.number;
    };
    const auto note = [&](Clock::time_point start) {
      c.run.latencies_ns.push_back(std::min<uint64_t>(NsSince(start), UINT32_MAX));
      ++c.run.operations;
    };
    while (!stop.load(std::memory_order_relaxed)) {
      if (static_cast<int>(c.rng() % 100) < load_.read_percent) {
        const uint64_t n = draw();
        const Clock::time_point start = Clock::now();
        c.status = store_->Read(c.number, n / options_.pages, n % options_.pages, c.buffers.data());
        note(start);
        if (c.status.ok()) c.status = CheckStamp(c.buffers.data(), load_.page_bytes, n, versions_[n]);
        if (!c.status.ok()) return;
        continue;
      }
      c.drawn.clear();
      while (static_cast<int>(c.drawn.size()) < load_.pages) {
        const uint64_t n = draw();
        if (std::find(c.drawn.begin(), c.drawn.end(), n) == c.drawn.end()) c.drawn.push_back(n);
      }
      c.pages.clear();
      for (uint64_t n : c.drawn) {
        ++versions_[n];
        c.pages.push_back(Stamped(n, c.buffers.data() + c.pages.size() * load_.page_bytes));
      }
      const Clock::time_point start = Clock::now();
      c.status = store_->Commit(c.number, c.pages);
      note(start);
      if (!c.status.ok()) return;
    }
  };
  const Clock::time_point start = Clock::now();
  // A single client is the calling thread, as it would be.
  if (load_.clients == 1) {
    std::thread timer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
      stop = true;
    });
    work(*clients_[0]);
    timer.join();
  } else {
    std::vector<std::thread> threads;
    for (auto& c : clients_) threads.emplace_back([&work, client = c.get()] { work(*client); });
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    stop = true;
    for (std::thread& t : threads) t.join();
  }
  Run all;
  all.seconds = NsSince(start) / 1e9;
  for (auto& c : clients_) {
    if (!c->status.ok())
      return absl::Status(c->status.code(),
                          absl::StrCat(subject_.name, ": ", std::string(c->status.message())));
    all.operations += c->run.operations;
    all.latencies_ns.insert(all.latencies_ns.end(), c->run.latencies_ns.begin(), c->run.latencies_ns.end());
  }
  return all;
}

absl::Status Driver::CheckAll() {
  AlignedBuffer page(load_.page_bytes);
  for (uint64_t n = 0; n < versions_.size(); ++n) {
    absl::Status s = store_->Read(0, n / options_.pages, n % options_.pages, page.data());
    if (absl::IsNotFound(s) && !subject_.reopens) continue;
    if (s.ok()) s = CheckStamp(page.data(), load_.page_bytes, n, versions_[n]);
    if (!s.ok()) return absl::Status(s.code(), absl::StrCat(subject_.name, ": ", std::string(s.message())));
  }
  return absl::OkStatus();
}

absl::Status Driver::Verify() {
  if (!subject_.reopens) return CheckAll();
  store_.reset();
  auto store = subject_.open(options_, /*exists=*/true);
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  return CheckAll();
}

}  // namespace untorn::bench
