#include "integrations/rocksdb/file_system.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "integrations/rocksdb/files.h"
#include "integrations/rocksdb/io_status.h"
#include "integrations/rocksdb/names.h"

namespace untorn::rocks {
namespace {

using ::rocksdb::FileOptions;
using ::rocksdb::IODebugContext;
using ::rocksdb::IOOptions;
using ::rocksdb::IOStatus;

// A lock that RocksDB holds.
struct LockedFile : ::rocksdb::FileLock {
  explicit LockedFile(std::string of) : name(std::move(of)) {}
  const std::string name;
};

}  // namespace

absl::StatusOr<Object> FileSystem::OpenOrCreate(const std::string& path) {
  const std::string name = FileName(path);
  absl::StatusOr<Object> object = store_.CreateObject(name);
  if (absl::IsAlreadyExists(object.status())) object = store_.OpenObject(name);
  if (object.ok()) shared_.SetWritten(*object);
  return object;
}

IOStatus FileSystem::NewSequentialFile(const std::string& path, const FileOptions&,
                                       std::unique_ptr<::rocksdb::FSSequentialFile>* file, IODebugContext*) {
  absl::StatusOr<Object> object = store_.OpenObject(FileName(path));
  if (object.ok()) *file = rocks::NewSequentialFile({*object, path});
  return ToIoStatus(object.status(), "open", path);
}

IOStatus FileSystem::NewRandomAccessFile(const std::string& path, const FileOptions& options,
                                         std::unique_ptr<::rocksdb::FSRandomAccessFile>* file,
                                         IODebugContext*) {
  absl::StatusOr<Object> object = store_.OpenObject(FileName(path));
  if (object.ok()) *file = rocks::NewRandomAccessFile({*object, path}, options.use_direct_reads);
  return ToIoStatus(object.status(), "open", path);
}

IOStatus FileSystem::NewWritableFile(const std::string& path, const FileOptions& options,
                                     std::unique_ptr<::rocksdb::FSWritableFile>* file, IODebugContext*) {
  const absl::StatusOr<Object> object = OpenOrCreate(path);
  const absl::Status emptied = object.ok() ? object->Truncate(0) : object.status();
  if (emptied.ok()) *file = rocks::NewWritableFile({*object, path}, shared_, 0, options.use_direct_writes);
  return ToIoStatus(emptied, "create", path);
}

IOStatus FileSystem::ReopenWritableFile(const std::string& path, const FileOptions& options,
                                        std::unique_ptr<::rocksdb::FSWritableFile>* file, IODebugContext*) {
  const absl::StatusOr<Object> object = OpenOrCreate(path);
  const absl::StatusOr<uint64_t> size = object.ok() ? object->Size() : object.status();
  if (size.ok()) *file = rocks::NewWritableFile({*object, path}, shared_, *size, options.use_direct_writes);
  return ToIoStatus(size.status(), "open", path);
}

// The old content stays until it is overwritten, so that overwrites of a log need no new space.
IOStatus FileSystem::ReuseWritableFile(const std::string& path, const std::string& old_path,
                                       const FileOptions& options,
                                       std::unique_ptr<::rocksdb::FSWritableFile>* file, IODebugContext*) {
  const absl::Status renamed = Rename(old_path, path);
  if (!renamed.ok()) return ToIoStatus(renamed, "rename", absl::StrCat(old_path, " to ", path));
  const absl::StatusOr<Object> object = OpenOrCreate(path);
  if (object.ok()) *file = rocks::NewWritableFile({*object, path}, shared_, 0, options.use_direct_writes);
  return ToIoStatus(object.status(), "open", path);
}

IOStatus FileSystem::NewRandomRWFile(const std::string& path, const FileOptions&,
                                     std::unique_ptr<::rocksdb::FSRandomRWFile>* file, IODebugContext*) {
  absl::StatusOr<Object> object = store_.OpenObject(FileName(path));
  if (object.ok()) {
    shared_.SetWritten(*object);
    *file = NewRandomRwFile({*object, path});
  }
  return ToIoStatus(object.status(), "open", path);
}

IOStatus FileSystem::NewDirectory(const std::string& path, const IOOptions&,
                                  std::unique_ptr<::rocksdb::FSDirectory>* directory, IODebugContext*) {
  const absl::Status found = CheckDirectory(path);
  if (found.ok()) *directory = rocks::NewDirectory(store_, path);
  return ToIoStatus(found, "open directory", path);
}

absl::Status FileSystem::CheckDirectory(const std::string& path) const {
  const std::string directory = DirectoryName(path);
  if (directory.empty()) return absl::OkStatus();
  absl::Status own = store_.OpenObject(directory).status();
  if (!absl::IsNotFound(own)) return own;
  std::vector<ObjectInfo> first;
  ASSIGN_OR_RETURN(first, store_.List(directory, 1));
  if (!first.empty() && first[0].name.starts_with(directory)) return absl::OkStatus();
  return absl::NotFoundError("there is no such directory");
}

absl::StatusOr<std::vector<std::string>> FileSystem::NamesFrom(const std::string& path, bool nested) const {
  const std::string directory = DirectoryName(path);
  RETURN_IF_ERROR(CheckDirectory(path));
  std::vector<std::string> names;
  std::string after = directory;
  while (true) {
    std::vector<ObjectInfo> objects;
    ASSIGN_OR_RETURN(objects, store_.List(after));
    if (objects.empty()) return names;
    for (const ObjectInfo& object : objects) {
      if (!object.name.starts_with(directory)) return names;
      after = object.name;
      const size_t end = object.name.find('/', directory.size());
      names.push_back(nested ? object.name : object.name.substr(0, end));
      if (nested || end == std::string::npos) continue;
      // The rest of this subdirectory is passed over.
      after = LastNameWith(object.name.substr(0, end + 1));
      break;
    }
  }
}

IOStatus FileSystem::FileExists(const std::string& path, const IOOptions&, IODebugContext*) {
  absl::Status found = store_.OpenObject(FileName(path)).status();
  if (absl::IsNotFound(found) || absl::IsInvalidArgument(found)) found = CheckDirectory(path);
  return absl::IsNotFound(found) ? IOStatus::NotFound(path) : ToIoStatus(found, "look for", path);
}

IOStatus FileSystem::GetChildren(const std::string& path, const IOOptions&,
                                 std::vector<std::string>* children, IODebugContext*) {
  const absl::StatusOr<std::vector<std::string>> names = NamesFrom(path, false);
  // With the code that RocksDB expects here.
  if (absl::IsNotFound(names.status())) return IOStatus::NotFound(path);
  children->clear();
  if (!names.ok()) return ToIoStatus(names.status(), "list", path);
  const size_t prefix = DirectoryName(path).size();
  for (const std::string& name : *names) children->push_back(name.substr(prefix));
  return IOStatus::OK();
}

IOStatus FileSystem::DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) {
  const std::string name = FileName(path);
  const absl::StatusOr<Object> object = store_.OpenObject(name);
  if (object.ok()) shared_.Forget(*object);
  return ToIoStatus(object.ok() ? store_.Remove(name) : object.status(), "delete", path);
}

