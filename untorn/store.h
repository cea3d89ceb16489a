// untorn: an embeddable store of objects whose writes are whole or not at all, whatever happens.
//
//     auto store = untorn::Store::Open("pages.untorn", {});
//     auto pages = (*store)->CreateObject("pages");
//     pages->Write(0, page, {.durability = untorn::Durability::kSync});
//
// Promises, numbered as in docs/design.md
//   1. An atomic write is there whole or not at all after a crash, on any device, for any byte range.
//   2. A concurrent read sees all of an atomic write or none of it.
//   3. What was reported durable is there after a crash, or a later version of it.
//   4. Among atomic writes that overlap a crash leaves the result of a prefix of them.
//   5. Nothing after a Barrier() is durable before everything before it.
//   6. A transaction commits as one atomic unit.
//   7. An accepted write never fails later for want of space.
//   8. A failed device write is sticky: the store refuses further changes, and goes on serving reads.
//   9. Damage is detected and reported as kDataLoss for what it covers.
//  10. One process at a time has a store open for writing.
//
// Threading: every method of every class may be called by any thread at any time, but for destruction,
// Close() and moving from an object, which must not run concurrently with other calls on the same thing. One
// Transaction belongs to one thread at a time.
//
// Errors common to all methods, besides those each one names
//   kFailedPrecondition  the store has failed (promise 8; the message has the cause), is closed or is
//                        read-only; or the process is a fork()ed child of the one that opened it
//   kDataLoss            metadata or data on the device is damaged; the message names it
//   kInvalidArgument     an argument is out of range; nothing was done
//
// fork(): a child must not use a store that its parent opened; every call in it fails, destruction is
// harmless. The store stays locked until the child has exited or exec()ed too.
#ifndef UNTORN_STORE_H_
#define UNTORN_STORE_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "untorn/options.h"

namespace untorn {

class Store;
class Transaction;
class Device;

namespace internal {
class StoreImpl;
class TransactionImpl;
struct ObjectHandle;
struct StoreTestPeer;
}  // namespace internal

// A handle to an object: cheap to copy, valid until its store is closed. After the object is removed every
// call through a handle returns kNotFound.
class Object {
 public:
  Object() = default;

  uint64_t id() const;
  // The name and the size as they are now (with everything accepted so far).
  absl::StatusOr<std::string> Name() const;
  absl::StatusOr<uint64_t> Size() const;  // bytes

  // Reads up to out.size() bytes from `offset`; returns how many there were before the object's end (0 at or
  // after it). Holes read as zeros. Sees each atomic write and each committed transaction whole (promise 2). With
  // bypass_cache, whole blocks go straight to memory that is aligned to 4096 bytes. After an error what `out` holds is
  // unspecified.
  //  kInvalidArgument: offset + length overflows
  absl::StatusOr<size_t> Read(uint64_t offset, std::span<std::byte> out, ReadOptions options = {}) const;
  absl::StatusOr<size_t> ReadV(uint64_t offset, std::span<const iovec> out, ReadOptions options = {}) const;

  // Writes `data` at `offset` bytes, extending the object where it ends later. The caller may reuse the
  // buffer when the call returns. Atomic writes larger than a quarter of the cache return only once they are
  // durable. Crash before it returns: old or new, whole (promise 1). After it returned OK with kSync: new.
  //  kInvalidArgument     empty; offset + length overflows or passes kObjectBytesMax; atomic and larger than
  //                       StoreInfo::atomic_write_bytes_max
  //  kResourceExhausted   no space; nothing was changed
  //  kFailedPrecondition  policy kHardwareOnly and the range can never go in place; the message names the
  //                       reason
  absl::Status Write(uint64_t offset, std::span<const std::byte> data, WriteOptions options = {}) const;
  absl::Status WriteV(uint64_t offset, std::span<const iovec> data, WriteOptions options = {}) const;

  // As Write and Read, but completion is told by calling `done`, once, from a thread of the store or from
  // within the call. `data` is copied before WriteAsync returns; `out` must stay valid until `done`. Waits
  // only where the dirty-data limit makes writers wait. `done` may call the store, but must not block on
  // another completion.
  void WriteAsync(uint64_t offset, std::span<const std::byte> data, WriteOptions options,
                  std::function<void(absl::Status)> done) const;
  void ReadAsync(uint64_t offset, std::span<std::byte> out, ReadOptions options,
                 std::function<void(absl::StatusOr<size_t>)> done) const;

  // Sets the size in bytes. What lies beyond is dropped and its space comes back; growing leaves a hole.
  // Atomic. If durable, so is everything submitted to this object before it.
  absl::Status Truncate(uint64_t size, Durability durability = Durability::kBuffered) const;
  // Makes [offset, offset + length) read as zeros and gives its whole blocks back. Atomic. Does not change
  // the size.
  absl::Status PunchHole(uint64_t offset, uint64_t length,
                         Durability durability = Durability::kBuffered) const;
  // Reserves aligned, contiguous space for the blocks of [offset, offset + length) that have none, and
  // extends the size to its end. They read as zeros. Atomic, and durable on return.
  // kResourceExhausted: no space; nothing was changed.
  absl::Status Preallocate(uint64_t offset, uint64_t length) const;

  // Returns once everything accepted before it, of this object or this range of it, is durable.
  absl::Status Sync() const;
  absl::Status SyncRange(uint64_t offset, uint64_t length) const;

