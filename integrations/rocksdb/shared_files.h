// What all file systems on one store share.
#ifndef UNTORN_INTEGRATIONS_ROCKSDB_SHARED_FILES_H_
#define UNTORN_INTEGRATIONS_ROCKSDB_SHARED_FILES_H_

#include <cstdint>
#include <ctime>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "untorn/store.h"

namespace untorn::rocks {

// Thread-safe.
class SharedFiles {
 public:
  // Returns false if the file is locked.
  bool Lock(const std::string& name);
  void Unlock(const std::string& name);

  // A store keeps no times. So a file that was not written in this process counts as written when the store was opened.
  void SetWritten(const Object& object);
  void Forget(const Object& object);
  std::time_t WrittenAt(const Object& object) const;

 private:
  const std::time_t opened_ = std::time(nullptr);
  mutable std::mutex mu_;
  std::set<std::string> locked_;
  std::map<uint64_t, std::time_t> written_;  // by object
};

}  // namespace untorn::rocks

#endif  // UNTORN_INTEGRATIONS_ROCKSDB_SHARED_FILES_H_
