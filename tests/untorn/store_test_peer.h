// What tests may see of an open store besides its API.
#ifndef UNTORN_TESTS_UNTORN_STORE_TEST_PEER_H_
#define UNTORN_TESTS_UNTORN_STORE_TEST_PEER_H_

#include <mutex>

#include "store/store_impl.h"
#include "untorn/store.h"

namespace untorn::internal {

struct StoreTestPeer {
  // Stops the process if a numbered invariant of a part does not hold.
  static void CheckInvariants(const Store& store) { store.impl_->CheckInvariants(); }
  // The mutex that guards all of the store.
  static std::mutex& StoreMutex(const Store& store) { return store.impl_->front().mu; }
};

}  // namespace untorn::internal

#endif  // UNTORN_TESTS_UNTORN_STORE_TEST_PEER_H_
