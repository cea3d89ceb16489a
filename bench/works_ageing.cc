#include "absl/strings/str_cat.h"
#include "bench/stores.h"
#include "bench/works.h"

namespace untorn::bench {

absl::Status AgeingWorks(const Setting& setting, Results* results) {
  constexpr uint64_t kPage = 16 << 10;
  const char kNew[] = "new", kAged[] = "overwritten three times";
  for (const int percent : {50, 90}) {
    for (int pages : {1, 16}) {
      if (setting.quick && pages != 1) continue;
      const std::string work =
          absl::StrCat(pages, " x 16 KiB durable in a store that is ", percent, " % full");
      Load fresh{.page_bytes = kPage, .pages = pages};
      fresh.set_bytes = (setting.quick ? uint64_t{256} : 1024) << 20;
      Load aged = fresh;
      aged.overwritten = 3;
      auto series = CompareStores(work,
                                  {{UntornSubject(kNew, WritePolicy::kAlwaysCow, 0, percent), fresh},
                                   {UntornSubject(kAged, WritePolicy::kAlwaysCow, 0, percent), aged}},
                                  setting.pace, setting.directory, results);
      if (!series.ok()) return series.status();
      AddRatio(work, *series, kAged, kNew, results);
      if (pages != 1) continue;
      results->bars.push_back({work, kAged, kNew, percent == 50 ? 0.8 : 0.6, {}});
      const CommitCounts& counts = Find(*series, kAged).counts;
      results->ratios.push_back(
          {work + ", commits in one write",
           kAged,
           "all commits",
           {static_cast<double>(counts.in_one_write) / static_cast<double>(counts.commits)}});
      if (percent == 50)
        results->bars.push_back({work + ", commits in one write", kAged, "all commits", 0.95, {}});
    }
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
