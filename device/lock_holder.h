// Who holds the flock on a file, read from /proc/locks, for the message that refuses a second owner and for
// telling a live owner from one that is dying.
#ifndef UNTORN_DEVICE_LOCK_HOLDER_H_
#define UNTORN_DEVICE_LOCK_HOLDER_H_

#include <sys/types.h>

namespace untorn {

struct LockHolder {
  pid_t pid = 0;  // 0: not known (gone, or in another PID namespace)
  bool writing = false;
  // False for a zombie, a process that is exiting or has a SIGKILL pending, and an unknown one. Such a lock
  // goes away by itself, once the last request of its owner is done.
  bool alive = false;
};

// The first holder that is alive, or else any, of a flock on inode `inode` of device number `dev`.
LockHolder FindLockHolder(dev_t dev, ino_t inode);

}  // namespace untorn

#endif  // UNTORN_DEVICE_LOCK_HOLDER_H_
