// What tests may see of an open store besides its API.
#ifndef UNTORN_TESTS_UNTORN_STORE_TEST_PEER_H_
#define UNTORN_TESTS_UNTORN_STORE_TEST_PEER_H_

#include <mutex>

#include "store/store_impl.h"
#include "untorn/store.h"

namespace untorn::internal {

struct StoreTestPeer {
  // Stops the process if a numbered invariant of a part does not hold.
  static void CheckInvariants(const Store& store) { store.impl()->CheckInvariants(); }
  // For a store without threads: lets other processes read it, and answers those that want to.
  static void LetOthersRead(const Store& store) {
    const Lock lock(store.impl()->front().mu);
    store.impl()->readers().Announce().IgnoreError();
  }
  static void ServeReaders(const Store& store) {
    Lock lock(store.impl()->front().mu);
    store.impl()->readers().Step(lock);
  }
  // The mutex that guards all of the store.
  static std::mutex& StoreMutex(const Store& store) { return store.impl()->front().mu; }
};

}  // namespace untorn::internal

#endif  // UNTORN_TESTS_UNTORN_STORE_TEST_PEER_H_
