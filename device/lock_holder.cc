#include "device/lock_holder.h"

#include <sys/sysmacros.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

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

}  // namespace

LockHolder FindLockHolder(dev_t dev, ino_t inode) {
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
    if (makedev(lock_major, lock_minor) != dev || lock_inode != inode) continue;
    if (pid < 0) pid = 0;  // taken on behalf of nobody this process can see
    found = {.pid = pid, .writing = std::string(mode) == "WRITE", .alive = pid > 0 && IsAlive(pid)};
    if (found.alive) return found;
  }
  return found;
}

}  // namespace untorn
