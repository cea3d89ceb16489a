#include "tests/untorn/model_run.h"

#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/untorn/store_test_peer.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

enum StepKind {
  kWrite,
  kRead,
  kTruncate,
  kPunch,
  kPreallocate,
  kSync,
  kBarrier,
  kCheckpoint,
  kCreate,
  kRemove,
  kRename,
  kOpen,
  kList,
  kTransaction,
  kStats,
  kStepKinds,
};

}  // namespace

std::string ModelRunCounts::ToString() const {
  return absl::StrCat(ops, " operations, ", transactions, " transactions, ", crashes, " power cuts and ",
                      kills, " kills (", cut_inside_a_call, " inside a call, ", cut_while_opening,
                      " while opening), ", device_failures, " device failures, ", reopened, " reopened, ",
                      refused_for_space, " refused for space, ", refused_by_policy, " by policy, ",
                      dropped_records, " records dropped, ", checkpoints, " checkpoints, ",
                      change_sets_in_place, " units in place, ", change_sets_by_cow, " by copy-on-write");
}

void ModelRunCounts::Add(const ModelRunCounts& other) {
  ops += other.ops;
  crashes += other.crashes;
  kills += other.kills;
  cut_inside_a_call += other.cut_inside_a_call;
  cut_while_opening += other.cut_while_opening;
  device_failures += other.device_failures;
  reopened += other.reopened;
  refused_for_space += other.refused_for_space;
  refused_by_policy += other.refused_by_policy;
  transactions += other.transactions;
  dropped_records += other.dropped_records;
  checkpoints += other.checkpoints;
  change_sets_in_place += other.change_sets_in_place;
  change_sets_by_cow += other.change_sets_by_cow;
}

ModelRun::ModelRun(uint64_t seed) : seed_(seed), rng_(seed * 0x9e3779b97f4a7c15u + 1) {
  trace_ = FromEnvironment("UNTORN_MODEL_TRACE", 0) != 0;
  Configure();
  store_ = std::make_unique<TestStore>(options_);
  if (store_->is_open()) {
    space_free_at_first_ = (*store_)->stats().space_free;
  } else {
    failed_ = true;
  }
}

// Disk, policy and mix of operations: all by the seed.
void ModelRun::Configure() {
  options_.seed = rng_();
  constexpr uint64_t kSizes[] = {16 << 20, 32 << 20, 64 << 20};
  options_.size_bytes = kSizes[Random(3)];
  constexpr uint32_t kUnits[] = {0, 4 << 10, 16 << 10, 64 << 10};
  const uint32_t unit = kUnits[seed_ % 4];
  if (unit > 0) options_.atomic = HardwareUnit(4096, unit, OneIn(4) ? unit : 0);
  if (OneIn(3)) options_.atomic.source = unit > 0 ? AtomicSource::kStated : AtomicSource::kNone;
  options_.refuse_atomic_per_mille = OneIn(8) ? 1000 : OneIn(3) ? 300 : 0;
  options_.needs_preparing = OneIn(3);
  options_.shuffle = !OneIn(5);
  options_.open.policy = OneIn(6)   ? WritePolicy::kAlwaysCow
                         : OneIn(5) ? WritePolicy::kHardwareOnly
                                    : WritePolicy::kAutomatic;

  weights_.assign(kStepKinds, 0);
  for (auto [kind, weight] : {std::pair(kWrite, 500),
                              {kRead, 250},
                              {kTruncate, 15},
                              {kPunch, 20},
                              {kPreallocate, 15},
                              {kSync, 30},
                              {kBarrier, 25},
                              {kCheckpoint, 2},
                              {kCreate, 20},
                              {kRemove, 8},
                              {kRename, 12},
                              {kOpen, 15},
                              {kList, 4},
                              {kTransaction, 40},
                              {kStats, 5}}) {
    weights_[kind] = weight;
  }
  std::string profile = "mixed";
  switch (seed_ / 4 % 5) {
    case 1:
      profile = "pages";
      sync_one_in_ = 2;
      span_bytes_ = 128 << 10;
      weights_[kRemove] = weights_[kTruncate] = weights_[kPunch] = 2;
      break;
    case 2:
      profile = "metadata";
      for (StepKind kind : {kTruncate, kPunch, kPreallocate, kCreate, kRemove, kRename}) weights_[kind] *= 5;
      weights_[kBarrier] *= 2;
      break;
    case 3:
      profile = "full";
      options_.size_bytes = 10 << 20;
      span_bytes_ = 3 << 20;
      sync_one_in_ = 10;
      weights_[kRemove] = 3;
      weights_[kPreallocate] *= 3;
      break;
    case 4:
      profile = "transactions";
      weights_[kTransaction] *= 6;
      sync_one_in_ = 6;
      break;
  }
  crash_one_in_ = OneIn(3) ? 60 : 300;
  for (const char* name : {"a", "b", "c", "pages", "journal", "\xff\x01 odd", "x/y", "Z"})
    name_pool_.push_back(name);
  name_pool_.push_back(std::string(255, 'n'));
  name_pool_.push_back(std::string(254, 'n'));
  std::cout << "seed " << seed_ << ": " << profile << ", " << (options_.size_bytes >> 20) << " MiB, unit "
            << unit << " (" << AtomicSourceName(options_.atomic.source) << ", refused "
            << options_.refuse_atomic_per_mille / 10 << " %), policy "
            << static_cast<int>(options_.open.policy) << std::endl;
}

