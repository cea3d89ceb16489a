// A file system that makes a write atomic by its own copy-on-write, and untorn in a file on it.
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "bench/loop_disk.h"
#include "bench/stores.h"
#include "bench/works.h"

namespace untorn::bench {

absl::Status XfsWorks(const Setting& setting, Results* results) {
  const char kUntorn[] = "untorn", kXfs[] = "XFS, RWF_ATOMIC";
  const auto name = [](uint64_t kib) { return absl::StrCat("1 x ", kib, " KiB durable on XFS"); };
  for (uint64_t kib : {4, 16, 64})
    results->bars.push_back({name(kib), kUntorn, kXfs, kib == 64 ? 1.6 : 2, {}});
  const std::string mounted = setting.directory + "/xfs";
  const auto disk = LoopDisk::Make(setting.directory + "/xfs.img", "3G", "mkfs.xfs -q -f", mounted);
  if (!disk.ok()) {
    std::fprintf(stderr, "  not measured: %s\n", std::string(disk.status().message()).c_str());
    return absl::OkStatus();
  }
  const Subject raw = RawWriteSubjects(kRaw).front();
  for (uint64_t kib : {4, 16, 64}) {
    // XFS takes half a millisecond for each page, when the file is filled too.
    const Load load{.page_bytes = kib << 10, .set_bytes = (setting.quick ? uint64_t{16} : 64) << 20};
    auto series = CompareStores(name(kib),
                                {{UntornSubject(kUntorn, WritePolicy::kAutomatic, 0), load},
                                 {RawAtomicSubject(kXfs), load},
                                 {raw, load}},
                                setting.pace, mounted, results);
    if (!series.ok()) return series.status();
    AddRatio(name(kib), *series, kUntorn, kXfs, results);
    AddRatio(name(kib), *series, kUntorn, raw.name, results);
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
