// What is known of the file system below a file, told from its type (statfs(2)).
//
// Threading: these functions share nothing, so any thread may call them.
#ifndef UNTORN_DEVICE_FILE_SYSTEM_H_
#define UNTORN_DEVICE_FILE_SYSTEM_H_

#include <string>

namespace untorn {

struct FileSystem {
  std::string name;  // empty if the type is none of those that matter here
  // Why an overwrite may not go to the place of the old blocks; empty if nothing tells so.
  std::string not_in_place;
  // True if it may take writes through the page cache in spite of O_DIRECT.
  bool may_cache_writes = false;
  bool in_memory = false;
};

// `fd` is an open file, and no block device.
FileSystem FileSystemOf(int fd);

// Returns true if the file has blocks in common with other files, as after `cp --reflink`. Reads the list of the extents, so
// its time grows with the file.
bool SharesBlocks(int fd);

}  // namespace untorn

#endif  // UNTORN_DEVICE_FILE_SYSTEM_H_
