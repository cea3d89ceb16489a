// A VFS over "untorn" that fails the n-th call of those that can fail: as if the operation of the store behind it had failed.
#ifndef UNTORN_TESTS_INTEGRATIONS_SQLITE_FAILING_VFS_H_
#define UNTORN_TESTS_INTEGRATIONS_SQLITE_FAILING_VFS_H_

#include <cstdint>

namespace untorn::sqlite {

// The VFS "failing". Not thread-safe.
class FailingVfs {
 public:
  static void Register();

  // The n-th call from now on (1: the next) fails, or it and all after it. 0: none.
  static void FailCall(uint64_t n, bool and_all_after);
  static uint64_t failures();  // since FailCall()
};

}  // namespace untorn::sqlite

#endif  // UNTORN_TESTS_INTEGRATIONS_SQLITE_FAILING_VFS_H_
