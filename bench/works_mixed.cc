#include "absl/strings/str_cat.h"
#include "bench/stores.h"
#include "bench/works.h"

namespace untorn::bench {

absl::Status MixedWorks(const Setting& setting, Results* results) {
  const char kUntorn[] = "untorn";
  const std::vector<std::string> peers = {"SQLite WAL", "LMDB", "RocksDB"};
  for (int reads : {95, 50}) {
    const std::string work =
        absl::StrCat(reads, " % reads, ", 100 - reads, " % durable updates, 4 KiB, skewed", setting.on);
    const Load load{.page_bytes = 4096, .read_percent = reads, .skewed = true};
    auto series = CompareStores(work,
                                {{UntornSubject(kUntorn, WritePolicy::kAutomatic, 0), load},
                                 {SqliteSubject(), load},
                                 {LmdbSubject(), load},
                                 {RocksdbSubject(), load}},
                                setting.pace, setting.directory, results);
    if (!series.ok()) return series.status();
    for (const std::string& peer : peers) AddRatio(work, *series, kUntorn, peer, results);
    AddRatioToBest(work, *series, kUntorn, peers, results);
    results->bars.push_back({work, kUntorn, "best peer", 1.2, {}});
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
