// The namespace creates, finds, renames, removes and lists objects.
//
// Threading: thread-safe. The caller of a method without a Lock argument must not hold the lock.
#ifndef UNTORN_STORE_NAMESPACE_H_
#define UNTORN_STORE_NAMESPACE_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/object_write.h"
#include "untorn/options.h"

namespace untorn::internal {

// What a look-up of a name is for: kChange if the object's name is going to be changed.
enum class FindFor { kUse, kChange };

absl::Status CheckName(std::string_view name);
// Fails with kDataLoss unless the object's inode has the name by which the object was found. A rename or
// remove changes the name that the inode has.
absl::Status CheckNamed(const ObjectState& object, const std::string& name) REQUIRES_STORE_LOCK;
absl::Status NoSuchObject(const std::string& name);
absl::Status NameTaken(const std::string& name);

class Namespace {
 public:
  explicit Namespace(const Front& front) : front_(front) {}

  absl::StatusOr<std::shared_ptr<ObjectState>> Create(std::string_view name,
                                                      Durability durability) EXCLUDES_STORE_LOCK;
  // With kChange the call also fails as CheckNamed() does.
  absl::StatusOr<std::shared_ptr<ObjectState>> Find(std::string_view name,
                                                    FindFor purpose = FindFor::kUse) EXCLUDES_STORE_LOCK;
  // Finds an object by its number, wherever its name has gone.
  absl::StatusOr<std::shared_ptr<ObjectState>> FindById(ObjectId id) EXCLUDES_STORE_LOCK;
  absl::Status Rename(std::string_view from, std::string_view to, Durability durability) EXCLUDES_STORE_LOCK;
  absl::Status Remove(std::string_view name, Durability durability) EXCLUDES_STORE_LOCK;
  absl::StatusOr<std::vector<ObjectInfo>> List(std::string_view after, size_t max) EXCLUDES_STORE_LOCK;

  // `out` gets the object that the name refers to with everything accepted so far, or nullptr if there is
  // none. Fails with kDataLoss if the name leads to an object without an inode.
  Readiness AwaitFound(Lock& lock, const std::string& name,
                       std::shared_ptr<ObjectState>* out) REQUIRES_STORE_LOCK;

 private:
  // `out` gets nullptr if the object has no inode.
  Readiness AwaitObjectOf(Lock& lock, ObjectId id, std::shared_ptr<ObjectState>* out) REQUIRES_STORE_LOCK;
  // Is Admission::AwaitJoin() for a change of these names and of the object's metadata. `object` may be
  // nullptr.
  Readiness AwaitJoinOfNames(Lock& lock, const ObjectState* object,
                             const std::vector<std::string>& names) REQUIRES_STORE_LOCK;

  const Front front_;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_NAMESPACE_H_
