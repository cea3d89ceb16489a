// untorn is an embeddable store of objects. Writes to the objects are whole or not at all, whatever happens.
//
//     auto store = untorn::Store::Open("pages.untorn", {});
//     auto pages = (*store)->CreateObject("pages");
//     pages->Write(0, page, {.durability = untorn::Durability::kSync});
//
// Promises, numbered as in docs/design.md
//   1. An atomic write is there whole or not at all after a crash, on any device, for any byte range.
//   2. A concurrent read sees all of an atomic write or none of it.
//   3. What was reported durable is there after a crash, or a later version of it is there.
//   4. Among atomic writes that overlap, a crash leaves the result of a prefix of them, in the order of
//      submission.
//   5. Nothing that is accepted after a Barrier() is durable before everything that was accepted before the
//      Barrier().
//   6. A transaction commits whole or not at all.
//   7. An accepted write never fails later for want of space.
//   8. A failed device write is sticky: the store refuses further changes, and goes on serving reads.
//   9. Damage is detected, and reported as kDataLoss for what the damage covers.
//  10. One process at a time has a store open for writing. Others may read it meanwhile.
//
// Threading: any thread may call any method of any class at any time, with two exceptions. Destruction,
// Close(), and moving from an object must not run concurrently with other calls on the same thing. One thread
// at a time may use a Transaction.
//
// All methods have these errors in common; each method names its others.
//   kFailedPrecondition  the store has failed (promise 8; the message has the cause), is closed or is
//                        read-only; or the process is a fork()ed child of the process that opened the store
//   kDataLoss            metadata or data on the device is damaged; the message names what
//   kInvalidArgument     an argument is out of range; nothing was done
//   kAborted             beside an owner (Store::Refresh): the state that is read is not kept any more, because its owner
//                        has needed the space or has ended; refresh the store
//   kResourceExhausted   the file system below has no space, even to overwrite (docs/decisions/031), or the process may not
//                        write there any more (RLIMIT_FSIZE). A change was not made. What a sync was to cover is accepted,
//                        and not durable yet. Or the process can get no more memory (docs/decisions/037): nothing was begun,
//                        and the store goes on when there is memory. Only a write that is not atomic, and larger than
//                        1 MiB, may have been accepted in part then.
//   kUnavailable         for the same reason, the change is accepted, and not durable yet; from changes with kSync
// While there is no space, a checkpoint and changes that return only when they are durable wait if they have begun.
//
// fork(): a child process must not use a store that its parent opened. Every call in the child fails, and
// destruction in the child is harmless. The store stays locked until the child, too, has exited or called
// exec().
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

namespace internal {
class NewestState;
class StoreImpl;
class TransactionImpl;
struct ObjectHandle;
struct StoreMaker;
struct StoreTestPeer;
}  // namespace internal

// An Object is a handle to an object. A handle is cheap to copy, and valid until its store is closed. After
// the object is removed, every call through a handle returns kNotFound.
class Object {
 public:
  Object() = default;

  uint64_t id() const;
  // These two return the name and the size of the object now, with everything accepted so far.
  absl::StatusOr<std::string> Name() const;
  absl::StatusOr<uint64_t> Size() const;  // bytes

  // Reads up to out.size() bytes from `offset` on. Returns how many bytes there were before the end of the
  // object: 0 at or after the end. Holes read as zeros. A read sees each atomic write and each committed
  // transaction whole (promise 2). With bypass_cache, whole blocks go straight to memory that is aligned to
  // 4096 bytes. After an error the content of `out` is unspecified.
  //  kInvalidArgument     offset + length overflows
  absl::StatusOr<size_t> Read(uint64_t offset, std::span<std::byte> out, ReadOptions options = {}) const;
  absl::StatusOr<size_t> ReadV(uint64_t offset, std::span<const iovec> out, ReadOptions options = {}) const;

