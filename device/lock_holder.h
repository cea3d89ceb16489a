// Finds out from /proc/locks who holds the flock on a file. The message that refuses a second owner names the
// first one, and opening waits for an owner that is dying.
#ifndef UNTORN_DEVICE_LOCK_HOLDER_H_
#define UNTORN_DEVICE_LOCK_HOLDER_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <string>

namespace untorn {

struct LockHolder {
  pid_t pid = 0;  // 0: unknown, because the holder is gone or is in another PID namespace
  bool writing = false;
  // False for a zombie, for a process that is exiting or has a SIGKILL pending, and for an unknown holder.
  // The kernel ends such a lock by itself, once the holder's last request is done.
  bool alive = false;
};

// Returns a holder of a flock on the file at `path`, of which stat(2) says `file`. It prefers holders that are alive.
LockHolder FindLockHolder(const std::string& path, const struct stat& file);

}  // namespace untorn

#endif  // UNTORN_DEVICE_LOCK_HOLDER_H_
