#include "integrations/rocksdb/shared_files.h"

namespace untorn::rocks {

bool SharedFiles::Lock(const std::string& name) {
  std::lock_guard guard(mu_);
  return locked_.insert(name).second;
}

void SharedFiles::Unlock(const std::string& name) {
  std::lock_guard guard(mu_);
  locked_.erase(name);
}

void SharedFiles::SetWritten(const Object& object) {
  std::lock_guard guard(mu_);
  written_[object.id()] = std::time(nullptr);
}

void SharedFiles::Forget(const Object& object) {
  std::lock_guard guard(mu_);
  written_.erase(object.id());
}

std::time_t SharedFiles::WrittenAt(const Object& object) const {
  std::lock_guard guard(mu_);
  const auto it = written_.find(object.id());
  return it == written_.end() ? opened_ : it->second;
}

}  // namespace untorn::rocks
