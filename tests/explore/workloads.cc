#include "tests/explore/workloads.h"

#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "extent/superblock.h"
#include "store/on_device.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr uint64_t kStoreBytes = 8 << 20;
constexpr uint64_t kGrownBytes = 256 << 20;
constexpr AtomicLimits kHardware16K = {AtomicSource::kHardware, 4096, 16384, 0};
constexpr AtomicLimits kStated64K = {AtomicSource::kStated, 4096, 65536, 0};

void Must(const std::string& wrong) {
  if (wrong.empty()) return;
  std::fprintf(stderr, "a base to explore from cannot be made: %s\n", wrong.c_str());
  std::abort();
}
void Must(const absl::Status& status) { Must(status.ok() ? std::string() : status.ToString()); }

// The third overwrite of a range opens what lies near it, for overwrites in place.
constexpr char kOpenA[] =
    "sync-all; write a 0 16384 sync; write a 0 16384 sync; write a 0 16384 sync; write a 0 16384 sync";

// Makes a store by these steps, which end with a clean close, or with a kill once all is synced.
ExploreBase MakeBase(std::string name, const AtomicLimits& atomic, const std::vector<Step>& steps, bool close,
                     bool grows = false) {
  ExploreBase base;
  base.name = std::move(name);
  base.atomic = atomic;
  base.grows = grows;
  base.disk = grows ? std::make_shared<SimulatedDisk>(2 * kGrownBytes, 0)
                    : std::make_shared<SimulatedDisk>(kStoreBytes);
  SimulatedDeviceOptions options;
  options.atomic = atomic;
  {
    SimulatedDevice device(base.disk, options);
    Must(internal::CreateOnDevice(device, {.size_bytes = grows ? kGrownBytes : kStoreBytes}));
  }
  auto device = std::make_unique<SimulatedDevice>(base.disk, options);
  SimulatedDevice* simulated = device.get();
  auto store = internal::OpenOnDevice(std::move(device), {.cache_bytes = 4 << 20}, false);
  Must(store.status());
  {
    Driver driver(**store, *simulated, Model(), 1, true);
    for (const Step& step : Steps("create a; write a 0 65536; create b; write b 0 20000 sync; checkpoint")) {
      Must(driver.Call(step));
      Must(driver.Acknowledge());
    }
    for (const Step& step : steps) {
      Must(driver.Call(step));
      Must(driver.Acknowledge());
    }
    Must(driver.Finish());
    base.model = driver.model();
    base.next_stamp = driver.next_stamp();
  }
  if (close) Must((*store)->Close());
  std::mt19937_64 rng(1);
  base.disk->Kill(rng);
  return base;
}

// Blocks of the log's ring behind the last checkpoint, up to the ring's end.
BlockCount BlocksToRingEnd(const ExploreBase& base) {
  SimulatedDevice device(base.disk->Clone(), {});
  const SuperblockSlots slots = ReadSuperblocks(device);
  const Superblock& current = *slots.slots[slots.current];
  return current.geometry.log.count - current.checkpoint_position % current.geometry.log.count;
}

std::vector<Step> Repeated(std::string_view text, int times) {
  const std::vector<Step> once = Steps(text);
  std::vector<Step> steps;
  for (int i = 0; i < times; ++i) steps.insert(steps.end(), once.begin(), once.end());
  return steps;
}

