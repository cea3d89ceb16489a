// What a store promises, as a model in memory for one thread of calls: what reads must return now, and what a
// crash may leave.
//
// A change to the store is an *op*: there whole after a crash, or not at all (promises 1 and 6). An op gives
// new values to *cells*: the blocks of an object, and names. Each cell keeps the history of its values since
// the *base*, the last state known to be durable in every part. A crash leaves a set of ops such that
//  - every cell holds the value of a prefix of its history: overlapping ops keep their order (promise 4);
//  - with an op are there the creation of its objects and, if it renames, removes or resizes an object, every
//    earlier op on that object (promise 3), and, if it came after a barrier, every op before that (promise 5);
//  - every op known to be durable is there (promise 3).
// Sizes are no cells: the size follows from the last Set that is there and the writes after it that are
// there.
//
// Every one of these conditions says "with this goes that", and so do the cells that recovery shows: the
// smallest set of ops that satisfies them all is found by adding what must be there until nothing is missing,
// and if that contradicts what is seen, no other set can do better. So the check is exact for cells and
// names; contents that are equal by chance (zeros) are all considered. For sizes it errs on the side of
// accepting.
#ifndef UNTORN_TESTS_UNTORN_MODEL_H_
#define UNTORN_TESTS_UNTORN_MODEL_H_

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/untorn/object_data.h"

namespace untorn {

// What is found in a store after a crash.
struct Observed {
  struct Object {
    uint64_t id = 0;
    ObjectData data;
    bool complete = true;  // false: only the blocks in `seen` were looked at
    std::set<uint64_t> seen;
  };
  std::map<std::string, Object> objects;  // by name
};

class Model {
 public:
  using OpId = uint32_t;
  static constexpr uint64_t kNoObject = 0;
  // The object of a creation that was cut short: its id was never told.
  static constexpr uint64_t kAnyObject = ~uint64_t{0};

  // The state as calls must see it now.
  const std::map<std::string, uint64_t>& names() const { return names_; }
  const ObjectData& data(uint64_t object) const { return objects_.at(object).data; }
  const std::string& name(uint64_t object) const { return objects_.at(object).name; }
  bool exists(uint64_t object) const;
  bool knows(uint64_t object) const { return objects_.contains(object); }

  // Everything between Begin and End is one op.
  void Begin(std::string what);
  void Create(const std::string& name, uint64_t object);
  void Remove(const std::string& name);
  void Rename(const std::string& from, const std::string& to);
  void Write(uint64_t object, uint64_t offset, std::span<const std::byte> data);
  void Truncate(uint64_t object, uint64_t size);
  void Punch(uint64_t object, uint64_t offset, uint64_t length);
  void Grow(uint64_t object, uint64_t size);  // preallocation
  OpId End();

  void Barrier() { ++era_; }
  void SetDurable(OpId op) { ops_[op].durable = true; }
  void SetObjectDurable(uint64_t object);
  void SetRangeDurable(uint64_t object, uint64_t offset, uint64_t length);
  // The present state is the new base.
  void SetAllDurable();
  size_t ops_since_base() const { return ops_.size(); }

  // Blocks of the object that hold or ever held something since the base.
  std::set<uint64_t> BlocksOf(uint64_t object) const;

  // "" if a crash now may leave this, otherwise what is wrong and why.
  std::string CheckCrash(const Observed& observed) const;
  // Goes on from what was found.
  void Adopt(Observed observed);

 private:
  friend class CrashChecker;
  static constexpr OpId kNone = ~OpId{0};
  using CellId = uint32_t;

  struct Version {
    OpId op;         // kNone for the base
    uint64_t value;  // hash of a block's content, or a name's object
  };
  struct Cell {
    uint64_t object = kNoObject;  // of a block
    uint64_t block = 0;
    std::string name;  // of a name
    std::vector<Version> history;
    OpId touched_by = kNone;
  };
  struct Op {
    std::string what;
    bool durable = false;
    uint32_t era = 0;           // barriers before it
    std::vector<CellId> cells;  // whose history it is in
    std::vector<OpId> needs;
  };
  struct SizeChange {
    OpId op;
    bool set;  // to `bytes`; otherwise grows to it
    uint64_t bytes;
  };
  struct ObjectState {
    std::string name;  // "" when removed
    ObjectData data;
    // Since the base.
    uint64_t base_size = 0;
    OpId created = kNone;
    std::vector<OpId> ops;
    size_t whole_from = 0;  // in `ops`: the last one that brings all before it
    std::vector<SizeChange> sizes;
    std::map<uint64_t, CellId> cells;  // by block
  };

  ObjectState& Use(uint64_t object);  // by the present op
  void UseWhole(uint64_t object);     // the present op brings every earlier one of the object
  void TouchBlock(uint64_t object, ObjectState& state, uint64_t block);
  void TouchRange(uint64_t object, ObjectState& state, uint64_t first, uint64_t end);
  void TouchName(const std::string& name);
  void Touch(CellId cell);
  void ChangeSize(ObjectState& state, bool set, uint64_t bytes);
  std::string Describe(const Cell& cell) const;

  std::map<std::string, uint64_t> names_;
  std::map<uint64_t, ObjectState> objects_;  // removed ones too, until the next base
  std::vector<Op> ops_;
  std::vector<Cell> cells_;
  std::map<std::string, CellId> name_cells_;
  uint32_t era_ = 0;
  bool in_op_ = false;
};

}  // namespace untorn

#endif  // UNTORN_TESTS_UNTORN_MODEL_H_
