#include <algorithm>
#include <cstdio>
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

void AddPeers(const std::string& work, const std::vector<Series>& series, Results* results) {
  for (const std::string& peer : Peers()) AddRatio(work, series, kCow, peer, results);
  AddRatioToBest(work, series, kCow, Peers(), results);
}

}  // namespace

absl::Status DurableWorks(const Setting& setting, Results* results) {
  const auto name = [](int pages, uint64_t kib) { return absl::StrCat(pages, " x ", kib, " KiB durable"); };
  for (uint64_t kib : {4, 16, 8, 64}) {
    if (setting.quick && kib != 4 && kib != 16) continue;
    for (int pages : {1, 4, 16, 64}) {
      if (setting.quick && pages != 1 && pages != 16) continue;
      const std::string work = name(pages, kib);
      std::vector<Subject> subjects = {UntornSubject(kCow, WritePolicy::kAlwaysCow, 0),
                                       UntornSubject(kInPlace, WritePolicy::kAutomatic, kUnit),
                                       RawPackedSubject(),
                                       SqliteSubject(),
                                       LmdbSubject(),
                                       RocksdbSubject()};
      if (pages == 1) subjects.push_back(RawOverwriteSubject());
      const Load load{.page_bytes = kib << 10, .pages = pages};
      auto series = CompareStores(work, load, subjects, setting.pace, setting.directory, results);
      if (!series.ok()) return series.status();
      AddRatio(work, *series, kCow, "raw packed", results);
      AddRatio(work, *series, kInPlace, "raw packed", results);
      if (pages == 1) AddRatio(work, *series, kCow, "raw overwrite", results);
      if (pages == 1) AddRatio(work, *series, kInPlace, "raw overwrite", results);
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
  const auto name = [](int clients, uint32_t objects) {
    return absl::StrCat(clients, " clients, 4 KiB durable each, ",
                        objects == 1 ? "one object" : absl::StrCat(objects, " objects"));
  };
  for (int clients : {16, 2, 4, 64}) {
    if (setting.quick && clients != 16) continue;
    // One object and many in the same rounds, to be compared.
    const Load one{.page_bytes = 4096, .clients = clients};
    Load many = one;
    many.objects = clients;
    const std::vector<Subject> subjects = {UntornSubject(kCow, WritePolicy::kAlwaysCow, 0),
                                           RawPackedSubject(), SqliteSubject(), LmdbSubject(),
                                           RocksdbSubject()};
    const std::string work = name(clients, 1), other = name(clients, many.objects);
    auto series = CompareStores(work, one, subjects, setting.pace, setting.directory, results);
    if (!series.ok()) return series.status();
    AddRatio(work, *series, kCow, "raw packed", results);
    AddPeers(work, *series, results);

    std::vector<Contestant> both;
    std::vector<std::unique_ptr<Driver>> drivers;
    for (const auto& [what, load] : {std::pair(work, one), std::pair(other, many)}) {
      auto driver = Driver::Make(subjects[0], load, absl::StrCat(setting.directory, "/", load.objects), 1);
      if (!driver.ok()) return driver.status();
      drivers.push_back(*std::move(driver));
      if (auto run = drivers.back()->RunFor(setting.pace.warm_up_milliseconds); !run.ok())
        return run.status();
      both.push_back({what, [&setting, d = drivers.back().get()]() -> absl::StatusOr<double> {
                        absl::StatusOr<Run> run = d->RunFor(setting.pace.milliseconds);
                        if (!run.ok()) return run.status();
                        return run->per_second();
                      }});
    }
    series = Alternate(both, setting.pace.rounds);
    if (!series.ok()) return series.status();
    for (auto& driver : drivers) {
      if (absl::Status s = driver->Verify(); !s.ok()) return s;
    }
    AddRatio(work, *series, work, other, results);
    results->ratios.back().subject = kCow;
    results->ratios.back().against = "the same on as many objects";
    if (clients != 16) continue;
    results->bars.push_back({work, kCow, "raw packed", 0.80, {}});
    results->bars.push_back({work, kCow, "best peer", 2, {}});
    results->bars.push_back({work, kCow, "the same on as many objects", 0.9, {}});
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
