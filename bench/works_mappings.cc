// What the number of mappings costs: the same work in a store with few of them and in one with many.
#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/pages.h"
#include "bench/works.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kCacheBytes = 16 << 20;  // less than the pages of either store

// A store with one object, every second block of which is mapped: no two of them by one mapping.
class ManyMappings {
 public:
  static absl::StatusOr<std::unique_ptr<ManyMappings>> Make(const std::string& path, uint64_t mappings,
                                                            uint64_t size_bytes) {
    auto made = std::unique_ptr<ManyMappings>(new ManyMappings(path, mappings));
    absl::Status s = Store::Create(path, {.size_bytes = size_bytes, .force = true});
    if (!s.ok()) return s;
    if (auto opened = made->Open(); !opened.ok()) return opened.status();
    auto object = made->store_->CreateObject("object");
    if (!object.ok()) return object.status();
    made->object_ = *object;
    // At random, so that neighbours in the object are none on the device.
    std::vector<uint64_t> order(mappings);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), made->rng_);
    for (const uint64_t n : order) {
      if (s = made->Write(n, Durability::kBuffered); !s.ok()) return s;
    }
    if (auto opened = made->Open(); !opened.ok()) return opened.status();
    return made;
  }

  // The three measurements, each per second. None of them finds the tree in memory.
  absl::StatusOr<double> Open() {
    if (absl::Status s = Close(); !s.ok()) return s;
    const Clock::time_point start = Clock::now();
    auto opened = Store::Open(path_, {.policy = WritePolicy::kAlwaysCow, .cache_bytes = kCacheBytes});
    if (!opened.ok()) return opened.status();
    const double seconds = SecondsSince(start);
    store_ = *std::move(opened);
    if (auto object = store_->OpenObject("object"); object.ok()) object_ = *object;
    return 1 / seconds;
  }
  absl::StatusOr<double> WriteDurably(int milliseconds) { return Writes(milliseconds, Durability::kSync); }
  // Counts what has reached the device, the mappings in the tree included.
  absl::StatusOr<double> WriteBuffered(int milliseconds) {
    return Writes(milliseconds, Durability::kBuffered);
  }

  // How many bytes the tree has for each mapping, besides the checksums.
  absl::StatusOr<double> TreeBytes() {
    if (absl::Status s = Close(); !s.ok()) return s;
    absl::StatusOr<FsckResult> fsck = Fsck(path_);
    if (!fsck.ok()) return fsck.status();
    const uint64_t checksum_bytes = sizeof(uint64_t) * fsck->mapped_blocks;
    return static_cast<double>(fsck->tree_nodes * kPage - checksum_bytes) /
           static_cast<double>(fsck->mappings);
  }
  // How many bytes a buffered write has written to the device for each of its own, one value for a round.
  const std::vector<double>& amplification() const { return amplification_; }

  absl::Status Check() {
    if (auto opened = Open(); !opened.ok()) return opened.status();
    for (uint64_t n = 0; n < versions_.size(); n += 1 + versions_.size() / 5000) {
      absl::Status s = object_.Read(2 * n * kPage, data_.span()).status();
      if (s.ok()) s = CheckStamp(data_.data(), kPage, n, versions_[n]);
      if (!s.ok()) return s;
    }
    return absl::OkStatus();
  }

 private:
  ManyMappings(const std::string& path, uint64_t mappings) : path_(path), versions_(mappings, 0) {}

  absl::Status Close() {
    object_ = Object();
    const absl::Status s = store_ != nullptr ? store_->Close() : absl::OkStatus();
    store_.reset();
    return s;
  }
  absl::Status Write(uint64_t n, Durability durability) {
    Stamp(data_.data(), kPage, n, ++versions_[n]);
    return object_.Write(2 * n * kPage, std::span<const std::byte>(data_.span()), {.durability = durability});
  }
  absl::StatusOr<double> Writes(int milliseconds, Durability durability) {
    const Clock::time_point start = Clock::now();
    const uint64_t bytes_before = store_->stats().device_bytes_written;
    uint64_t writes = 0;
    absl::Status s;
    for (; s.ok() && SecondsSince(start) * 1000 < milliseconds; ++writes) {
      s = Write(rng_() % versions_.size(), durability);
    }
    if (s.ok() && durability == Durability::kBuffered) s = store_->Checkpoint();
    if (!s.ok()) return s;
    const double per_second = writes / SecondsSince(start);
    if (durability == Durability::kBuffered) {
      const auto bytes = static_cast<double>(store_->stats().device_bytes_written - bytes_before);
      amplification_.push_back(bytes / static_cast<double>(writes * kPage));
    }
    return per_second;
  }

  const std::string path_;
  std::vector<uint32_t> versions_;
  std::vector<double> amplification_;
  std::mt19937_64 rng_{1};
  AlignedBuffer data_ = RandomBytes(kPage, 1);
  std::unique_ptr<Store> store_;
  Object object_;
};