  // Writes `data` at `offset` bytes. The object grows if the write ends beyond its end. The caller may reuse
  // the buffer when the call returns. An atomic write is large if it takes more than a quarter of the page
  // cache. It is also large if its blocks, at 48 bytes each, would take more than a quarter of the log. A
  // large atomic write returns only once it is durable. If a crash comes before Write returns, the range
  // holds the old or the new content, whole (promise 1). After OK with kSync, the range holds the new content
  // after a crash, or a later version.
  //  kInvalidArgument     `data` is empty; offset + length overflows or passes kObjectBytesMax; the write is
  //                       atomic and larger than StoreInfo::atomic_write_bytes_max
  //  kResourceExhausted   there is no space; nothing was changed. A full store still takes overwrites
  //                       (StoreInfo::overwrite_reserve_bytes).
  //  kFailedPrecondition  the policy is kHardwareOnly and the range can never go in place; the message names
  //                       the reason
  absl::Status Write(uint64_t offset, std::span<const std::byte> data, WriteOptions options = {}) const;
  absl::Status WriteV(uint64_t offset, std::span<const iovec> data, WriteOptions options = {}) const;

  // These two are Write and Read, but tell completion by calling `done`. `done` is called once, from a thread
  // of the store or from within the call. WriteAsync copies `data` before it returns; `out` must stay valid
  // until `done` is called. WriteAsync does not wait for durability, except for a large atomic write (see
  // Write). WriteAsync may wait until the write can be accepted, for example while too much data is dirty.
  // `done` may call the store, but must not block on another completion.
  void WriteAsync(uint64_t offset, std::span<const std::byte> data, WriteOptions options,
                  std::function<void(absl::Status)> done) const;
  void ReadAsync(uint64_t offset, std::span<std::byte> out, ReadOptions options,
                 std::function<void(absl::StatusOr<size_t>)> done) const;

  // Sets the size of the object in bytes. Truncate drops what lies beyond the size and gives the space back.
  // Growing leaves a hole. A crash leaves all of a truncate or nothing. When a truncate is durable, so is
  // everything that was submitted to the object before it. Truncate works on a full store (promise 7).
  absl::Status Truncate(uint64_t size, Durability durability = Durability::kBuffered) const;
  // Makes bytes [offset, offset + length) read as zeros, and gives back the space of the whole blocks among
  // them. Does not change the size. A crash leaves all of the hole or nothing.
  absl::Status PunchHole(uint64_t offset, uint64_t length,
                         Durability durability = Durability::kBuffered) const;
  // Allocates space for the blocks of [offset, offset + length) that have none, aligned and contiguous where
  // the free space allows. The new blocks read as zeros. The object grows to the end of the range if it ends
  // before. The change is atomic, and durable when the call returns OK.
  //  kResourceExhausted   there is no space; nothing was changed
  absl::Status Preallocate(uint64_t offset, uint64_t length) const;

  // Sync returns once everything of this object is durable that was accepted before the call. SyncRange does
  // the same for bytes [offset, offset + length) of the object.
  absl::Status Sync() const;
  absl::Status SyncRange(uint64_t offset, uint64_t length) const;

 private:
  friend class Store;
  friend class Transaction;
  friend class internal::StoreImpl;
  friend class internal::TransactionImpl;
  explicit Object(std::shared_ptr<internal::ObjectHandle> handle) : handle_(std::move(handle)) {}
  // Says whether Store::Refresh has brought a newer state than the handle's, and finds the object in it.
  bool HasNewer() const;
  absl::StatusOr<Object> InNewest() const;
  std::shared_ptr<internal::ObjectHandle> handle_;
};

// A transaction is a list of changes to any objects of one store. A transaction commits whole or not at all
// (promise 6). Reads by the transaction see its own changes. Others see the changes when Commit has returned,
// or earlier, when Commit has accepted the changes. A transaction may be larger than the cache. The data of
// such a transaction is written ahead, to space that nothing refers to until the commit. Others see the
// changes of such a transaction only when the changes are durable.
//
// A transaction locks nothing before its commit. At the commit its writes take effect over whatever is there
// then, byte for byte. The commit checks names and objects again. Blocks of which the transaction writes only
// a part stay in memory until the commit. All of these blocks must fit an eighth of the page cache, and half
// of that once data is written ahead; otherwise a call returns kResourceExhausted. After a Write, Truncate or
// PunchHole that failed half way, every other call returns kFailedPrecondition, and only Abandon is left. An
// open Transaction must not outlive its Store.
class Transaction {
 public:
  ~Transaction();  // Abandons the transaction if it is not committed.
  Transaction(Transaction&&) noexcept;
  Transaction& operator=(Transaction&&) noexcept;

