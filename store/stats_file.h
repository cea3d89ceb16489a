// The file beside a store in which its owner writes statistics while somebody watches (docs/decisions/036).
//
// Threading: not thread-safe.
#ifndef UNTORN_STORE_STATS_FILE_H_
#define UNTORN_STORE_STATS_FILE_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace untorn::internal {

class StatsFile {
 public:
  // `store` is the path of a store that is there.
  explicit StatsFile(const std::string& store);

  // Replaces the content, and never shows a part of it. The file has the permissions of the store's file.
  //  kAlreadyExists       something else has the name
  //  kFailedPrecondition  the store has another name now
  // Other errors are those of the system.
  absl::Status Write(const std::string& page);
  // Removes the file, if it has statistics, and the store its name. Another owner may have left the file.
  void Remove();
  // Returns the content.
  //  kNotFound  there is no such file
  absl::StatusOr<std::string> Read() const;

  const std::string& path() const { return path_; }

 private:
  struct Place;
  absl::StatusOr<Place> FindPlace() const;
  absl::Status CheckReplaceable(const Place& place) const;

  std::string store_;
  std::string path_;
  dev_t dev_ = 0;
  ino_t inode_ = 0;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_STATS_FILE_H_
