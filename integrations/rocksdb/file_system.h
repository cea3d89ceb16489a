// The files of a store, as RocksDB calls them.
#ifndef UNTORN_INTEGRATIONS_ROCKSDB_FILE_SYSTEM_H_
#define UNTORN_INTEGRATIONS_ROCKSDB_FILE_SYSTEM_H_

#include <rocksdb/file_system.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "integrations/rocksdb/shared_files.h"
#include "untorn/store.h"

namespace untorn::rocks {

class FileSystem : public ::rocksdb::FileSystem {
 public:
  using FileOptions = ::rocksdb::FileOptions;
  using IODebugContext = ::rocksdb::IODebugContext;
  using IOOptions = ::rocksdb::IOOptions;
  using IOStatus = ::rocksdb::IOStatus;

  // `id` is what RocksDB makes an equal file system from. Both references must outlive the file system.
  FileSystem(std::string id, Store& store, SharedFiles& shared)
      : id_(std::move(id)), store_(store), shared_(shared) {}

  const char* Name() const override { return "untorn"; }
  std::string GetId() const override { return id_; }

  IOStatus NewSequentialFile(const std::string& path, const FileOptions& options,
                             std::unique_ptr<::rocksdb::FSSequentialFile>* file, IODebugContext*) override;
  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions& options,
                               std::unique_ptr<::rocksdb::FSRandomAccessFile>* file,
                               IODebugContext*) override;
  IOStatus NewWritableFile(const std::string& path, const FileOptions& options,
                           std::unique_ptr<::rocksdb::FSWritableFile>* file, IODebugContext*) override;
  IOStatus ReopenWritableFile(const std::string& path, const FileOptions& options,
                              std::unique_ptr<::rocksdb::FSWritableFile>* file, IODebugContext*) override;
  IOStatus ReuseWritableFile(const std::string& path, const std::string& old_path, const FileOptions& options,
                             std::unique_ptr<::rocksdb::FSWritableFile>* file, IODebugContext*) override;
  IOStatus NewRandomRWFile(const std::string& path, const FileOptions& options,
                           std::unique_ptr<::rocksdb::FSRandomRWFile>* file, IODebugContext*) override;
  IOStatus NewDirectory(const std::string& path, const IOOptions&,
                        std::unique_ptr<::rocksdb::FSDirectory>* directory, IODebugContext*) override;

  IOStatus FileExists(const std::string& path, const IOOptions&, IODebugContext*) override;
  IOStatus GetChildren(const std::string& path, const IOOptions&, std::vector<std::string>* children,
                       IODebugContext*) override;
  IOStatus DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) override;
  IOStatus Truncate(const std::string& path, size_t size, const IOOptions&, IODebugContext*) override;
  IOStatus CreateDir(const std::string& path, const IOOptions&, IODebugContext*) override;
  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions&, IODebugContext*) override;
  IOStatus DeleteDir(const std::string& path, const IOOptions&, IODebugContext*) override;
  IOStatus GetFileSize(const std::string& path, const IOOptions&, uint64_t* size, IODebugContext*) override;
  IOStatus GetFileModificationTime(const std::string& path, const IOOptions&, uint64_t* time,
                                   IODebugContext*) override;
  // Renames a file, which replaces a file at `target`, or a directory. Is whole or not at all, and durable on return.
  IOStatus RenameFile(const std::string& source, const std::string& target, const IOOptions&,
                      IODebugContext*) override;
  IOStatus AreFilesSame(const std::string& first, const std::string& second, const IOOptions&, bool* same,
                        IODebugContext*) override;
  IOStatus LockFile(const std::string& path, const IOOptions&, ::rocksdb::FileLock** lock,
                    IODebugContext*) override;
  IOStatus UnlockFile(::rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) override;
  IOStatus GetTestDirectory(const IOOptions&, std::string* path, IODebugContext*) override;
  IOStatus GetAbsolutePath(const std::string& path, const IOOptions&, std::string* absolute,
                           IODebugContext*) override;
  IOStatus GetFreeSpace(const std::string& path, const IOOptions&, uint64_t* bytes, IODebugContext*) override;
  IOStatus IsDirectory(const std::string& path, const IOOptions&, bool* is_directory,
                       IODebugContext*) override;

 private:
  absl::StatusOr<Object> OpenOrCreate(const std::string& path);
  //  kNotFound            there is no such directory
  absl::Status CheckDirectory(const std::string& path) const;
  // The names of files and subdirectories; with `nested`, those of all objects below.
  //  kNotFound            there is no such directory
  absl::StatusOr<std::vector<std::string>> NamesFrom(const std::string& path, bool nested) const;
  //  kAlreadyExists       there is such a directory
  absl::Status MakeDirectory(const std::string& path);
  absl::Status Rename(const std::string& source, const std::string& target);
  absl::Status RenameDirectory(const std::string& source, const std::string& target);

  const std::string id_;
  Store& store_;
  SharedFiles& shared_;
};

}  // namespace untorn::rocks

#endif  // UNTORN_INTEGRATIONS_ROCKSDB_FILE_SYSTEM_H_
