#include "device/lock_holder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace untorn {
namespace {

constexpr unsigned long kPfExiting = 0x4;  // PF_EXITING of include/linux/sched.h
constexpr uint64_t kSigkillBit = uint64_t{1} << 8;

bool HasSigkillPending(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(in, line);) {
    if (!absl::StartsWith(line, "SigPnd:") && !absl::StartsWith(line, "ShdPnd:")) continue;
    if ((std::stoull(line.substr(line.find(':') + 1), nullptr, 16) & kSigkillBit) != 0) return true;
  }
  return false;
}

bool IsAlive(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/stat"));
  std::string stat;
  if (!std::getline(in, stat)) return false;
  // The command name, in parentheses, may contain anything.
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return false;
  std::istringstream fields(stat.substr(name_end + 1));
  char state = 0;
  long parent, group, session, terminal, terminal_group;
  unsigned long flags = 0;
  if (!(fields >> state >> parent >> group >> session >> terminal >> terminal_group >> flags)) return false;
  return state != 'Z' && state != 'X' && (flags & kPfExiting) == 0 && !HasSigkillPending(pid);
}

// The device number of the file system that the file is on, as /proc/locks has it. On btrfs stat(2) has another one, that of
// the subvolume. 0 if it is not known.
dev_t DeviceOfMount(const std::string& path) {
  struct statx file;
  if (statx(AT_FDCWD, path.c_str(), 0, STATX_MNT_ID, &file) != 0 || (file.stx_mask & STATX_MNT_ID) == 0)
    return 0;
  std::ifstream in("/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    // "36 35 98:0 /mnt1 /mnt2 rw,noatime ...": the mount, its parent, and the device.
    unsigned long long mount;
    unsigned device_major, device_minor;
    if (std::sscanf(line.c_str(), "%llu %*u %u:%u", &mount, &device_major, &device_minor) == 3 &&
        mount == file.stx_mnt_id)
      return makedev(device_major, device_minor);
  }
  return 0;
}

// Says whether the process is seen to have the file open.
bool HasOpen(pid_t pid, const struct stat& file) {
  std::error_code error;
  for (std::filesystem::directory_iterator at(absl::StrCat("/proc/", pid, "/fd"), error), end;
       !error && at != end; at.increment(error)) {
    struct stat open;
    if (stat(at->path().c_str(), &open) == 0 && open.st_dev == file.st_dev && open.st_ino == file.st_ino)
      return true;
  }
  return false;
}

}  // namespace

LockHolder FindLockHolder(const std::string& path, const struct stat& file) {
  const dev_t mount_device = DeviceOfMount(path);
  LockHolder found;
  std::ifstream in("/proc/locks");
  for (std::string line; std::getline(in, line);) {
    // "1: FLOCK  ADVISORY  WRITE 3485 fe:00:10960897 0 EOF"; a waiter has "->" after the number.
    char mode[16];
    int pid;
    unsigned lock_major, lock_minor;
    unsigned long lock_inode;
    if (std::sscanf(line.c_str(), "%*d: FLOCK %*s %15s %d %x:%x:%lu", mode, &pid, &lock_major, &lock_minor,
                    &lock_inode) != 5) {
      continue;
    }
    const dev_t device = makedev(lock_major, lock_minor);
    if ((device != file.st_dev && device != mount_device) || lock_inode != file.st_ino) continue;
    // Two subvolumes of btrfs may have files with the same number.
    if (device != file.st_dev && !HasOpen(pid, file)) continue;
    if (pid < 0) pid = 0;  // taken on behalf of nobody this process can see
    found = {.pid = pid, .writing = std::string(mode) == "WRITE", .alive = pid > 0 && IsAlive(pid)};
    if (found.alive) return found;
  }
  return found;
}

}  // namespace untorn
