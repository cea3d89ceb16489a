// What all threads of a process share.
#ifndef UNTORN_INTEGRATIONS_PROCESS_WIDE_H_
#define UNTORN_INTEGRATIONS_PROCESS_WIDE_H_

#include <pthread.h>

#include <mutex>

namespace untorn {

// The T of this process. It is never destroyed, since databases may be closed while the process ends. A fork() waits until
// its mutex is free, and the mutex is free in the child: another thread could have had it, and is not there.
template <typename T, std::mutex T::*kMutex>
T& ProcessWide() {
  static T* const shared = [] {
    static T* made = new T;
    const auto unlock = [] { (made->*kMutex).unlock(); };
    pthread_atfork([] { (made->*kMutex).lock(); }, unlock, unlock);
    return made;
  }();
  return *shared;
}

}  // namespace untorn

#endif  // UNTORN_INTEGRATIONS_PROCESS_WIDE_H_