IOStatus FileSystem::Truncate(const std::string& path, size_t size, const IOOptions&, IODebugContext*) {
  const absl::StatusOr<Object> object = store_.OpenObject(FileName(path));
  return ToIoStatus(object.ok() ? object->Truncate(size) : object.status(), "truncate", path);
}

absl::Status FileSystem::MakeDirectory(const std::string& path) {
  const std::string directory = DirectoryName(path);
  if (directory.empty()) return absl::AlreadyExistsError("it is there");
  if (store_.OpenObject(FileName(path)).ok()) return absl::FailedPreconditionError("a file has the name");
  absl::Status found = CheckDirectory(path);
  if (absl::IsNotFound(found)) return store_.CreateObject(directory).status();
  return found.ok() ? absl::AlreadyExistsError("it is there") : found;
}

IOStatus FileSystem::CreateDir(const std::string& path, const IOOptions&, IODebugContext*) {
  return ToIoStatus(MakeDirectory(path), "create directory", path);
}

IOStatus FileSystem::CreateDirIfMissing(const std::string& path, const IOOptions&, IODebugContext*) {
  const absl::Status made = MakeDirectory(path);
  return absl::IsAlreadyExists(made) ? IOStatus::OK() : ToIoStatus(made, "create directory", path);
}

IOStatus FileSystem::DeleteDir(const std::string& path, const IOOptions&, IODebugContext*) {
  const std::string directory = DirectoryName(path);
  absl::StatusOr<std::vector<std::string>> names = NamesFrom(path, false);
  absl::Status s = names.status();
  if (s.ok() && !names->empty())
    s = absl::FailedPreconditionError(absl::StrCat("it is not empty: ", names->front(), " is there"));
  if (s.ok() && directory.empty()) s = absl::FailedPreconditionError("it is the root");
  if (s.ok()) s = store_.Remove(directory);
  return ToIoStatus(s, "delete directory", path);
}