void ModelRun::Note(std::string what) {
  if (trace_) std::cout << counts_.ops << ": " << what << std::endl;
  notes_.push_back(absl::StrCat(counts_.ops, ": ", what));
  if (notes_.size() > 60) notes_.pop_front();
}

void ModelRun::Fail(const std::string& what) {
  if (failed_) return;
  failed_ = true;
  std::string last;
  for (const std::string& note : notes_) absl::StrAppend(&last, "\n  ", note);
  ADD_FAILURE() << "seed " << seed_ << ", operation " << counts_.ops << ": " << what << "\nlast:" << last;
}

void ModelRun::Run(uint64_t ops) {
  for (uint64_t i = 0; i < ops && !failed_; ++i) {
    ++counts_.ops;
    Step();
    if (!failed_) AfterStep();
  }
  if (!failed_) CheckSpaceComesBack();
  if (!failed_) Reopen();
  handles_.clear();
  stale_.clear();
  store_.reset();
}

void ModelRun::Step() {
  if (!fault_planned_ && OneIn(crash_one_in_)) {
    switch (Random(8)) {
      case 0:
        return Reopen();
      case 1:
        return Recover(false);
      case 2:
      case 3:
        return Recover(true);
      case 4: {
        const IoOp op = OneIn(3)                               ? IoOp::kFlush
                        : options_.atomic.usable() && OneIn(2) ? IoOp::kAtomicWrite
                                                               : IoOp::kWrite;
        const uint64_t n = 1 + Random(20);
        Note(absl::StrCat("the device will fail operation ", n, " of kind ", static_cast<int>(op)));
        store_->device().simulated().FailAfter(op, n, absl::InternalError("device failed"));
        fault_planned_ = true;
        return;
      }
      default: {
        const uint64_t n = 1 + Random(OneIn(2) ? 20 : 400);
        Note(absl::StrCat("the power will fail at event ", n));
        store_->device().CutAfter(n);
        fault_planned_ = true;
        return;
      }
    }
  }
  int total = 0;
  for (int weight : weights_) total += weight;
  int at = Random(total), kind = 0;
  while (at >= weights_[kind]) at -= weights_[kind++];
  Store& store = **store_;
  switch (kind) {
    case kWrite:
      return WriteStep();
    case kRead:
      return ReadStep();
    case kTruncate:
      return TruncateStep();
    case kPunch:
      return PunchStep();
    case kPreallocate:
      return PreallocateStep();
    case kSync:
      return SyncStep();
    case kBarrier:
      Note("barrier");
      Judge(store.Barrier(), kMustWork, "Barrier");
      return model_.Barrier();
    case kCheckpoint:
      Note("checkpoint");
      Judge(store.Checkpoint(), kMustWork, "Checkpoint");
      return;
    case kCreate:
      return CreateStep();
    case kRemove:
      return RemoveStep();
    case kRename:
      return RenameStep();
    case kOpen:
      return OpenStep();
    case kList:
      return ListStep();
    case kTransaction:
      return TransactionStep();
    case kStats:
      return StatsStep();
  }
}

ModelRun::Fate ModelRun::Judge(const absl::Status& status, int refusals, std::string_view call) {
  if (status.ok()) return Fate::kDone;
  if (store_->device().cut()) return Fate::kUnknown;
  const auto code = status.code();
  if (fault_planned_ &&
      (code == absl::StatusCode::kFailedPrecondition || code == absl::StatusCode::kInternal)) {
    // Either the planned failure, or a refusal by policy; a store that has failed refuses everything.
    const bool failed = !(refusals & kPolicy) || !(*store_)->Barrier().ok();
    if (failed) {
      Note(absl::StrCat("the store has failed: ", std::string(status.message())));
      store_failed_ = true;
      return Fate::kUnknown;
    }
    model_.Barrier();
  }
  if (code == absl::StatusCode::kResourceExhausted && (refusals & kSpace)) {
    Note("refused for space");
    ++counts_.refused_for_space;
    return Fate::kRefused;
  }
  if (code == absl::StatusCode::kFailedPrecondition && (refusals & kPolicy)) {
    ++counts_.refused_by_policy;
    return Fate::kRefused;
  }
  Fail(absl::StrCat(std::string(call), ": ", status.ToString()));
  return Fate::kRefused;
}

void ModelRun::NewBase() {
  model_.SetAllDurable();
  ++base_;
}

// What completed asynchronous writes say about durability.
void ModelRun::SettleAsync() {
  std::erase_if(async_, [this](const std::shared_ptr<AsyncWrite>& write) {
    if (write->completions == 0) return false;
    if (write->status.ok()) {
      if (write->brings_durability && write->base == base_) {
        for (Model::OpId op : write->ops) model_.SetDurable(op);
      }
    } else if (!store_->device().cut() && !fault_planned_) {
      Fail("an accepted write failed later: " + write->status.ToString());  // promise 7
    }
    return true;
  });
}

void ModelRun::AfterStep() {
  if (store_->is_open()) internal::StoreTestPeer::CheckInvariants(**store_);
  SettleAsync();
  if (store_->device().cut()) {
    ++counts_.cut_inside_a_call;
    Recover(!OneIn(4));
  } else if (store_failed_) {
    CheckFailedStore();
    Recover(OneIn(2));
  } else if (model_.ops_since_base() > 4000) {
    Note("sync");
    if (Judge((*store_)->Sync(), kMustWork, "Sync") == Fate::kDone) NewBase();
  }
}

}  // namespace untorn