 private:
  friend class Store;
  friend class Transaction;
  friend class internal::StoreImpl;
  friend class internal::TransactionImpl;
  explicit Object(std::shared_ptr<internal::ObjectHandle> handle) : handle_(std::move(handle)) {}
  std::shared_ptr<internal::ObjectHandle> handle_;
};

// Changes to any objects of one store that commit as one atomic unit or not at all (promise 6). Its own reads
// see its changes; others see them when Commit has returned, or, if buffered, when it is accepted. It may be
// larger than the cache: then its data is written ahead to space that nothing refers to until the commit.
//
// Transactions do not lock what they touch: at commit its writes take effect over whatever is there then,
// byte for byte. Names and objects are checked again at commit. Blocks of which it writes only a part stay in
// memory until the commit: all of them must fit an eighth of the cache (kResourceExhausted). An open Transaction
// must not outlive its Store.
class Transaction {
 public:
  ~Transaction();  // Abandons it, unless committed.
  Transaction(Transaction&&) noexcept;
  Transaction& operator=(Transaction&&) noexcept;

  // As their namesakes in Store and Object. Objects created here can be used only through this transaction
  // until it has committed.
  absl::StatusOr<Object> CreateObject(std::string_view name);
  absl::StatusOr<Object> OpenObject(std::string_view name) const;
  absl::Status Rename(std::string_view from, std::string_view to);
  absl::Status Remove(std::string_view name);
  absl::Status Write(const Object& object, uint64_t offset, std::span<const std::byte> data);
  absl::StatusOr<size_t> Read(const Object& object, uint64_t offset, std::span<std::byte> out) const;
  absl::Status Truncate(const Object& object, uint64_t size);
  absl::Status PunchHole(const Object& object, uint64_t offset, uint64_t length);
  absl::StatusOr<uint64_t> Size(const Object& object) const;

  // Takes over the changes of `other`, a transaction of the same store, which is finished then.
  //  kInvalidArgument     both have read or changed the same object, or changed the same name; nothing was done
  absl::Status Absorb(Transaction&& other);

  // All or nothing; afterwards the transaction is finished either way. With kSync it returns once durable. A
  // transaction that was written ahead is always durable when this returns.
  //  kFailedPrecondition  policy kHardwareOnly, and its data can never be one atomic overwrite
  //  kAborted             an object it writes was removed, or a name was taken or removed, by others meanwhile
  //  kResourceExhausted   no space, or more changes than the log can hold in one commit
  absl::Status Commit(Durability durability = Durability::kSync);
  void Abandon();

 private:
  friend class Store;
  explicit Transaction(std::unique_ptr<internal::TransactionImpl> impl);
  std::unique_ptr<internal::TransactionImpl> impl_;
};

class Store {
 public:
  // Makes a store at `path`: a new file, or a block device.
  //  kAlreadyExists       the file exists (without options.force), or the device holds something
  //                       recognisable: the message says what
  //  kInvalidArgument     size too small or not given for a file
  //  kResourceExhausted   the file system below has no space
  static absl::Status Create(const std::string& path, const CreateOptions& options);

  // Opens a store. Reads the end of its log, not all of it: the cost does not grow with the store.
  //  kNotFound            no such file
  //  kFailedPrecondition  open elsewhere ("open for writing by process N")
  //  kInvalidArgument     not a store
  //  kUnimplemented       another format version, or feature bits this library does not know
  //  kDataLoss            cut short, or damaged beyond use
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& path, const OpenOptions& options);
  // The same on a device of the caller's, for tests and simulation. `background` false: no thread is started;
  // writeback and checkpoints run inside calls.
  static absl::Status CreateOnDevice(Device& device, const CreateOptions& options);
  static absl::StatusOr<std::unique_ptr<Store>> OpenOnDevice(std::unique_ptr<Device> device,
                                                             const OpenOptions& options,
                                                             bool background = true);

  // As Close(); an error goes to the log callback. Waits for asynchronous operations under way.
  ~Store();
  // Makes everything durable, writes a checkpoint, and releases the store. Handles and transactions become
  // useless: their calls return kFailedPrecondition. A failed store reports its failure here too.
  absl::Status Close();

  // Names are 1 to 255 bytes, any but NUL.
  //  kAlreadyExists / kNotFound / kInvalidArgument
  absl::StatusOr<Object> CreateObject(std::string_view name, Durability durability = Durability::kBuffered);
  absl::StatusOr<Object> OpenObject(std::string_view name);
  // kAlreadyExists if `to` exists. A durable rename or remove brings everything submitted to the object
  // before it.
  absl::Status Rename(std::string_view from, std::string_view to,
                      Durability durability = Durability::kBuffered);
  absl::Status Remove(std::string_view name, Durability durability = Durability::kBuffered);
  // Up to `max` objects in byte order of their names, the first one after `after` ("" for the beginning).
  absl::StatusOr<std::vector<ObjectInfo>> List(std::string_view after = "", size_t max = 1000);

  // Everything accepted before it becomes durable before anything accepted after it. Does not wait.
  absl::Status Barrier();
  // Returns once everything accepted before it is durable.
  absl::Status Sync();
  // Writes a checkpoint: shortens the next recovery and gives pending space back.
  absl::Status Checkpoint();

  Transaction Begin();

  StoreInfo info() const;
  Stats stats() const;  // all zero in a fork()ed child

 private:
  friend struct internal::StoreTestPeer;
  explicit Store(std::shared_ptr<internal::StoreImpl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<internal::StoreImpl> impl_;
};

}  // namespace untorn

#endif  // UNTORN_STORE_H_