std::vector<ExploreBase> MakeBases() {
  // Every open of a store allocates and frees some MiB: the process keeps them.
  mallopt(M_MMAP_THRESHOLD, 64 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  std::vector<ExploreBase> bases;
  bases.push_back(MakeBase("clean", kHardware16K, Steps(absl::StrCat(kOpenA, "; checkpoint")), false));
  bases.push_back(MakeBase("tail", kStated64K,
                           Steps("write a 0 16384 sync; write b 4000 9000 sync; write a 4096 4096 sync"),
                           false));
  bases.push_back(MakeBase("wrap", {}, Repeated("rename a z sync; rename z a sync", 127), true));
  if (const BlockCount left = BlocksToRingEnd(bases.back()); left != 1)
    Must(absl::StrCat("wrap: ", left.value(), " blocks are left in the log's ring, not one"));
  std::vector<Step> fill = Steps("create fill");
  uint64_t end = 0;
  // In few records: every recovery reads all that the log ever held.
  for (uint64_t length = 4 << 20; length >= 4096; length /= 2) {
    for (int i = 0; i < 4; ++i, end += length) {
      fill.push_back({.kind = Step::kPreallocate, .object = "fill", .offset = end, .length = length});
    }
  }
  bases.push_back(MakeBase("full", kHardware16K, fill, true));
  bases.back().may_refuse = true;
  const uint64_t filled = bases.back().model.data(bases.back().model.names().at("fill")).size();
  const std::string tight =
      absl::StrCat("truncate fill ", filled - (1 << 20), " sync; checkpoint; ", kOpenA, "; checkpoint");
  for (const Step& step : Steps(tight)) fill.push_back(step);
  bases.push_back(MakeBase("tight", kHardware16K, fill, false));
  bases.back().may_refuse = true;
  bases.push_back(
      MakeBase("growing", {}, Steps("create fill; preallocate fill 0 120000000 sync"), true, /*grows=*/true));
  ExploreBase lanes = bases.front();
  lanes.name = "lanes";
  // Two go to the ring, which names the lanes.
  lanes.first_steps = Repeated("write b 0 4096 sync; write b 4096 4096 sync", 2);
  bases.push_back(std::move(lanes));
  return bases;
}

}  // namespace

const std::vector<ExploreBase>& ExploreBases() {
  static const std::vector<ExploreBase> bases = MakeBases();
  return bases;
}

// Bases of single scenarios.
static const std::vector<ExploreBase>& SpecialBases() {
  static const std::vector<ExploreBase> bases = [] {
    // So many mappings that the tree has several leaves, and hardly any space, so that what is freed is soon used again.
    std::string text = "create fill; preallocate fill 0 2228224 sync; create many";
    for (int i = 0; i < 900; ++i) absl::StrAppend(&text, "; write many ", i * 2 * kBlockBytes, " 4096");
    std::vector<ExploreBase> made;
    made.push_back(MakeBase("leaves", {}, Steps(text + "; checkpoint"), true));
    return made;
  }();
  return bases;
}

const ExploreBase* FindExploreBase(const std::string& name) {
  for (const auto* bases : {&ExploreBases(), &SpecialBases()}) {
    for (const ExploreBase& base : *bases) {
      if (base.name == name) return &base;
    }
  }
  return nullptr;
}

const ExploreBase& ExploreBaseNamed(const std::string& name) {
  const ExploreBase* const base = FindExploreBase(name);
  if (base == nullptr) Must("there is none named " + name);
  return *base;
}

const std::vector<Step>& Alphabet() {
  static const std::vector<Step> alphabet = Steps(
      "write a 0 16384 sync; write a 4096 8192 sync; write a 5000 9000; write b 100 5000; plain b 2000 7000;"
      "async a 32768 16384 sync; tx { write a 0 4096; write b 4096 4096; truncate b 9000 } sync;"
      "tx { create c; write c 0 5000; rename b d; remove a }; barrier; truncate a 6000 sync; truncate b "
      "30000;"
      "punch a 3000 9000; preallocate b 20480 16384; rename a e sync; remove b; create c; checkpoint; "
      "sync-all;"
      "sync-range a 0 8192");
  return alphabet;
}

uint64_t SequencesOf(int length) {
  uint64_t n = 1;
  for (int i = 0; i < length; ++i) n *= Alphabet().size();
  return n;
}

std::vector<Step> SequenceOf(uint64_t index, int length) {
  std::vector<Step> steps;
  for (int i = 0; i < length; ++i) {
    steps.push_back(Alphabet()[index % Alphabet().size()]);
    index /= Alphabet().size();
  }
  return steps;
}

// Commits whose entries are long, and whose data lets them go to lanes: 7 of them fill a block of a lane record.
static const std::string& LongLaneRecords() {
  static const std::string steps = [] {
    std::string text = "write b 0 4096 sync; write b 4096 4096 sync";
    for (char c = 'p'; c < 'p' + 9; ++c) {
      absl::StrAppend(&text, "; tx { create ", std::string(200, c), "; write b 0 32768 } sync");
    }
    return text + "; write a 0 4096 sync; create c sync; checkpoint; write a 0 4096 sync";
  }();
  return steps;
}