IOStatus FileSystem::GetFileSize(const std::string& path, const IOOptions&, uint64_t* size, IODebugContext*) {
  const absl::StatusOr<Object> object = store_.OpenObject(FileName(path));
  const absl::StatusOr<uint64_t> bytes = object.ok() ? object->Size() : object.status();
  *size = bytes.value_or(0);
  return ToIoStatus(bytes.status(), "size of", path);
}

IOStatus FileSystem::GetFileModificationTime(const std::string& path, const IOOptions&, uint64_t* time,
                                             IODebugContext*) {
  const absl::StatusOr<Object> object = store_.OpenObject(FileName(path));
  *time = object.ok() ? static_cast<uint64_t>(shared_.WrittenAt(*object)) : 0;
  return ToIoStatus(object.status(), "time of", path);
}

absl::Status FileSystem::Rename(const std::string& source, const std::string& target) {
  const std::string from = FileName(source), to = FileName(target);
  if (from == to) return store_.OpenObject(from).status();
  Transaction transaction = store_.Begin();
  absl::Status s = transaction.OpenObject(from).status();
  if (s.ok()) {
    absl::Status removed = transaction.Remove(to);
    if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
    RETURN_IF_ERROR(transaction.Rename(from, to));
    return transaction.Commit();
  }
  if (!absl::IsNotFound(s) || !CheckDirectory(source).ok()) return s;
  return RenameDirectory(source, target);
}

absl::Status FileSystem::RenameDirectory(const std::string& source, const std::string& target) {
  const std::string from = DirectoryName(source), to = DirectoryName(target);
  if (from.empty() || to.starts_with(from))
    return absl::InvalidArgumentError("a directory can't go into itself");
  if (CheckDirectory(target).ok()) return absl::AlreadyExistsError("the directory is there");
  std::vector<std::string> names;
  ASSIGN_OR_RETURN(names, NamesFrom(source, true));
  Transaction transaction = store_.Begin();
  absl::Status own = transaction.Rename(from, to);
  if (!own.ok() && !absl::IsNotFound(own)) return own;
  for (const std::string& name : names)
    RETURN_IF_ERROR(transaction.Rename(name, absl::StrCat(to, name.substr(from.size()))));
  return transaction.Commit();
}

IOStatus FileSystem::RenameFile(const std::string& source, const std::string& target, const IOOptions&,
                                IODebugContext*) {
  return ToIoStatus(Rename(source, target), "rename", absl::StrCat(source, " to ", target));
}

IOStatus FileSystem::AreFilesSame(const std::string& first, const std::string& second, const IOOptions&,
                                  bool* same, IODebugContext*) {
  const absl::StatusOr<Object> a = store_.OpenObject(FileName(first)),
                               b = store_.OpenObject(FileName(second));
  *same = a.ok() && b.ok() && a->id() == b->id();
  if (!a.ok()) return ToIoStatus(a.status(), "open", first);
  return ToIoStatus(b.status(), "open", second);
}

IOStatus FileSystem::LockFile(const std::string& path, const IOOptions&, ::rocksdb::FileLock** lock,
                              IODebugContext*) {
  const std::string name = FileName(path);
  *lock = nullptr;
  if (!shared_.Lock(name))
    return IOStatus::IOError("untorn: lock " + path, "this process has the lock already");
  const absl::Status s = OpenOrCreate(path).status();
  if (s.ok())
    *lock = new LockedFile(name);
  else
    shared_.Unlock(name);
  return ToIoStatus(s, "lock", path);
}

IOStatus FileSystem::UnlockFile(::rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) {
  const std::unique_ptr<LockedFile> locked(static_cast<LockedFile*>(lock));
  shared_.Unlock(locked->name);
  return IOStatus::OK();
}

IOStatus FileSystem::GetTestDirectory(const IOOptions& options, std::string* path, IODebugContext* context) {
  *path = "/rocksdbtest";
  return CreateDirIfMissing(*path, options, context);
}

IOStatus FileSystem::GetAbsolutePath(const std::string& path, const IOOptions&, std::string* absolute,
                                     IODebugContext*) {
  *absolute = absl::StrCat("/", FileName(path));
  return IOStatus::OK();
}

IOStatus FileSystem::GetFreeSpace(const std::string&, const IOOptions&, uint64_t* bytes, IODebugContext*) {
  *bytes = store_.stats().space_free;
  return IOStatus::OK();
}

IOStatus FileSystem::IsDirectory(const std::string& path, const IOOptions& options, bool* is_directory,
                                 IODebugContext* context) {
  *is_directory = CheckDirectory(path).ok();
  return FileExists(path, options, context);
}

}  // namespace untorn::rocks
