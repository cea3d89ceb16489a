// One commit on its way to the device: the units it carries, their data, and their log record.
#ifndef UNTORN_WRITEBACK_COMMIT_H_
#define UNTORN_WRITEBACK_COMMIT_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/aligned_buffer.h"
#include "cow/unit.h"
#include "device/device.h"
#include "extent/volume.h"
#include "untorn/options.h"
#include "writeback/decision.h"
#include "writeback/engine.h"
#include "writeback/layout.h"

namespace untorn {

struct Engine::Commit {
  enum class State { kWriting, kWritten, kFlushing, kFlushed };
  struct Write {
    IoRequest request;
    Commit* commit = nullptr;
    // Those that this write overwrites in place.
    std::vector<Unit*> in_place_units;
  };

  explicit Commit(Engine* e) : engine(e) {}

  Engine* const engine;
  State state = State::kWriting;
  std::vector<std::shared_ptr<Unit>> units;
  bool has_record = false;
  LogAppend log;
  std::deque<Write> writes;  // log writes included
  size_t queued = 0;         // of these
  std::vector<AlignedBuffer> bounces;
  size_t outstanding = 1;  // writes, and one more until all are queued
  std::vector<Unit*> refused;
  absl::Status refusal;   // the last one
  bool in_place = false;  // some of it
  uint64_t epoch_min = 0;
  std::function<void()> durable;
};

// What is decided for a batch before it is frozen.
struct Engine::Plan {
  struct UnitPlan {
    std::shared_ptr<Unit> unit;
    PathReason reason = PathReason::kInPlace;
    Extent in_place;  // where, if kInPlace
    // Blocks that overwrite reserved, unwritten ones: those take the new data.
    std::vector<std::pair<ObjectId, Mapping>> reserved;
    void AddReserved(ObjectId id, const ObjectChange& change, const Mapping& m);
  };
  // What one entry of the record maps.
  struct CowPiece {
    size_t unit = 0;
    ObjectId object = ObjectId::kNone;
    BlockRange blocks;
    uint64_t physical = 0;
    bool reserved = false;
    std::vector<iovec> data;
    Hash128 hash;
  };
  void AddCow(CowPiece piece);

  std::vector<UnitPlan> units;
  std::vector<InPlaceRun> in_place;  // indices into units
  std::vector<CowPiece> cow;
  uint64_t log_blocks_bound = 0;
  bool settle_first = false;
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_COMMIT_H_
