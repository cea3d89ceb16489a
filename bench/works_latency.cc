// How even commits are, the store's own doing alone: on a simulated device each request of which takes the same time.
#include <memory>
#include <random>
#include <vector>

#include "bench/pages.h"
#include "bench/works.h"
#include "sim/simulated_device.h"
#include "store/on_device.h"
#include "untorn/store.h"

namespace untorn::bench {
namespace {

constexpr uint64_t kPage = 16 << 10;
constexpr uint64_t kSetBytes = 64 << 20;
constexpr uint64_t kStoreBytes = 512 << 20;
constexpr SimulatedLatency kLatency = {.read_ns = 80'000, .write_ns = 80'000, .flush_ns = 80'000};

// The times of that many commits, one after another, in virtual nanoseconds.
absl::StatusOr<std::vector<uint32_t>> Commits(int commits) {
  auto disk = std::make_shared<SimulatedDisk>(kStoreBytes);
  SimulatedDeviceOptions options{.size_bytes = kStoreBytes, .needs_preparing = true, .latency = kLatency};
  SimulatedDevice format(disk, options);
  if (absl::Status s = internal::CreateOnDevice(format, {}); !s.ok()) return s;
  auto device = std::make_unique<SimulatedDevice>(disk, options);
  const SimulatedDevice& clock = *device;
  auto store = internal::OpenOnDevice(std::move(device), {.cache_bytes = 2 * kSetBytes});
  if (!store.ok()) return store.status();
  auto object = (*store)->CreateObject("pages");
  if (!object.ok()) return object.status();
  AlignedBuffer page = RandomBytes(kPage, 1);
  std::mt19937_64 rng(1);
  std::vector<uint32_t> latencies;
  constexpr uint64_t kPages = kSetBytes / kPage;
  for (uint64_t n = 0; n < kPages + commits; ++n) {
    const uint64_t number = n < kPages ? n : rng() % kPages;
    Stamp(page.data(), kPage, number, n);
    const uint64_t start = clock.virtual_ns();
    absl::Status s = object->Write(number * kPage, std::span<const std::byte>(page.span()),
                                   {.durability = Durability::kSync});
    if (!s.ok()) return s;
    if (n >= kPages) latencies.push_back(static_cast<uint32_t>(clock.virtual_ns() - start));
  }
  if ((*store)->stats().checkpoints == 0)
    return absl::InternalError("there was no checkpoint among the commits");
  return latencies;
}

}  // namespace

absl::Status LatencyWorks(const Setting& setting, Results* results) {
  const std::string work = "1 x 16 KiB durable, virtual time";
  const std::string ratio_work = "p99.9 of " + work;
  Ratio ratio{ratio_work, "untorn", "its median", {}};
  std::vector<uint32_t> all;
  for (int round = 0; round < setting.pace.rounds; ++round) {
    absl::StatusOr<std::vector<uint32_t>> latencies = Commits(setting.quick ? 10'000 : 50'000);
    if (!latencies.ok()) return latencies.status();
    all.insert(all.end(), latencies->begin(), latencies->end());
    ratio.rounds.push_back(PercentileUs(*latencies, 0.999) / PercentileUs(*latencies, 0.5));
  }
  results->ratios.push_back(std::move(ratio));
  results->bars.push_back({ratio_work, "untorn", "its median", {}, 3});
  const double p50 = PercentileUs(all, 0.5);
  results->figures.push_back({work, "untorn", "simulated device, 80 µs a request, many at a time", 1e6 / p50,
                              p50, PercentileUs(all, 0.99), PercentileUs(all, 0.999),
                              PercentileUs(all, 0.9999)});
  return absl::OkStatus();
}

}  // namespace untorn::bench