static const std::string& UntilTheStoreIsFull() {
  static const std::string steps = [] {
    std::string text = "write a 100 65000 sync; reader; write a 300 65000 sync; checkpoint; reader-again";
    // The first one that is refused takes the space of the lease.
    for (int i = 0; i < 3; ++i) absl::StrAppend(&text, "; write c ", i << 16, " 65536 sync");
    for (int i = 0; i < 6; ++i)
      text += "; write b 100 9000 sync; write b 30000 9000 sync; checkpoint; reader-again";
    return "create c; " + text + "; reader; remove c sync; write b 0 9000 sync; reader-again";
  }();
  return steps;
}

static const std::string& WhileACheckpointIsMade() {
  static const std::string steps = [] {
    std::string text = "write many 1638400 4096 sync; hold-checkpoint";
    for (int i = 0; i < 2; ++i) absl::StrAppend(&text, "; write a 4096 24576 sync");
    for (int i = 0; i < 7; ++i) absl::StrAppend(&text, "; write b 0 131072 sync");
    return text + "; release; write b 0 20000 sync; checkpoint; write a 0 9000 sync";
  }();
  return steps;
}

const std::vector<Scenario>& Scenarios() {
  static const std::vector<Scenario> scenarios = {
      {"two commits in flight", "clean",
       "async a 5000 4096 sync; async b 0 3000 sync; async a 40000 9000 sync; sync-all"},
      {"a write in place and a record in flight", "clean",
       "async a 0 16384 sync; async b 0 3000 sync; write a 32768 16384 sync; write b 5000 100 sync"},
      {"a durable write that completes while others are flushed", "clean",
       "async a 0 16384 sync; write b 0 3000 sync; write b 40000 3000 sync; async a 16384 16384 sync;"
       "create c sync; write b 60000 3000 sync"},
      {"freed extents come back", "tight",
       "write a 100 9000 sync; write b 100 9000 sync; write a 300 9000 sync; write b 300 9000 sync;"
       "write a 500 9000 sync; write b 500 9000 sync; checkpoint; write a 700 9000 sync; write b 700 9000 "
       "sync"},
      {"freed extents come back, two in flight", "tight",
       "async a 100 9000 sync; async b 100 9000 sync; sync-all; async a 300 9000 sync; async b 300 9000 sync;"
       "async a 500 9000 sync; async b 500 9000 sync; sync-all; async a 700 9000 sync; write b 700 9000 "
       "sync"},
      {"rewritten again and again until in place", "clean",
       "create c; write c 0 16384 sync; write c 0 16384 sync; write c 0 16384 sync; write c 0 16384 sync;"
       "write a 0 16384 sync; write c 0 16384 sync"},
      {"checkpoints with a write in place under way", "clean",
       "write a 0 16384 sync; checkpoint; hold-write; async a 0 16384 sync; checkpoint; checkpoint; write b "
       "0 100 sync;"
       "release; sync-all; checkpoint; checkpoint; write a 0 16384 sync"},
      {"an extent that is mapped and freed by one record", "clean",
       "write a 100 9000; barrier; write a 200 9000; sync-all; write b 100 9000 sync; write a 100 9000 sync"},
      {"a read that outlives its blocks", "tight",
       "read a 40000 4096; hold-read a 16384 16384; write a 16384 16384 as 500 sync; write b 100 9000 sync; "
       "checkpoint; write b 0 16384 sync; write b 300 16000 sync; checkpoint; write b 0 16384 sync;"
       "write b 500 16000 sync; write b 0 16384 sync; write b 700 16000 sync; create c;"
       "write c 0 65536 sync; write c 65536 16384 sync; write c 81920 16384 sync; write c 98304 16384 sync;"
       "write c 114688 16384 sync; write c 131072 16384 sync; release"},
      {"a write in place that outlives what came after it", "tight",
       "hold-write; async a 16384 16384 sync; async a 16484 16000; write b 0 4096 sync; write b 0 16384 sync;"
       "write b 100 16000 sync; checkpoint; write b 300 16000 sync; write b 100 16000 sync; checkpoint;"
       "write b 300 16000 sync; write b 100 16000 sync; release; sync-all; write b 0 16384 sync"},
      {"a record that is there before the one before it", "clean",
       "read a 40000 4096; hold-data; async a 100 9000 sync; async b 100 9000 sync; read a 40000 4096;"
       "read a 44000 4096; read a 48000 4096; read a 52000 4096; read a 40000 4096; read a 44000 4096;"
       "read a 48000 4096; read a 52000 4096; write a 60000 10; write a 60000 20; release; sync-all"},
      {"a dropped transaction whose bytes are written again", "clean",
       "tx { write a 100 9000 as 1000000; write b 100 9000 as 1000001 } sync",
       "write a 100 9000 as 1000000 sync"},
      {"a transaction over what could go in place", "clean",
       "tx { write a 0 4096; write a 16384 4096 } sync; tx { write a 0 16384; write b 0 4096 } sync;"
       "tx { write a 0 16384; write a 32768 16384; write b 0 16384 } sync"},
      {"barriers between in place and copy-on-write", "clean",
       "write a 0 16384; barrier; write b 100 5000; barrier; write a 16384 16384; barrier; write b 8192 4096;"
       "sync-range b 8192 4096; write a 0 4096; barrier; write a 32768 16384 sync"},
      {"checkpoints between records", "wrap",
       "write a 100 5000 sync; write b 100 5000 sync; checkpoint; write a 300 5000 sync; write b 300 5000;"
       "sync-all; checkpoint; create c; write c 0 9000 sync"},
      {"space that removing gives back", "full",
       "write a 100 5000 sync; remove fill sync; write a 300 5000 sync; create c; write c 0 65536 sync;"
       "checkpoint; write c 100 65000 sync"},
      {"the log goes round with a checkpoint under way", "wrap",
       "write a 0 4096 sync; write a 100 9000; write b 0 100 sync; tx { write a 0 30000; write b 0 20000 } "
       "sync;"
       "write b 200 100 sync; checkpoint; write b 300 100 sync; write a 0 4096 sync; write b 400 9000 sync"},
      {"commits in lanes, and a fold beside one that is in flight", "clean",
       "write b 0 4096 sync; write b 4096 4096 sync; write b 0 4096 sync; write b 8192 9000 sync;"
       "async b 100 4096 sync; async a 40000 3000 sync; sync-all; write b 0 4096 sync; write b 4096 4096 "
       "sync"},
      {"lanes, a fold that is one write with a record, and checkpoints", "tail",
       "write b 0 4096 sync; write b 4096 4096 sync; create c sync; write c 0 4096 sync; checkpoint;"
       "write b 0 4096 sync; write b 4096 4096 sync; checkpoint; write c 0 8192 sync; checkpoint; create d "
       "sync"},
      {"a store that grows into another group, and is resized", "growing",
       "write a 100 9000 sync; preallocate fill 120000000 9000000; write fill 128980000 16384 sync; write b "
       "0 4096 sync;"
       "resize 500000000; write fill 128990000 9000 sync; checkpoint; resize 200000000; write b 4096 9000 "
       "sync"},
      {"a store that is trimmed, with data and nodes in the way", "growing",
       "create c sync; write c 0 9000 sync; write b 0 4096 sync; checkpoint; write b 4096 4096 sync; remove "
       "fill "
       "sync; trim; write a 0 4096 sync; write c 4096 9000 sync; resize 20000000; write b 4096 9000 sync"},
      {"lane records of several blocks, and their fold", "growing", LongLaneRecords().c_str()},
      {"overwrites find no space below, and then they do", "lanes",
       "write b 0 4096 sync; full; write b 0 8192 sync; write b 4096 4096 sync; remove a; room; write a 0 "
       "4096 sync;"
       "write a 0 16384; write b 0 9000; full; sync-all; room; checkpoint; write b 0 4096 sync; full; tx { "
       "write a 0 "
       "4096; write b 4096 4096 } sync; room; write b 8192 4096 sync"},
      {"writes in place find no space below, and then they do", "clean",
       "write a 0 16384 sync; write a 0 16384 sync; write a 0 16384 sync; write a 0 16384 sync; full; write "
       "a 0 16384 "
       "sync; sync-object a; room; write a 0 16384 sync; full; write a 0 16384 sync; room; checkpoint; write "
       "a 0 16384 "
       "sync"},
      // The leaf of `many` is not in memory, so the checkpoint reads it. What is mapped and displaced meanwhile is where the
      // nodes of the checkpoint go, because allocation has gone round.
      {"blocks that are written and displaced while a checkpoint is made", "leaves",
       WhileACheckpointIsMade().c_str()},
      {"another process reads blocks that are displaced", "clean",
       "write a 0 16384 sync; reader; write a 0 16384 sync; write b 0 65536 sync; checkpoint; reader-again;"
       "write a 0 65536 sync; checkpoint; write b 0 65536 sync; checkpoint; reader-again; write c 0 65536 "
       "sync;"
       "checkpoint; write a 0 65536 sync; checkpoint; reader-again; reader; write a 0 65536 sync; checkpoint;"
       "reader-again; remove b sync; checkpoint; reader-again"},
      {"another process reads blocks that go in place", "clean",
       "write a 0 16384 sync; write a 0 16384 sync; write a 0 16384 sync; write a 0 16384 sync; reader;"
       "write a 0 16384 sync; reader-again; write a 0 16384 sync; write a 0 16384 sync; write a 0 16384 sync;"
       "reader-again; hold-write; async a 0 16384 sync; reader; sync-all; reader-again; reader; write a 0 "
       "16384 "
       "sync; reader-again"},
      {"another process reads a state that has to go", "tight", UntilTheStoreIsFull().c_str()},
      {"another process reads a store that is trimmed", "growing",
       "write b 0 4096 sync; reader; remove fill sync; write a 0 4096 sync; trim; reader-again; reader; "
       "write b 0 "
       "9000 sync; resize 20000000; reader-again"},
      // What it zeroes lies beyond the size that is durable.
      {"a transaction that punches a hole behind a pending write", "clean",
       "create c sync; write c 47238 10093; tx { write b 57344 4096; punch c 12353 50 } sync"},
  };
  return scenarios;
}

