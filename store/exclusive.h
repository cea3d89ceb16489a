// An Exclusive marks the objects that one large commit changes. Other changes of these objects wait until the
// commit is durable.
#ifndef UNTORN_STORE_EXCLUSIVE_H_
#define UNTORN_STORE_EXCLUSIVE_H_

#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "cow/object_state.h"
#include "store/object_write.h"

namespace untorn::internal {

// Holds objects until it is destroyed, and all names after HoldNames(). The lock must be held when an
// Exclusive is made and when it is destroyed.
class Exclusive {
 public:
  explicit Exclusive(const Front& front) REQUIRES_STORE_LOCK : front_(front) {}
  ~Exclusive() REQUIRES_STORE_LOCK {
    for (const auto& object : objects_) {
      UNTORN_CHECK(object->exclusive, "an object that a large commit holds was let go by another");
      object->exclusive = false;
    }
    if (names_) front_.admission.SetNamesExclusive(false);
    // Changes that wait in Admission look again. If nobody waits, another thread must take over the I/O.
    front_.parts.progress.Tell();
    front_.parts.pump.Attend();
  }
  Exclusive(const Exclusive&) = delete;

  void Hold(std::shared_ptr<ObjectState> object) REQUIRES_STORE_LOCK {
    UNTORN_CHECK(!object->exclusive, "two large commits hold one object");
    UNTORN_CHECK(!object->removed, "a large commit holds an object that was removed");
    object->exclusive = true;
    objects_.push_back(std::move(object));
  }
  void HoldNames() REQUIRES_STORE_LOCK {
    names_ = true;
    front_.admission.SetNamesExclusive(true);
  }

 private:
  const Front& front_;
  std::vector<std::shared_ptr<ObjectState>> objects_;
  bool names_ = false;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_EXCLUSIVE_H_
