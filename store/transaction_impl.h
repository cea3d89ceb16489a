// TransactionImpl is behind the public Transaction. The changes are collected in private drafts
// (transaction_impl.cc), and committed as one change set (transaction_commit.cc).
//
// Invariant: before Commit() nobody else sees anything of the transaction.
//
// Threading: one thread at a time uses a transaction, and does not hold the lock.
#ifndef UNTORN_STORE_TRANSACTION_IMPL_H_
#define UNTORN_STORE_TRANSACTION_IMPL_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cow/buffer_pool.h"
#include "store/spill.h"
#include "store/store_impl.h"
#include "store/transaction_draft.h"

namespace untorn::internal {

class TransactionImpl {
 public:
  explicit TransactionImpl(std::shared_ptr<StoreImpl> store);
  ~TransactionImpl() { Abandon(); }

  absl::StatusOr<std::shared_ptr<ObjectHandle>> Create(std::string_view name) EXCLUDES_STORE_LOCK;
  absl::StatusOr<std::shared_ptr<ObjectHandle>> Find(std::string_view name,
                                                     FindFor purpose = FindFor::kUse) EXCLUDES_STORE_LOCK;
  absl::Status Rename(std::string_view from, std::string_view to) EXCLUDES_STORE_LOCK;
  absl::Status Remove(std::string_view name) EXCLUDES_STORE_LOCK;
  absl::Status Write(const ObjectHandle& object, uint64_t offset, IoVector data) EXCLUDES_STORE_LOCK;
  absl::StatusOr<size_t> Read(const ObjectHandle& object, uint64_t offset, IoVector out) EXCLUDES_STORE_LOCK;
  absl::Status Truncate(const ObjectHandle& object, uint64_t size) EXCLUDES_STORE_LOCK;
  absl::Status PunchHole(const ObjectHandle& object, ByteRange range) EXCLUDES_STORE_LOCK;
  absl::StatusOr<uint64_t> Size(const ObjectHandle& object) EXCLUDES_STORE_LOCK;
  // Takes over the changes of `other`, and finishes `other`. After an error both transactions are unchanged.
  absl::Status Absorb(TransactionImpl& other) EXCLUDES_STORE_LOCK;
  absl::Status Commit(Durability durability) EXCLUDES_STORE_LOCK;
  void Abandon() EXCLUDES_STORE_LOCK;

  const StoreImpl* store() const { return store_.get(); }

 private:
  // Fails if the transaction is finished or incomplete, or if the process is a fork()ed child.
  absl::Status CheckUnfinished() const;
  // As above, and fails if the store is closed.
  absl::Status CheckUsable() const EXCLUDES_STORE_LOCK;
  uint64_t SizeOf(const ObjectDraft& draft) EXCLUDES_STORE_LOCK;
  // Returns the draft of the object, which is made when it is first needed.
  absl::StatusOr<ObjectDraft*> Touch(const ObjectHandle& object) EXCLUDES_STORE_LOCK;
  // Returns the object that the name refers to, as the transaction sees it, or kNone if there is no object.
  absl::StatusOr<ObjectId> Resolve(const std::string& name) EXCLUDES_STORE_LOCK;
  // After an error the transaction is incomplete.
  absl::Status WriteBlocks(ObjectDraft& draft, uint64_t offset, IoVector data) EXCLUDES_STORE_LOCK;
  absl::Status CopyToBlocks(ObjectDraft& draft, uint64_t offset, IoVector data) EXCLUDES_STORE_LOCK;
  // Returns a buffer for a new block. `rest` counts the blocks that the write at hand still has.
  absl::StatusOr<BufferRef> TakeBuffer(BlockCount rest);
  absl::Status ZeroBytes(ObjectDraft& draft, uint64_t from, uint64_t to) EXCLUDES_STORE_LOCK;
  void MakeHole(ObjectDraft& draft, BlockRange range) EXCLUDES_STORE_LOCK;
  void ForgetBlocks(ObjectDraft& draft, BlockRange range);
  absl::Status ReadSpilled(const ObjectDraft& draft, uint64_t offset, uint64_t end,
                           IoVector out) EXCLUDES_STORE_LOCK;
  // Says how many blocks the transaction may have in memory before it spills.
  BlockCount SpillLimit() const { return front_.admission.set_blocks_max() / 2; }
  absl::Status SpillDrafts() EXCLUDES_STORE_LOCK;
  absl::Status SpillDraft(ObjectDraft& draft) EXCLUDES_STORE_LOCK;
  // Gives back all space that the transaction holds, and forgets all changes.
  void Finish() EXCLUDES_STORE_LOCK;

  // ---- Committing ----
  bool IsLarge() const;
  absl::Status CheckPolicy() const;
  uint64_t MetadataEntries() const;
  // What the transaction takes at most if it is staged: changes of the tree, and blocks of the log.
  uint64_t StagedEntries() const;
  BlockCount StagedLogBlocks(uint64_t entries) const;
  // Says what the transaction does to the space in use, if that can be told without a look at its mappings.
  std::optional<SpaceFor> KnownUse() const;
  absl::Status LookMapped(Lock& lock, bool* mapped) REQUIRES_STORE_LOCK;
  Readiness AwaitUnchanged(Lock& lock) REQUIRES_STORE_LOCK;
  Readiness AwaitTree(Lock& lock, ObjectDraft& draft) REQUIRES_STORE_LOCK;
  Readiness AwaitJoin(Lock& lock, BlockCount* fresh) REQUIRES_STORE_LOCK;
  Readiness AwaitStaging(Lock& lock, std::optional<SpaceFor>* use, Reservation* space) REQUIRES_STORE_LOCK;
  ChangeSetRef StageDraft(const Lock& lock, ChangeSetRef set, ObjectDraft& draft,
                          ChangeSetRefs* earlier) REQUIRES_STORE_LOCK;
  absl::Status CommitStaged(const DurableCall& call) EXCLUDES_STORE_LOCK;
  absl::Status CommitLarge() EXCLUDES_STORE_LOCK;
  absl::Status SpillRest(Lock& lock) REQUIRES_STORE_LOCK;
  absl::Status CompleteBlock(Lock& lock, ObjectDraft& draft, ObjectBlock number,
                             DraftBlock& block) REQUIRES_STORE_LOCK;
  ChangeSetRef MakeChangeSet() REQUIRES_STORE_LOCK;

  const std::shared_ptr<StoreImpl> store_;
  const Front front_;
  Spill spill_;
  bool finished_ = false;
  absl::Status incomplete_;  // says why a call failed that had changed a part already
  BlockCount blocks_in_memory_;
  // Holds buffers for blocks to come, without the first `buffers_taken_`.
  std::vector<BufferRef> buffers_;
  size_t buffers_taken_ = 0;
  uint64_t extents_cut_ = 0;  // spilled extents that a hole has cut in two
  std::map<ObjectId, ObjectDraft> drafts_;
  std::map<std::string, ObjectId> names_;     // changed names; kNone if the name is gone
  std::map<std::string, ObjectId> expected_;  // what the changed names referred to when first changed
  bool looked_ = false;                       // AwaitTree() has been called for every draft
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_TRANSACTION_IMPL_H_