std::vector<Step> RandomSteps(uint64_t seed, size_t count) {
  std::mt19937_64 rng(seed);
  const auto below = [&](uint64_t n) { return rng() % n; };
  const std::vector<std::string> names = {"a", "b", "c", "d"};
  const auto name = [&] { return names[below(names.size())]; };
  const auto range = [&](Step& step) {
    const uint64_t kind = below(4);
    if (kind < 2) {
      step.length = uint64_t{4096} << below(3);
      step.offset = below(65536 / step.length) * step.length;
    } else if (kind == 2) {
      step.offset = below(60000);
      step.length = 1 + below(20000);
    } else {
      step.offset = below(60000);
      step.length = 1 + below(300);
    }
  };
  const auto one = [&](bool nested) {
    Step step;
    step.object = name();
    step.sync = !nested && below(3) == 0;
    const uint64_t kind = below(nested ? 60 : 100);
    if (kind < 36) {
      step.kind = kind < 30 || nested ? Step::kWrite : Step::kPlainWrite;
      range(step);
    } else if (kind < 40) {
      step.kind = Step::kTruncate;
      step.length = below(70000);
    } else if (kind < 46) {
      step.kind = Step::kPunch;
      range(step);
    } else if (kind < 52) {
      step.kind = Step::kCreate;
    } else if (kind < 55) {
      step.kind = Step::kRemove;
    } else if (kind < 60) {
      step.kind = Step::kRename;
      step.to = name();
    } else if (kind < 70) {
      step.kind = Step::kAsyncWrite;
      range(step);
    } else if (kind < 74) {
      step.kind = Step::kPreallocate;
      range(step);
      step.sync = false;
    } else {
      constexpr Step::Kind kKinds[] = {Step::kBarrier,    Step::kBarrier,   Step::kCheckpoint,
                                       Step::kSyncObject, Step::kSyncRange, Step::kSync};
      step.kind = kKinds[below(6)];
      step.sync = false;
      if (step.kind == Step::kSyncRange) range(step);
    }
    return step;
  };
  std::vector<Step> steps;
  while (steps.size() < count) {
    if (const uint64_t kind = below(24); kind < 2) {
      steps.push_back({.kind = kind == 0 ? Step::kReader : Step::kReaderAgain});
      continue;
    }
    if (below(7) != 0) {
      steps.push_back(one(false));
      continue;
    }
    Step transaction{.kind = Step::kTransaction, .sync = below(2) == 0};
    for (uint64_t n = 1 + below(4); n > 0; --n) transaction.changes.push_back(one(true));
    steps.push_back(std::move(transaction));
  }
  return steps;
}

}  // namespace untorn
