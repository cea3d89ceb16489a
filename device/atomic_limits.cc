#include "device/atomic_limits.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace untorn {
namespace {

// struct statx up to Linux 6.16; the system's header may end earlier. Only the fields at the end are used.
struct StatxWithAtomic {
  uint8_t before[0xa8];
  uint32_t atomic_write_unit_min;
  uint32_t atomic_write_unit_max;
  uint32_t atomic_write_segments_max;
  uint32_t dio_read_offset_align;
  uint32_t atomic_write_unit_max_opt;
  uint8_t after[0x100 - 0xbc];
};
static_assert(offsetof(StatxWithAtomic, atomic_write_unit_max_opt) == 0xb8);
static_assert(sizeof(StatxWithAtomic) == 0x100);
constexpr unsigned kStatxWriteAtomic = 0x00010000;
constexpr uint64_t kPageBytes = 4096;

// The request queue of a disk, as /sys shows it. What is not there is 0 or "". Source: Linux
// Documentation/ABI/stable/sysfs-block, queue/*.
class Queue {
 public:
  explicit Queue(const std::string& disk) : directory_(disk + "/queue/") {}

  uint64_t Number(const char* name) {
    std::ifstream in = Open(name);
    uint64_t value = 0;
    return in >> value ? value : 0;
  }
  uint32_t Number32(const char* name) {
    return static_cast<uint32_t>(std::min<uint64_t>(Number(name), std::numeric_limits<uint32_t>::max()));
  }
  std::string Line(const char* name) {
    std::ifstream in = Open(name);
    std::string line;
    std::getline(in, line);
    return line;
  }
  // Fails if something may be there and could not be read. Then nothing may be concluded.
  absl::Status status() const {
    return error_ == 0 ? absl::OkStatus()
                       : absl::ErrnoToStatus(
                             error_, absl::StrCat(directory_, ": cannot be read (RLIMIT_NOFILE, ulimit -n)"));
  }

 private:
  std::ifstream Open(const char* name) {
    errno = 0;
    std::ifstream in(directory_ + name);
    if (!in.is_open() && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) error_ = errno;
    return in;
  }

  const std::string directory_;
  int error_ = 0;
};

AtomicFacts::Cache ReadCache(Queue& queue) {
  const std::string line = queue.Line("write_cache");
  if (line.empty()) return AtomicFacts::Cache::kUnknown;
  if (line != "write back") return AtomicFacts::Cache::kNone;
  return queue.Number("fua") != 0 ? AtomicFacts::Cache::kVolatileWithFua : AtomicFacts::Cache::kVolatile;
}

// The sysfs directory of the whole disk that holds device number `dev`; empty if there is none.
std::string DiskDirectory(dev_t dev) {
  const std::string link = absl::StrCat("/sys/dev/block/", major(dev), ":", minor(dev));
  char resolved[PATH_MAX];
  if (realpath(link.c_str(), resolved) == nullptr) return "";
  const std::string directory = resolved;
  if (access((directory + "/partition").c_str(), F_OK) == 0) return directory.substr(0, directory.rfind('/'));
  return directory;
}

AtomicVerdict None(std::string note) { return {AtomicLimits{}, std::move(note)}; }

absl::StatusOr<AtomicVerdict> DecideStated(const AtomicFacts& facts) {
  const uint64_t unit = facts.stated_unit_bytes;
  const std::string what = absl::StrCat(facts.path, ": a stated atomic unit of ", unit, " bytes");
  if (!std::has_single_bit(unit) || unit < kBlockBytes || unit > uint64_t{1} << 30) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " is not a power of two between ", kBlockBytes, " bytes and 1 GiB"));
  }
  if (!facts.direct_io) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, " needs direct I/O, which is not available here: the page cache may split a write"));
  }
  if (facts.request_max_bytes != 0 && unit > facts.request_max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is larger than the largest request of disk ",
                                                   facts.disk, ", ", facts.request_max_bytes,
                                                   " bytes: the kernel would split it"));
  }
  AtomicVerdict verdict;
  verdict.limits = {.source = AtomicSource::kStated,
                    .unit_min_bytes = kBlockBytes,
                    .unit_max_bytes = static_cast<uint32_t>(unit)};
  verdict.note = absl::StrCat("stated by the operator: up to ", unit, " bytes");
  if (!facts.not_in_place.empty()) {
    verdict.warning =
        absl::StrCat("a stated atomic unit may be worth nothing here: ", facts.not_in_place,
                     ", and what the disk keeps whole says nothing about it; a crash may tear writes");
    absl::StrAppend(&verdict.note, "; ", verdict.warning);
  }
  return verdict;
}

}  // namespace

