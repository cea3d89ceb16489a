// Random operations on a store and on the model of it, with power cuts, kills and failing devices in between;
// after each of these what is recovered must be something the promises permit. Everything follows from the
// seed.
#ifndef UNTORN_TESTS_UNTORN_MODEL_RUN_H_
#define UNTORN_TESTS_UNTORN_MODEL_RUN_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "tests/untorn/model.h"
#include "tests/untorn/test_store.h"
#include "untorn/store.h"

namespace untorn {

// What a run did, to show that it was not idle.
struct ModelRunCounts {
  uint64_t ops = 0, crashes = 0, kills = 0, cut_inside_a_call = 0, cut_while_opening = 0, device_failures = 0;
  uint64_t reopened = 0, refused_for_space = 0, refused_by_policy = 0, transactions = 0, dropped_records = 0;
  uint64_t checkpoints = 0, change_sets_in_place = 0, change_sets_by_cow = 0;
  std::string ToString() const;
  void Add(const ModelRunCounts& other);
};

class ModelRun {
 public:
  explicit ModelRun(uint64_t seed);
  // Stops at the first difference, with a test failure that says what was done last.
  void Run(uint64_t ops);
  const ModelRunCounts& counts() const { return counts_; }

 private:
  // What became of a change.
  enum class Fate { kDone, kRefused, kUnknown };
  enum Refusals { kMustWork = 0, kSpace = 1, kPolicy = 2 };
  struct Range {
    uint64_t offset = 0, length = 0;
    uint64_t end() const { return offset + length; }
  };
  // One change of a transaction.
  struct Change {
    enum Kind { kCreate, kRemove, kRename, kWrite, kTruncate, kPunch } kind;
    uint64_t object = 0;
    std::string name, to;
    Range range;  // kTruncate: `length` is the size
    std::vector<std::byte> data;
  };
  struct AsyncWrite {
    int completions = 0;
    absl::Status status;
    bool brings_durability = false;
    uint64_t base = 0;  // number of the base that `ops` belong to
    std::vector<Model::OpId> ops;
  };

  // model_run.cc
  void Configure();
  void Step();
  Fate Judge(const absl::Status& status, int refusals, std::string_view call);
  void Fail(const std::string& what);
  void Note(std::string what);
  void NewBase();
  void SettleAsync();
  void AfterStep();
  // model_recovery.cc
  void Recover(bool power_cut);
  void OpenAfterCrash();
  bool Observe(Store& store, Observed* observed);
  void CheckFailedStore();
  void Reopen();
  void CheckSpaceComesBack();
  // model_steps.cc
  void WriteStep();
  void ReadStep();
  void CheckRead(const Object& object, const ObjectData& expected, Range range);
  void ReadAsyncStep(const Object& object, const ObjectData& expected, Range range);
  void Apply(Fate fate, bool durable, uint64_t object, const std::string& what,
             absl::FunctionRef<void()> change);
  void TruncateStep();
  void PunchStep();
  void PreallocateStep();
  void SyncStep();
  // model_name_steps.cc
  void CreateStep();
  void RemoveStep();
  void RenameStep();
  void OpenStep();
  void ListStep();
  void StatsStep();
  // model_transaction.cc
  void TransactionStep();
  bool ChangeInTransaction(Transaction& transaction, std::vector<Change>& changes,
                           std::map<std::string, uint64_t>& names, std::map<uint64_t, Object>& handles);
  uint64_t TotalSize() const;
  void ApplyToModel(const std::vector<Change>& changes);
  ObjectData WithChanges(uint64_t object, const std::vector<Change>& changes) const;

  uint64_t Random(uint64_t below) { return below == 0 ? 0 : rng_() % below; }
  bool OneIn(uint64_t n) { return Random(n) == 0; }
  Durability PickDurability() { return OneIn(sync_one_in_) ? Durability::kSync : Durability::kBuffered; }
  std::string PickName();
  uint64_t PickObject();  // 0 where there is none
  Range PickRange(uint64_t object);
  Range PickReadRange(uint64_t object);

  const uint64_t seed_;
  std::mt19937_64 rng_;
  TestStoreOptions options_;
  uint64_t sync_one_in_ = 3;
  uint64_t span_bytes_ = 512 << 10;  // of an object that most writes go to
  uint64_t crash_one_in_ = 250;
  std::vector<int> weights_;
  std::vector<std::string> name_pool_;

  Model model_;
  std::unique_ptr<TestStore> store_;
  std::map<uint64_t, Object> handles_;  // of the objects there are
  std::vector<Object> stale_;           // of removed ones
  std::vector<std::shared_ptr<AsyncWrite>> async_;
  uint64_t base_ = 0;
  uint64_t next_stamp_ = 1;
  uint64_t space_free_at_first_ = 0;
  bool fault_planned_ = false;
  bool store_failed_ = false;
  std::set<uint64_t> uncertain_;  // objects of a change whose fate is unknown
  std::vector<std::byte> buffer_;

  std::deque<std::string> notes_;
  bool trace_ = false;
  bool failed_ = false;
  ModelRunCounts counts_;
};

}  // namespace untorn

#endif  // UNTORN_TESTS_UNTORN_MODEL_RUN_H_
