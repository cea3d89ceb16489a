#include "integrations/rocksdb/untorn_rocksdb.h"

#include <rocksdb/utilities/object_registry.h>

#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "integrations/rocksdb/file_system.h"
#include "integrations/rocksdb/uri.h"
#include "integrations/stores_of_process.h"

namespace untorn::rocks {
namespace {

// A store that URIs name, with what its file systems share.
struct RocksdbStore : OpenedStore {
  using OpenedStore::OpenedStore;
  SharedFiles files;
};

class FileSystemOfUri : public FileSystem {
 public:
  FileSystemOfUri(std::string uri, StoresOfProcess<RocksdbStore>::Use use)
      : FileSystem(std::move(uri), use->store(), use->files), use_(std::move(use)) {}

 private:
  const StoresOfProcess<RocksdbStore>::Use use_;
};

class FileSystemOfCaller : public FileSystem {
 public:
  explicit FileSystemOfCaller(Store& store) : FileSystem("untorn", store, files_) {}

 private:
  SharedFiles files_;
};

absl::StatusOr<std::unique_ptr<::rocksdb::FileSystem>> Open(const std::string& uri) {
  StoreUri parsed;
  ASSIGN_OR_RETURN(parsed, ParseUri(uri));
  StoresOfProcess<RocksdbStore>::Use use;
  ASSIGN_OR_RETURN(use, StoresOfProcess<RocksdbStore>::Open(parsed.path, parsed.options));
  if (parsed.options.open.read_only != use->store().info().read_only) {
    return absl::FailedPreconditionError(
        absl::StrCat(parsed.path, ": this process has it open ",
                     parsed.options.open.read_only ? "for writing" : "read-only",
                     ", and one process opens a store in one way"));
  }
  return std::make_unique<FileSystemOfUri>(uri, std::move(use));
}

}  // namespace

absl::StatusOr<std::shared_ptr<::rocksdb::FileSystem>> NewFileSystem(const std::string& uri) {
  return Open(uri);
}

std::shared_ptr<::rocksdb::FileSystem> NewFileSystem(Store& store) {
  return std::make_shared<FileSystemOfCaller>(store);
}

void RegisterFileSystem() {
  static std::once_flag once;
  std::call_once(once, [] {
    using ::rocksdb::ObjectLibrary;
    ObjectLibrary::Default()->AddFactory<::rocksdb::FileSystem>(
        ObjectLibrary::PatternEntry("untorn", false).AddSeparator("://"),
        [](const std::string& uri, std::unique_ptr<::rocksdb::FileSystem>* made, std::string* error) {
          absl::StatusOr<std::unique_ptr<::rocksdb::FileSystem>> opened = Open(uri);
          if (opened.ok())
            *made = *std::move(opened);
          else
            *error = std::string(opened.status().message());
          return made->get();
        });
  });
}

}  // namespace untorn::rocks
