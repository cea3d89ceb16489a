// A file system that makes a write atomic by its own copy-on-write, and untorn in a file on it.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "bench/stores.h"
#include "bench/works.h"

namespace untorn::bench {
namespace {

bool Succeeds(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

absl::Status XfsWorks(const Setting& setting, Results* results) {
  const char kUntorn[] = "untorn", kXfs[] = "XFS, RWF_ATOMIC";
  const auto name = [](uint64_t kib) { return absl::StrCat("1 x ", kib, " KiB durable on XFS"); };
  for (uint64_t kib : {4, 16, 64})
    results->bars.push_back({name(kib), kUntorn, kXfs, kib == 64 ? 1.6 : 2, {}});
  if (geteuid() != 0) {
    std::fprintf(stderr, "  not measured: only root can mount a file system\n");
    return absl::OkStatus();
  }
  const std::string image = setting.directory + "/xfs.img", mounted = setting.directory + "/xfs";
  std::filesystem::create_directories(mounted);
  if (!Succeeds(absl::StrCat("truncate -s 3G '", image, "' && mkfs.xfs -q -f '", image,
                             "' && mount -o loop '", image, "' '", mounted, "'"))) {
    std::fprintf(stderr, "  not measured: XFS could not be made and mounted in %s\n", image.c_str());
    return absl::OkStatus();
  }
  const absl::Cleanup unmount = [&] { Succeeds(absl::StrCat("umount '", mounted, "'")); };
  for (uint64_t kib : {4, 16, 64}) {
    // XFS takes half a millisecond for each page, when the file is filled too.
    const Load load{.page_bytes = kib << 10, .set_bytes = (setting.quick ? uint64_t{16} : 64) << 20};
    auto series = CompareStores(name(kib),
                                {{UntornSubject(kUntorn, WritePolicy::kAutomatic, 0), load},
                                 {RawAtomicSubject(kXfs), load},
                                 {RawOverwriteSubject(), load}},
                                setting.pace, mounted, results);
    if (!series.ok()) return series.status();
    AddRatio(name(kib), *series, kUntorn, kXfs, results);
    AddRatio(name(kib), *series, kUntorn, "raw overwrite", results);
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
