#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/stores.h"
#include "bench/works.h"

namespace untorn::bench {
namespace {

constexpr uint64_t kUnit = 64 << 10;
const char kCow[] = "untorn";
const char kInPlace[] = "untorn, automatic policy";

std::vector<std::string> Peers() { return {"SQLite WAL", "LMDB", "RocksDB"}; }

void AddPeerEntrants(const Load& load, std::vector<Entrant>* entrants) {
  for (const Subject& peer : {SqliteSubject(), LmdbSubject(), RocksdbSubject()})
    entrants->push_back({peer, load});
}

void AddPeers(const std::string& work, const std::vector<Series>& series, Results* results) {
  for (const std::string& peer : Peers()) AddRatio(work, series, kCow, peer, results);
  AddRatioToBest(work, series, kCow, Peers(), results);
}

// A fast disk answers sooner than a copy and its hashes are made.
const char* LimitOn(const Setting& setting) { return setting.on.empty() ? kRaw : kRawHashed; }

void AddRawEntrants(const Load& load, std::vector<Entrant>* entrants) {
  for (const char* name : {kRaw, kRawHashed}) {
    for (const Subject& road : RawWriteSubjects(name)) entrants->push_back({road, load});
  }
}

// The ratios to plain I/O, which takes the faster of its two roads.
void AddRaw(const std::string& work, const std::vector<Series>& series, const char* subject,
            Results* results) {
  for (const char* name : {kRaw, kRawHashed}) {
    std::vector<std::string> roads;
    for (const Subject& road : RawWriteSubjects(name)) roads.push_back(road.name);
    AddRatioToBest(work, series, subject, roads, results, name);
  }
}

double BestOf(const std::vector<Series>& series, const std::vector<std::string>& names) {
  double best = 0;
  for (const std::string& name : names) best = std::max(best, MedianOf(Find(series, name).per_second));
  return best;
}

// Twice the best peer is asked for where that is below the bar against plain I/O.
double PeerBar(const Setting& setting, const std::vector<Series>& series, double of_limit) {
  std::vector<std::string> roads;
  for (const Subject& road : RawWriteSubjects(LimitOn(setting))) roads.push_back(road.name);
  return of_limit * BestOf(series, roads) >= 2 * BestOf(series, Peers()) ? 2 : 1;
}

absl::Status Batches(const Setting& setting, Results* results) {
  for (uint64_t kib : {4, 16, 8, 64}) {
    if (setting.quick && kib != 4 && kib != 16) continue;
    for (int pages : {1, 4, 16, 64}) {
      if (setting.quick && pages != 16 && (pages != 1 || kib != 16)) continue;
      const std::string work = absl::StrCat(pages, " x ", kib, " KiB durable", setting.on);
      const Load load{.page_bytes = kib << 10, .pages = pages};
      std::vector<Entrant> entrants = {{UntornSubject(kCow, WritePolicy::kAlwaysCow, 0), load},
                                       {UntornSubject(kInPlace, WritePolicy::kAutomatic, kUnit), load}};
      AddRawEntrants(load, &entrants);
      AddPeerEntrants(load, &entrants);
      auto series = CompareStores(work, entrants, setting.pace, setting.directory, results);
      if (!series.ok()) return series.status();
      AddRaw(work, *series, kCow, results);
      AddRaw(work, *series, kInPlace, results);
      AddPeers(work, *series, results);
      if (pages == 1 && kib == 16) {
        results->bars.push_back({work, kCow, LimitOn(setting), 0.90, {}});
        results->bars.push_back({work, kCow, "best peer", 1, {}});
      }
      if (pages == 16 && (kib == 16 || kib == 4)) {
        results->bars.push_back({work, kCow, LimitOn(setting), 0.85, {}});
        results->bars.push_back({work, kCow, "best peer", PeerBar(setting, *series, 0.85), {}});
      }
    }
  }
  return absl::OkStatus();
}

// What overwriting in place brings: where one region is written again and again, and over many pages at random.
absl::Status InPlace(const Setting& setting, const std::string& work, const Load& load, Results* results) {
  std::vector<Entrant> entrants = {{UntornSubject(kCow, WritePolicy::kAlwaysCow, 0), load},
                                   {UntornSubject(kInPlace, WritePolicy::kAutomatic, kUnit), load}};
  AddRawEntrants(load, &entrants);
  auto series = CompareStores(work, entrants, setting.pace, setting.directory, results);
  if (!series.ok()) return series.status();
  AddRaw(work, *series, kInPlace, results);
  AddRatio(work, *series, kInPlace, kCow, results);
  const CommitCounts& counts = Find(*series, kInPlace).counts;
  results->ratios.push_back({work + ", records that open or settle",
                             kInPlace,
                             "its commits",
                             {static_cast<double>(counts.settlings) / static_cast<double>(counts.commits)}});
  results->bars.push_back({work, kInPlace, LimitOn(setting), 0.95, {}});
  return absl::OkStatus();
}

}  // namespace

absl::Status DurableWorks(const Setting& setting, Results* results) {
  if (absl::Status s = Batches(setting, results); !s.ok()) return s;
  absl::Status s = InPlace(setting, absl::StrCat("1 x 16 KiB durable in one hot MiB", setting.on),
                           {.page_bytes = 16 << 10, .set_bytes = 1 << 20}, results);
  // A fast disk has no room for so many pages.
  if (!s.ok() || setting.quick || !setting.on.empty()) return s;
  return InPlace(setting, "1 x 4 KiB durable at random over 10^6 pages",
                 {.page_bytes = 4 << 10, .set_bytes = uint64_t{1'000'000} << 12}, results);
}

absl::Status ManyClientsWorks(const Setting& setting, Results* results) {
  const char kOnMany[] = "the same on as many objects", kRawPacked[] = "raw packed";
  const auto name = [&](int clients) {
    return absl::StrCat(clients, " clients, 4 KiB durable each, one object", setting.on);
  };
  for (int clients : {16, 2, 4, 64}) {
    if (setting.quick && clients != 16) continue;
    const std::string work = name(clients);
    const Load one{.page_bytes = 4096, .clients = clients};
    Load many = one;
    many.objects = clients;
    std::vector<Entrant> entrants = {{UntornSubject(kCow, WritePolicy::kAlwaysCow, 0), one},
                                     {RawPackedSubject(), one},
                                     {UntornSubject(kOnMany, WritePolicy::kAlwaysCow, 0), many}};
    AddPeerEntrants(one, &entrants);
    auto series = CompareStores(work, entrants, setting.pace, setting.directory, results);
    if (!series.ok()) return series.status();
    AddRatio(work, *series, kCow, kRawPacked, results);
    AddRatio(work, *series, kCow, kOnMany, results);
    AddPeers(work, *series, results);
  }
  results->bars.push_back({name(16), kCow, kRawPacked, 0.85, {}});
  results->bars.push_back({name(16), kCow, "best peer", 1, {}});
  results->bars.push_back({name(16), kCow, kOnMany, 0.9, {}});
  return absl::OkStatus();
}

}  // namespace untorn::bench
