#include "absl/strings/str_cat.h"
#include "bench/stores.h"
#include "bench/works.h"

namespace untorn::bench {

absl::Status AgeingWorks(const Setting& setting, Results* results) {
  constexpr int kPercentFull = 90;
  constexpr uint64_t kPage = 16 << 10;
  const char kNew[] = "new", kAged[] = "overwritten three times";
  for (int pages : {1, 16}) {
    if (setting.quick && pages != 1) continue;
    const std::string work = absl::StrCat(pages, " x 16 KiB durable in a store that is 90 % full");
    Load fresh{.page_bytes = kPage, .pages = pages};
    fresh.set_bytes = (setting.quick ? uint64_t{256} : 1024) << 20;
    Load aged = fresh;
    aged.overwritten = 3;
    auto series = CompareStores(work,
                                {{UntornSubject(kNew, WritePolicy::kAlwaysCow, 0, kPercentFull), fresh},
                                 {UntornSubject(kAged, WritePolicy::kAlwaysCow, 0, kPercentFull), aged}},
                                setting.pace, setting.directory, results);
    if (!series.ok()) return series.status();
    AddRatio(work, *series, kAged, kNew, results);
    if (pages == 1) results->bars.push_back({work, kAged, kNew, 0.6, {}});
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
