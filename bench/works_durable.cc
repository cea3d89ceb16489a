#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/stores.h"
#include "bench/works.h"

namespace untorn::bench {
namespace {

constexpr uint64_t kUnit = 64 << 10;
const char kCow[] = "untorn";
const char kInPlace[] = "untorn in place";

std::vector<std::string> Peers() { return {"SQLite WAL", "LMDB", "RocksDB"}; }

// untorn, the limit and the peers, all at one load.
std::vector<Entrant> WithPeers(const Load& load) {
  return {{UntornSubject(kCow, WritePolicy::kAlwaysCow, 0), load},
          {RawPackedSubject(), load},
          {SqliteSubject(), load},
          {LmdbSubject(), load},
          {RocksdbSubject(), load}};
}

void AddPeers(const std::string& work, const std::vector<Series>& series, Results* results) {
  for (const std::string& peer : Peers()) AddRatio(work, series, kCow, peer, results);
  AddRatioToBest(work, series, kCow, Peers(), results);
}

}  // namespace

absl::Status DurableWorks(const Setting& setting, Results* results) {
  const auto name = [&](int pages, uint64_t kib) {
    return absl::StrCat(pages, " x ", kib, " KiB durable", setting.on);
  };
  for (uint64_t kib : {4, 16, 8, 64}) {
    if (setting.quick && kib != 4 && kib != 16) continue;
    for (int pages : {1, 4, 16, 64}) {
      if (setting.quick && pages != 16 && (pages != 1 || kib != 16)) continue;
      const std::string work = name(pages, kib);
      const Load load{.page_bytes = kib << 10, .pages = pages};
      std::vector<Entrant> entrants = WithPeers(load);
      entrants.push_back({UntornSubject(kInPlace, WritePolicy::kAutomatic, kUnit), load});
      if (pages == 1) {
        entrants.push_back({RawOverwriteSubject(), load});
        entrants.push_back({RawOverwriteByRingSubject(), load});
      }
      auto series = CompareStores(work, entrants, setting.pace, setting.directory, results);
      if (!series.ok()) return series.status();
      AddRatio(work, *series, kCow, "raw packed", results);
      AddRatio(work, *series, kInPlace, "raw packed", results);
      if (pages == 1) {
        // The limit is the faster of the two.
        const std::vector<std::string> roads = {"raw overwrite", "raw overwrite by io_uring"};
        for (const char* subject : {kCow, kInPlace})
          AddRatioToBest(work, *series, subject, roads, results, "raw overwrite");
      }
      AddPeers(work, *series, results);
    }
  }
  results->bars.push_back({name(1, 16), kCow, "raw overwrite", 0.90, {}});
  results->bars.push_back({name(1, 16), kCow, "best peer", 1.8, {}});
  results->bars.push_back({name(1, 16), kInPlace, "raw overwrite", 0.95, {}});
  results->bars.push_back({name(16, 16), kCow, "best peer", 5, {}});
  results->bars.push_back({name(16, 16), kCow, "raw packed", 0.80, {}});
  results->bars.push_back({name(16, 4), kCow, "best peer", 3, {}});
  return absl::OkStatus();
}

absl::Status ManyClientsWorks(const Setting& setting, Results* results) {
  const char kOnMany[] = "the same on as many objects";
  const auto name = [&](int clients) {
    return absl::StrCat(clients, " clients, 4 KiB durable each, one object", setting.on);
  };
  for (int clients : {16, 2, 4, 64}) {
    if (setting.quick && clients != 16) continue;
    const std::string work = name(clients);
    const Load one{.page_bytes = 4096, .clients = clients};
    Load many = one;
    many.objects = clients;
    std::vector<Entrant> entrants = WithPeers(one);
    entrants.push_back({UntornSubject(kOnMany, WritePolicy::kAlwaysCow, 0), many});
    auto series = CompareStores(work, entrants, setting.pace, setting.directory, results);
    if (!series.ok()) return series.status();
    AddRatio(work, *series, kCow, "raw packed", results);
    AddRatio(work, *series, kCow, kOnMany, results);
    AddPeers(work, *series, results);
  }
  results->bars.push_back({name(16), kCow, "raw packed", 0.80, {}});
  results->bars.push_back({name(16), kCow, "best peer", 2, {}});
  results->bars.push_back({name(16), kCow, kOnMany, 0.9, {}});
  return absl::OkStatus();
}

}  // namespace untorn::bench