absl::StatusOr<AtomicFacts> GatherAtomicFacts(int fd, const std::string& path) {
  AtomicFacts facts;
  facts.path = path;
  const int open_flags = fcntl(fd, F_GETFL);
  facts.direct_io = open_flags >= 0 && (open_flags & O_DIRECT) != 0;

  struct stat st;
  if (fstat(fd, &st) != 0) return facts;
  facts.block_device = S_ISBLK(st.st_mode);

  StatxWithAtomic stx = {};
  if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, kStatxWriteAtomic, &stx) == 0) {
    facts.file_unit_min_bytes = stx.atomic_write_unit_min;
    facts.file_unit_max_bytes = stx.atomic_write_unit_max;
    facts.file_unit_max_opt_bytes = stx.atomic_write_unit_max_opt;
  }

  const std::string disk = DiskDirectory(facts.block_device ? st.st_rdev : st.st_dev);
  if (disk.empty()) return facts;
  Queue queue(disk);
  facts.disk = disk.substr(disk.rfind('/') + 1);
  facts.disk_unit_min_bytes = queue.Number32("atomic_write_unit_min_bytes");
  facts.disk_unit_max_bytes = queue.Number32("atomic_write_unit_max_bytes");
  facts.disk_boundary_bytes = queue.Number32("atomic_write_boundary_bytes");
  facts.request_max_bytes = queue.Number("max_sectors_kb") * 1024;
  facts.disk_cache = ReadCache(queue);
  const uint64_t segments_bytes = queue.Number("max_segments") * kPageBytes;
  if (segments_bytes != 0) facts.request_max_bytes = std::min(facts.request_max_bytes, segments_bytes);
  RETURN_IF_ERROR(queue.status());
  return facts;
}

std::string DurableWriteNote(const AtomicFacts& facts) {
  if (facts.in_memory) return "the file system is in memory, and ends with the machine";
  switch (facts.disk_cache) {
    case AtomicFacts::Cache::kUnknown:
      return "nothing is known of the cache of the disk below, which the kernel flushes if there is one";
    case AtomicFacts::Cache::kNone:
      return absl::StrCat("disk ", facts.disk, " has no volatile cache, so nothing is flushed");
    case AtomicFacts::Cache::kVolatile:
      return absl::StrCat("disk ", facts.disk,
                          " has a volatile cache and no forced unit access, so the kernel flushes it");
    case AtomicFacts::Cache::kVolatileWithFua:
      return absl::StrCat("disk ", facts.disk, " writes past its volatile cache (forced unit access)");
  }
  return "";
}

absl::StatusOr<AtomicVerdict> DecideAtomicLimits(const AtomicFacts& facts) {
  if (facts.stated_unit_bytes != 0) return DecideStated(facts);

  // The kernel refuses RWF_ATOMIC on a file that is not open for direct I/O.
  if (!facts.direct_io) return None("none: no direct I/O");

  const char* const kind = facts.block_device ? "block device" : "file system";
  if (facts.file_unit_max_bytes == 0) {
    return None(facts.disk_unit_max_bytes == 0
                    ? absl::StrCat("none: the kernel reports no atomic writes for this ", kind)
                    : absl::StrCat("none: disk ", facts.disk, " has atomic writes, but the ", kind,
                                   " does not pass them on"));
  }

  AtomicVerdict file_system;
  file_system.limits = {.source = AtomicSource::kFileSystem,
                        .unit_min_bytes = facts.file_unit_min_bytes,
                        .unit_max_bytes = facts.file_unit_max_bytes};
  if (facts.disk_unit_max_bytes == 0) {
    if (facts.block_device) return None("none: the disk's queue reports no atomic writes");
    file_system.note =
        absl::StrCat("not used: the file system emulates atomic writes by copy-on-write, since ",
                     facts.disk.empty() ? "no single disk below it" : "disk " + facts.disk + " below it",
                     facts.disk.empty() ? " is known" : " has none");
    return file_system;
  }
  // A file system that emulates states the part that it need not emulate; one that does not never goes beyond
  // the disk. So beyond the disk without that part, all of it is emulated (a misaligned partition, say).
  if (!facts.block_device && facts.file_unit_max_opt_bytes == 0 &&
      facts.file_unit_max_bytes > facts.disk_unit_max_bytes) {
    file_system.note =
        absl::StrCat("not used: the file system emulates atomic writes by copy-on-write, although disk ",
                     facts.disk, " has them");
    return file_system;
  }

  AtomicLimits limits;
  limits.source = AtomicSource::kHardware;
  limits.unit_min_bytes = std::max(facts.file_unit_min_bytes, facts.disk_unit_min_bytes);
  limits.unit_max_bytes = std::min(facts.file_unit_max_bytes, facts.disk_unit_max_bytes);
  if (!facts.block_device && facts.file_unit_max_opt_bytes != 0) {
    limits.unit_max_bytes = std::min(limits.unit_max_bytes, facts.file_unit_max_opt_bytes);
  }
  limits.boundary_bytes = facts.disk_boundary_bytes;
  if (!std::has_single_bit(limits.unit_min_bytes) || !std::has_single_bit(limits.unit_max_bytes) ||
      limits.unit_min_bytes > limits.unit_max_bytes || limits.unit_max_bytes < kBlockBytes) {
    return None(absl::StrCat("none: the kernel reports units of ", limits.unit_min_bytes, " to ",
                             limits.unit_max_bytes, " bytes, which are of no use here"));
  }
  return AtomicVerdict{limits, absl::StrCat("hardware: disk ", facts.disk, ", as the kernel reports it")};
}

}  // namespace untorn
