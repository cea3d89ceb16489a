// Open files, each on an object.
#ifndef UNTORN_INTEGRATIONS_ROCKSDB_FILES_H_
#define UNTORN_INTEGRATIONS_ROCKSDB_FILES_H_

#include <rocksdb/file_system.h>

#include <memory>
#include <string>

#include "untorn/store.h"

namespace untorn::rocks {

class SharedFiles;

// An open file, and its path for messages.
struct OpenFile {
  Object object;
  std::string path;
};

std::unique_ptr<::rocksdb::FSSequentialFile> NewSequentialFile(OpenFile file);
// With `direct`, reads go past the store's cache.
std::unique_ptr<::rocksdb::FSRandomAccessFile> NewRandomAccessFile(OpenFile file, bool direct);
// Appends go to `position` bytes first. With `direct`, data leaves the store's cache when it is durable.
std::unique_ptr<::rocksdb::FSWritableFile> NewWritableFile(OpenFile file, SharedFiles& shared,
                                                           uint64_t position, bool direct);
std::unique_ptr<::rocksdb::FSRandomRWFile> NewRandomRwFile(OpenFile file);
// `store` must outlive the directory.
std::unique_ptr<::rocksdb::FSDirectory> NewDirectory(Store& store, std::string path);

}  // namespace untorn::rocks

#endif  // UNTORN_INTEGRATIONS_ROCKSDB_FILES_H_