  // These methods do the same as those of Store and Object with the same names. An object that is created
  // here can be used only through this transaction until the transaction has committed.
  absl::StatusOr<Object> CreateObject(std::string_view name);
  absl::StatusOr<Object> OpenObject(std::string_view name) const;
  absl::Status Rename(std::string_view from, std::string_view to);
  absl::Status Remove(std::string_view name);
  absl::Status Write(const Object& object, uint64_t offset, std::span<const std::byte> data);
  absl::StatusOr<size_t> Read(const Object& object, uint64_t offset, std::span<std::byte> out) const;
  absl::Status Truncate(const Object& object, uint64_t size);
  absl::Status PunchHole(const Object& object, uint64_t offset, uint64_t length);
  absl::StatusOr<uint64_t> Size(const Object& object) const;

  // Takes over the changes of `other`, a transaction of the same store. `other` is finished then.
  //  kInvalidArgument     both transactions have read or changed the same object, or changed the same name,
  //                       or are not two transactions of one store; nothing was done
  absl::Status Absorb(Transaction&& other);

  // Commits all changes or none. Afterwards the transaction is finished either way. With kSync, Commit
  // returns once the transaction is durable. A transaction that was written ahead is always durable when
  // Commit returns OK.
  //  kFailedPrecondition  the policy is kHardwareOnly, and the data can never be one atomic overwrite
  //  kAborted             others have removed an object that the transaction changes, or have taken or
  //                       removed a name
  //  kResourceExhausted   there is no space, or there are more changes than one commit may put into the log. A full store
  //                       still takes transactions that only overwrite, up to StoreInfo::overwrite_reserve_bytes.
  absl::Status Commit(Durability durability = Durability::kSync);
  void Abandon();

 private:
  friend class Store;
  explicit Transaction(std::unique_ptr<internal::TransactionImpl> impl);
  std::unique_ptr<internal::TransactionImpl> impl_;
};

class Store {
 public:
  // Makes a store at `path`: a new file, or a block device. A file gets its name, or takes the place of an
  // existing one (options.force), only when the new store is complete. A crash may leave a file `path`.new-….
  //  kAlreadyExists       the file exists, or the device holds something recognisable, without options.force;
  //                       the message says what
  //  kInvalidArgument     the size is too small or too large
  //  kResourceExhausted   the file system below has no space, or the process has no descriptor left, or may not write so
  //                       large a file (RLIMIT_FSIZE)
  static absl::Status Create(const std::string& path, const CreateOptions& options);

