#include "integrations/rocksdb/files.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <latch>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "integrations/rocksdb/io_status.h"
#include "integrations/rocksdb/shared_files.h"

namespace untorn::rocks {
namespace {

using ::rocksdb::IODebugContext;
using ::rocksdb::IOOptions;
using ::rocksdb::IOStatus;
using ::rocksdb::Slice;

std::span<const std::byte> Bytes(const Slice& data) {
  return {reinterpret_cast<const std::byte*>(data.data()), data.size()};
}
std::span<std::byte> Bytes(char* scratch, size_t n) { return {reinterpret_cast<std::byte*>(scratch), n}; }

// What a read of `file` into `scratch` has given.
IOStatus Told(const OpenFile& file, const absl::StatusOr<size_t>& got, char* scratch, Slice* result) {
  *result = Slice(scratch, got.value_or(0));
  return ToIoStatus(got.status(), "read", file.path);
}

IOStatus ReadAt(const OpenFile& file, uint64_t offset, size_t n, ReadOptions options, char* scratch,
                Slice* result) {
  return Told(file, file.object.Read(offset, Bytes(scratch, n), options), scratch, result);
}

IOStatus WriteAt(const OpenFile& file, uint64_t offset, const Slice& data, bool direct) {
  if (data.empty()) return IOStatus::OK();
  // RocksDB counts on no more than that what is synced is there, so each block may land by itself.
  return ToIoStatus(file.object.Write(offset, Bytes(data), {.atomic = false, .bypass_cache = direct}),
                    "write", file.path);
}

class SequentialFile : public ::rocksdb::FSSequentialFile {
 public:
  explicit SequentialFile(OpenFile file) : file_(std::move(file)) {}

  IOStatus Read(size_t n, const IOOptions&, Slice* result, char* scratch, IODebugContext*) override {
    const IOStatus s = ReadAt(file_, position_, n, {}, scratch, result);
    position_ += result->size();
    return s;
  }
  // Stops at the end.
  IOStatus Skip(uint64_t n) override {
    const absl::StatusOr<uint64_t> size = file_.object.Size();
    if (size.ok()) position_ = std::min(position_ + n, std::max(position_, *size));
    return ToIoStatus(size.status(), "skip in", file_.path);
  }

 private:
  const OpenFile file_;
  uint64_t position_ = 0;
};

class RandomAccessFile : public ::rocksdb::FSRandomAccessFile {
 public:
  RandomAccessFile(OpenFile file, bool direct)
      : file_(std::move(file)), options_{.bypass_cache = direct}, direct_(direct) {}

  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    return ReadAt(file_, offset, n, options_, scratch, result);
  }
  // All at once, so that the device works on them at once.
  IOStatus MultiRead(::rocksdb::FSReadRequest* requests, size_t count, const IOOptions&,
                     IODebugContext*) override {
    struct Pending {
      const OpenFile& file;
      std::latch requests;
    } pending{file_, std::latch(static_cast<std::ptrdiff_t>(count))};
    for (size_t i = 0; i < count; ++i) {
      ::rocksdb::FSReadRequest* const r = &requests[i];
      // Two pointers fit into a std::function, so nothing is allocated that could fail while reads are under way.
      file_.object.ReadAsync(r->offset, Bytes(r->scratch, r->len), options_,
                             [r, all = &pending](absl::StatusOr<size_t> got) {
                               r->status = Told(all->file, got, r->scratch, &r->result);
                               all->requests.count_down();
                             });
    }
    pending.requests.wait();
    return IOStatus::OK();
  }
  bool use_direct_io() const override { return direct_; }

 private:
  const OpenFile file_;
  const ReadOptions options_;
  const bool direct_;
};

class WritableFile : public ::rocksdb::FSWritableFile {
 public:
  WritableFile(OpenFile file, SharedFiles& shared, uint64_t position, bool direct)
      : file_(std::move(file)), shared_(shared), position_(position), direct_(direct) {}

  using ::rocksdb::FSWritableFile::Append;
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    IOStatus s = WriteAt(file_, position_, data, direct_);
    if (s.ok()) position_ += data.size();
    return s;
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    IOStatus s = ToIoStatus(file_.object.Truncate(size), "truncate", file_.path);
    if (s.ok()) position_ = size;
    return s;
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override {
    shared_.SetWritten(file_.object);
    return IOStatus::OK();
  }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    shared_.SetWritten(file_.object);
    return ToIoStatus(file_.object.Sync(), "sync", file_.path);
  }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override { return position_; }

 private:
  const OpenFile file_;
  SharedFiles& shared_;
  uint64_t position_;  // bytes
  const bool direct_;
};

class RandomRwFile : public ::rocksdb::FSRandomRWFile {
 public:
  explicit RandomRwFile(OpenFile file) : file_(std::move(file)) {}

  IOStatus Write(uint64_t offset, const Slice& data, const IOOptions&, IODebugContext*) override {
    return WriteAt(file_, offset, data, false);
  }
  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    return ReadAt(file_, offset, n, {}, scratch, result);
  }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    return ToIoStatus(file_.object.Sync(), "sync", file_.path);
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }

 private:
  const OpenFile file_;
};

class Directory : public ::rocksdb::FSDirectory {
 public:
  Directory(Store& store, std::string path) : store_(store), path_(std::move(path)) {}

  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    return ToIoStatus(store_.Sync(), "sync directory", path_);
  }
  // A file that is synced has its name, and a rename is durable when it returns. What is left are removals.
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* context,
                               const ::rocksdb::DirFsyncOptions& why) override {
    using Reason = ::rocksdb::DirFsyncOptions;
    if (why.reason == Reason::kNewFileSynced || why.reason == Reason::kFileRenamed) return IOStatus::OK();
    return Fsync(options, context);
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }

 private:
  Store& store_;
  const std::string path_;
};

}  // namespace

std::unique_ptr<::rocksdb::FSSequentialFile> NewSequentialFile(OpenFile file) {
  return std::make_unique<SequentialFile>(std::move(file));
}

std::unique_ptr<::rocksdb::FSRandomAccessFile> NewRandomAccessFile(OpenFile file, bool direct) {
  return std::make_unique<RandomAccessFile>(std::move(file), direct);
}

std::unique_ptr<::rocksdb::FSWritableFile> NewWritableFile(OpenFile file, SharedFiles& shared,
                                                           uint64_t position, bool direct) {
  return std::make_unique<WritableFile>(std::move(file), shared, position, direct);
}

std::unique_ptr<::rocksdb::FSRandomRWFile> NewRandomRwFile(OpenFile file) {
  return std::make_unique<RandomRwFile>(std::move(file));
}

std::unique_ptr<::rocksdb::FSDirectory> NewDirectory(Store& store, std::string path) {
  return std::make_unique<Directory>(store, std::move(path));
}

}  // namespace untorn::rocks
