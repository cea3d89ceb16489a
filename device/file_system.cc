#include "device/file_system.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace untorn {
namespace {

// How a file system writes over blocks that a file has.
enum class Overwrite { kInPlace, kElsewhere, kUntold };

struct Kind {
  uint32_t magic;
  const char* name;
  Overwrite overwrite;
};

// The magic numbers are those of statfs(2), of linux/magic.h, and of the file systems' own sources.
constexpr Kind kKinds[] = {
    {0x9123683e, "btrfs", Overwrite::kElsewhere}, {0xca451a4e, "bcachefs", Overwrite::kElsewhere},
    {0x2fc12fc1, "ZFS", Overwrite::kElsewhere},   {0x3434, "NILFS2", Overwrite::kElsewhere},
    {0xf2f52010, "F2FS", Overwrite::kElsewhere},  {0x794c7630, "overlayfs", Overwrite::kUntold},
    {0x65735546, "FUSE", Overwrite::kUntold},     {0x6969, "NFS", Overwrite::kUntold},
    {0xff534d42, "CIFS", Overwrite::kUntold},     {0xfe534d42, "SMB", Overwrite::kUntold},
    {0x01021997, "9P", Overwrite::kUntold},       {0x00c36400, "Ceph", Overwrite::kUntold},
    {0x01021994, "tmpfs", Overwrite::kInPlace},   {0x858458f6, "ramfs", Overwrite::kInPlace},
    {0x58465342, "XFS", Overwrite::kInPlace},
};

// btrfs writes in place, and keeps no checksums of data, where the file has this attribute (chattr +C).
bool IsNoCow(int fd) {
  int flags = 0;
  return ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_NOCOW_FL) != 0;
}

}  // namespace

FileSystem FileSystemOf(int fd) {
  FileSystem result;
  struct statfs fs;
  if (fstatfs(fd, &fs) != 0) return result;
  const uint32_t magic = static_cast<uint32_t>(fs.f_type);
  for (const Kind& kind : kKinds) {
    if (kind.magic != magic) continue;
    const std::string name = result.name = kind.name;
    result.in_memory = name == "tmpfs" || name == "ramfs";
    const bool btrfs = name == "btrfs";
    // Since Linux 6.14 btrfs takes writes with O_DIRECT through the page cache if it keeps checksums of the file.
    result.may_cache_writes = btrfs;
    if (kind.overwrite == Overwrite::kUntold) {
      result.not_in_place = absl::StrCat(name, " does not tell where an overwrite goes");
    } else if (kind.overwrite == Overwrite::kElsewhere && !(btrfs && IsNoCow(fd))) {
      result.not_in_place = absl::StrCat(name, " copies on write, so an overwrite goes elsewhere");
    }
  }
  return result;
}

bool SharesBlocks(int fd) {
  constexpr uint32_t kExtents = 256;
  alignas(fiemap) std::byte buffer[sizeof(fiemap) + kExtents * sizeof(fiemap_extent)] = {};
  auto* map = reinterpret_cast<fiemap*>(buffer);
  for (uint64_t start = 0;;) {
    map->fm_start = start;
    map->fm_length = FIEMAP_MAX_OFFSET - start;
    map->fm_flags = 0;
    map->fm_extent_count = kExtents;
    if (ioctl(fd, FS_IOC_FIEMAP, map) != 0 || map->fm_mapped_extents == 0) return false;
    for (uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
      const fiemap_extent& extent = map->fm_extents[i];
      if ((extent.fe_flags & FIEMAP_EXTENT_SHARED) != 0) return true;
      if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return false;
      start = extent.fe_logical + extent.fe_length;
    }
  }
}

}  // namespace untorn