std::string Name(uint64_t mappings) { return absl::StrCat(mappings, " mappings"); }

}  // namespace

absl::Status MappingsWorks(const Setting& setting, Results* results) {
  const std::vector<uint64_t> counts = setting.quick ? std::vector<uint64_t>{10'000, 100'000}
                                                     : std::vector<uint64_t>{10'000, 1'000'000, 10'000'000};
  std::vector<std::unique_ptr<ManyMappings>> stores;
  for (uint64_t n : counts) {
    const uint64_t size_bytes = 5 * n * kPage / 4 + (uint64_t{4} << 30);
    auto made = ManyMappings::Make(absl::StrCat(setting.directory, "/mappings-", n), n, size_bytes);
    if (!made.ok()) return made.status();
    stores.push_back(*std::move(made));
  }
  struct Work {
    const char* name;
    absl::StatusOr<double> (*measure)(ManyMappings&, int milliseconds);
    double bar;
  };
  const Work works[] = {
      {"4 KiB durable at random", [](ManyMappings& m, int ms) { return m.WriteDurably(ms); }, 0.85},
      {"4 KiB buffered at random, and a checkpoint",
       [](ManyMappings& m, int ms) { return m.WriteBuffered(ms); }, 0.5},
      {"open", [](ManyMappings& m, int) { return m.Open(); }, 0.5},
  };
  const std::string few = Name(counts.front()), most = Name(counts.back());
  for (const Work& work : works) {
    std::vector<Contestant> contestants;
    for (size_t i = 0; i < counts.size(); ++i) {
      contestants.push_back(
          {Name(counts[i]), [&, i] { return work.measure(*stores[i], 5 * setting.pace.milliseconds); }});
    }
    auto series = Alternate(contestants, setting.pace.rounds);
    if (!series.ok()) return series.status();
    for (size_t i = 1; i < counts.size(); ++i) AddRatio(work.name, *series, Name(counts[i]), few, results);
    for (const Series& s : *series) {
      results->figures.push_back({work.name, s.subject, "", MedianOf(s.per_second)});
    }
    results->bars.push_back({work.name, most, few, work.bar, {}});
  }
  const std::string many = Name(counts[1]);
  const auto at_most = [&](const char* work, const char* against, std::vector<double> rounds, double bar) {
    results->ratios.push_back({work, many, against, std::move(rounds)});
    results->bars.push_back({work, many, against, {}, bar});
  };
  at_most("bytes written by 4 KiB buffered at random", "bytes of the pages", stores[1]->amplification(), 1.3);
  auto tree_bytes = stores[1]->TreeBytes();
  if (!tree_bytes.ok()) return tree_bytes.status();
  at_most("bytes of the tree, less the checksums", "one byte a mapping", {*tree_bytes}, 9);
  // Every mapping has one block.
  results->ratios.push_back(
      {"bytes of the tree", many, "one byte a mapping", {*tree_bytes + sizeof(uint64_t)}});
  for (const auto& store : stores) {
    if (absl::Status s = store->Check(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