  // Opens a store, and recovers what was durable. Open reads the superblocks and the log, and nothing that
  // grows with the store. With options.read_only a store can be opened that another process has open for writing: the
  // calls then show a state that has all that was durable at the opening, and Refresh() brings a newer one. The owner keeps
  // the blocks of that state as long as it can: until it would have to refuse a change for want of space.
  //  kNotFound            there is no such file
  //  kFailedPrecondition  the store is open elsewhere ("open for writing by process N")
  //  kUnavailable         read-only: the process that has the store open for writing has not answered for 30 seconds
  //  kInvalidArgument     the file is not a store, or an option is out of range
  //  kUnimplemented       the store has another format version, or feature bits that this library does not
  //                       know
  //  kDataLoss            the store is cut short, or damaged beyond use
  //  kResourceExhausted   the process has no thread or descriptor left, or may not write so large a file (RLIMIT_FSIZE)
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& path, const OpenOptions& options);

  // Closes the store as Close() does, if it is still open. An error goes to the log callback. Waits for
  // asynchronous operations that are under way.
  ~Store();
  // Makes everything durable, writes a checkpoint, and releases the store. Afterwards all calls through
  // handles and transactions return kFailedPrecondition. Close also releases a store that has failed, and
  // returns the failure.
  absl::Status Close();

  // A name has 1 to 255 bytes, and no NUL byte.
  //  kAlreadyExists       CreateObject: an object has the name
  //  kNotFound            OpenObject: no object has the name
  //  kInvalidArgument     the name is empty, too long, or has a NUL byte
  absl::StatusOr<Object> CreateObject(std::string_view name, Durability durability = Durability::kBuffered);
  absl::StatusOr<Object> OpenObject(std::string_view name);
  // When a rename or remove is durable, so is everything that was submitted to the object before it. Remove
  // works on a full store (promise 7).
  //  kAlreadyExists       Rename: an object has the name `to`
  //  kNotFound            no object has the name `from` or `name`
  absl::Status Rename(std::string_view from, std::string_view to,
                      Durability durability = Durability::kBuffered);
  absl::Status Remove(std::string_view name, Durability durability = Durability::kBuffered);
  // Returns up to `max` objects in the byte order of their names. The first one is the next after `after`; ""
  // stands for the beginning.
  absl::StatusOr<std::vector<ObjectInfo>> List(std::string_view after = "", size_t max = 1000);

  // Divides the history of the store: nothing that is accepted after the barrier becomes durable before
  // everything that was accepted before the barrier (promise 5). Does not wait for the device.
  absl::Status Barrier();
  // Returns once everything is durable that was accepted before the call.
  absl::Status Sync();
  // Writes a checkpoint. A checkpoint shortens the next recovery, and gives pending space back.
  absl::Status Checkpoint();

  // Sets the most that the store may take, while it is in use. 0 stands for the size of the file system or block device
  // below. Writes a checkpoint. A crash leaves the old limit or the new one. A block device must have grown before, and a
  // file needs no space yet. If the store has grown beyond the size, Resize moves what is in the way, and cuts the file.
  // Other calls go on meanwhile; changes of an object wait while a part of it is moved. The limit stays, and all content,
  // after every error.
  //  kInvalidArgument     no store can have the size
  //  kOutOfRange          the block device is smaller
  //  kResourceExhausted   the store has more than the size in use, or others have needed the space meanwhile
  //  kDataLoss            what is in the way is damaged, or metadata that tells what is; the message names it
  //  kFailedPrecondition  an open transaction has written ahead to what is in the way
  //  kCancelled           options.progress has returned false
  absl::Status Resize(uint64_t size_bytes, const ShrinkOptions& options = {});

  // Gives back to the file system what the store can do without for now, as Resize does for a lower limit. The limit stays,
  // so the store grows again as it needs. Some space stays prepared. The errors are those of Resize.
  //  kFailedPrecondition  also: the store is on a block device
  absl::StatusOr<TrimResult> Trim(const ShrinkOptions& options = {});

  // Reads all data from the device, past the cache, and compares it with its checksums, object by object. Other calls go
  // on meanwhile, other scrubs too. What is wrong is in the result: object, range and cause. An object that is renamed
  // meanwhile may be left out, or be read twice. What is on its way to the device is left out. Changes no content. Blocks
  // that were open for writes in place when the last owner crashed get checksums, unless the store is open read-only. The
  // next checkpoints make these durable.
  //  kCancelled           options.progress has returned false
  //  kInternal            the device has stopped reading
  absl::StatusOr<ScrubResult> Scrub(const ScrubOptions& options = {});

  // Brings what is read up to date, in a store that was opened read-only while another process had it open for writing.
  // Afterwards the store and all handles of its objects show a state that has all that was durable when Refresh was called.
  // Reads that are under way show either state. A transaction stays with the state in which it was begun. The old state
  // stays after an error. In any other store there is nothing to do.
  //  kUnavailable         no process has the store open for writing now, or it has not answered for 30 seconds
  //  kFailedPrecondition  another store has taken the place of this one
  absl::Status Refresh();

  Transaction Begin();

  StoreInfo info() const;
  Stats stats() const;  // all zero in a fork()ed child

 private:
  friend struct internal::StoreMaker;
  friend struct internal::StoreTestPeer;
  Store(std::shared_ptr<internal::StoreImpl> impl, std::shared_ptr<internal::NewestState> newest)
      : impl_(std::move(impl)), newest_(std::move(newest)) {}
  std::shared_ptr<internal::StoreImpl> impl() const;
  // Calls `fn` with the newest state, again if a refresh has ended that state meanwhile.
  template <typename Fn>
  auto OnNewest(Fn fn) const;

  // One of the two is there: the second if the store is open beside its owner.
  std::shared_ptr<internal::StoreImpl> impl_;
  std::shared_ptr<internal::NewestState> newest_;
};

}  // namespace untorn

#endif  // UNTORN_STORE_H_
