// What takes a disk's time on a slow disk takes the processor's on a fast one. So the works of clients that wait for
// their commits run on both, in one run. The fast disk is a loop device over a file in memory, which answers about as a
// disk of flash memory with power-loss protection does.
#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/loop_disk.h"
#include "bench/works.h"

namespace untorn::bench {

absl::Status FastWorks(const Setting& setting, Results* results) {
  // A name of its own: others may measure at the same time.
  const std::string image = absl::StrCat("/dev/shm/untorn-bench-", getpid());
  auto disk = LoopDisk::Make(image, "6G", "mkfs.ext4 -q -F", setting.directory + "/fast");
  if (!disk.ok()) {
    std::fprintf(stderr, "  not measured: %s\n", std::string(disk.status().message()).c_str());
    return absl::OkStatus();
  }
  Setting own = setting;
  own.directory = setting.directory + "/fast/data";
  own.on = " on a fast disk";
  for (auto* const works : {&DurableWorks, &ManyClientsWorks, &MixedWorks, &SqliteWorks}) {
    if (absl::Status s = works(own, results); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
