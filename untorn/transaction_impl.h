// Behind Transaction: changes collected privately, then staged as one unit, or, where they are larger than a
// share of the cache, written ahead to extents that nothing refers to and committed as one record chain.
//
// Invariants
//  1. Nothing of it is visible outside before Commit.
//  2. Blocks in memory take precedence over what was written ahead; both over holes; all over the committed
//     content.
//  3. A block in memory knows which of its bytes the transaction wrote; the others are taken from the
//     committed content at commit, so transactions that write different bytes of one block do not undo each
//     other.
//
// Threading: one thread at a time.
#ifndef UNTORN_TRANSACTION_IMPL_H_
#define UNTORN_TRANSACTION_IMPL_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "untorn/store_impl.h"

namespace untorn::internal {

class TransactionImpl {
 public:
  explicit TransactionImpl(std::shared_ptr<StoreImpl> store)
      : store_(std::move(store)), engine_(store_->engine()) {}
  ~TransactionImpl() { Abandon(); }

  absl::StatusOr<std::shared_ptr<ObjectHandle>> Create(std::string_view name);
  absl::StatusOr<std::shared_ptr<ObjectHandle>> Find(std::string_view name);
  absl::Status Rename(std::string_view from, std::string_view to);
  absl::Status Remove(std::string_view name);
  absl::Status Write(const ObjectHandle& object, uint64_t offset, IoVector data);
  absl::StatusOr<size_t> Read(const ObjectHandle& object, uint64_t offset, IoVector out);
  absl::Status Truncate(const ObjectHandle& object, uint64_t size);
  absl::Status PunchHole(const ObjectHandle& object, uint64_t offset, uint64_t length);
  absl::StatusOr<uint64_t> Size(const ObjectHandle& object);
  absl::Status Absorb(TransactionImpl& other);
  absl::Status Commit(Durability durability);
  void Abandon();

 private:
  // A block in memory. `written`: the bytes that are the transaction's, sorted, apart; empty if all are.
  struct Block {
    BufferRef buffer;
    std::vector<std::pair<uint32_t, uint32_t>> written;
    bool whole() const { return written.empty(); }
    void Note(uint32_t from, uint32_t to);
  };
  // Blocks written ahead.
  struct Ahead {
    uint64_t count = 0;
    uint64_t physical = 0;
    std::optional<Hash128> hash;  // none: part of a longer one, to be hashed again
  };
  struct Touched {
    std::shared_ptr<ObjectState> state;    // nullptr if created here
    std::shared_ptr<ObjectHandle> handle;  // if created here
    ObjectId id = ObjectId::kNone;
    std::string name;
    bool removed = false;
    bool renamed = false;
    bool wrote = false;     // data, besides zeros at the edges of holes
    uint64_t size = 0;      // as the transaction sees it
    bool set_size = false;  // by truncate, or created here
    uint64_t grow_to = 0;   // at least this
    bool zeroed = false;    // the edges of holes, which may lie beyond what is durable of the object
    RangeSet holes;
    std::map<uint64_t, Block> blocks;
    std::map<uint64_t, Ahead> ahead;
    bool created() const { return handle != nullptr; }
    // What is durable of its changes must bring all pending ones of the object: it relies on the size they give it.
    bool needs_size() const { return removed || renamed || set_size || zeroed || !holes.empty(); }
    // Anything besides reads.
    bool changed() const {
      return created() || removed || renamed || set_size || grow_to > 0 || !holes.empty() ||
             !blocks.empty() || !ahead.empty();
    }
  };

  absl::Status CheckUsable() const;
  uint64_t SizeOf(const Touched& t);
  absl::StatusOr<Touched*> Touch(const ObjectHandle& object);
  // The object a name refers to, as the transaction sees it; kNone: nothing.
  absl::StatusOr<ObjectId> Resolve(const std::string& name);
  absl::Status WriteBlocks(Touched& t, uint64_t offset, IoVector data);
  absl::Status ZeroBytes(Touched& t, uint64_t from, uint64_t to);
  void MakeHole(Touched& t, BlockRange range);
  // Cuts a range out of what was written ahead; its space goes back.
  void CutAhead(Touched& t, BlockRange range);
  absl::Status LoadAhead(Touched& t, uint64_t block);
  absl::Status ReadAheadBytes(uint64_t physical, uint64_t blocks, std::byte* out);
  absl::Status SpillIfLarge();
  absl::Status Spill(Touched& t);
  absl::Status WriteAhead(Touched& t, BlockRange range, std::vector<BufferRef>& buffers);
  uint64_t BlocksInMemory() const;
  bool AnyAhead() const;

  absl::Status CheckPolicy() const;
  absl::StatusOr<bool> AwaitJoin(Lock& lock);
  // For changes other than data.
  uint64_t MetadataEntries() const;
  bool OnlyGivesBack() const;
  absl::StatusOr<bool> CheckAtCommit(Lock& lock);
  absl::Status AwaitTree(Lock& lock, const Touched& t);
  absl::Status CommitStaged(Durability durability);
  struct StagedClaim {
    uint64_t blocks = 0, entries = 0;
  };
  absl::StatusOr<bool> ReadyToStage(Lock& lock, StagedClaim* claim);
  absl::Status CommitLarge();
  absl::Status CommitLargeLocked(Lock& lock);
  absl::StatusOr<std::vector<LogEntry>> BuildEntries(Lock& lock);
  void ApplyLarge();
  absl::Status CompleteBlock(Lock& lock, Touched& t, uint64_t number, Block& block);

  const std::shared_ptr<StoreImpl> store_;
  Engine& engine_;
  bool finished_ = false;
  std::map<ObjectId, Touched> touched_;
  std::map<std::string, ObjectId> names_;     // kNone: gone
  std::map<std::string, ObjectId> expected_;  // what the changed names referred to when first changed
  uint64_t claimed_entries_ = 0;              // for what was written ahead
  bool reached_ = false;                      // AwaitTree is done
};

}  // namespace untorn::internal

#endif  // UNTORN_TRANSACTION_IMPL_H_
