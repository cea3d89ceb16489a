// Behind Transaction: changes collected privately (transaction_impl.cc), then committed as one change set
// (transaction_commit.cc).
//
// Invariant: nothing of it is visible outside before Commit.
//
// Threading: one thread at a time; called without the lock.
#ifndef UNTORN_STORE_TRANSACTION_IMPL_H_
#define UNTORN_STORE_TRANSACTION_IMPL_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/spill.h"
#include "store/store_impl.h"
#include "store/transaction_draft.h"

namespace untorn::internal {

class TransactionImpl {
 public:
  explicit TransactionImpl(std::shared_ptr<StoreImpl> store);
  ~TransactionImpl() { Abandon(); }

  absl::StatusOr<std::shared_ptr<ObjectHandle>> Create(std::string_view name);
  absl::StatusOr<std::shared_ptr<ObjectHandle>> Find(std::string_view name);
  absl::Status Rename(std::string_view from, std::string_view to);
  absl::Status Remove(std::string_view name);
  absl::Status Write(const ObjectHandle& object, uint64_t offset, IoVector data);
  absl::StatusOr<size_t> Read(const ObjectHandle& object, uint64_t offset, IoVector out);
  absl::Status Truncate(const ObjectHandle& object, uint64_t size);
  absl::Status PunchHole(const ObjectHandle& object, ByteRange range);
  absl::StatusOr<uint64_t> Size(const ObjectHandle& object);
  // Takes over the changes of another transaction, which is finished by that.
  absl::Status Absorb(TransactionImpl& other);
  absl::Status Commit(Durability durability);
  void Abandon();

 private:
  absl::Status CheckUsable() const;
  uint64_t SizeOf(const ObjectDraft& draft);
  absl::StatusOr<ObjectDraft*> Touch(const ObjectHandle& object);
  // The object a name refers to, as the transaction sees it; kNone: nothing.
  absl::StatusOr<ObjectId> Resolve(const std::string& name);
  absl::Status WriteBlocks(ObjectDraft& draft, uint64_t offset, IoVector data);
  absl::Status ZeroBytes(ObjectDraft& draft, uint64_t from, uint64_t to);
  void MakeHole(ObjectDraft& draft, BlockRange range);
  void ForgetBlocks(ObjectDraft& draft, BlockRange range);
  absl::Status ReadSpilled(const ObjectDraft& draft, uint64_t offset, uint64_t end, IoVector out);
  absl::Status SpillIfLarge();
  absl::Status SpillDraft(ObjectDraft& draft);
  // Gives back all that it holds, and forgets all changes.
  void Finish();

  // Committing.
  bool IsLarge() const;
  absl::Status CheckPolicy() const;
  uint64_t MetadataEntries() const;
  EmergencyReserve ReserveToUse() const;
  Readiness AwaitUnchanged(Lock& lock);
  Readiness AwaitTree(Lock& lock, ObjectDraft& draft);
  Readiness AwaitJoin(Lock& lock);
  Readiness AwaitStaging(Lock& lock, Reservation* space);
  ChangeSetRef StageDraft(ChangeSetRef set, ObjectDraft& draft, ChangeSetRefs* earlier);
  absl::Status CommitStaged(Durability durability);
  absl::Status CommitLarge();
  absl::Status SpillRest(Lock& lock);
  absl::Status CompleteBlock(Lock& lock, ObjectDraft& draft, ObjectBlock number, DraftBlock& block);
  ChangeSetRef MakeChangeSet();

  const std::shared_ptr<StoreImpl> store_;
  const Front front_;
  Spill spill_;
  bool finished_ = false;
  BlockCount blocks_in_memory_;
  std::map<ObjectId, ObjectDraft> drafts_;
  std::map<std::string, ObjectId> names_;     // kNone: gone
  std::map<std::string, ObjectId> expected_;  // what the changed names referred to when first changed
  bool looked_ = false;                       // AwaitTree is done
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_TRANSACTION_IMPL_H_
