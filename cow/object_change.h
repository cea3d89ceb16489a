// An ObjectChange is what a change set changes of one object. ObjectChanges holds all the changes of a set.
//
// Threading: the store's mutex guards the changes.
#ifndef UNTORN_COW_OBJECT_CHANGE_H_
#define UNTORN_COW_OBJECT_CHANGE_H_

#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "cow/object_state.h"
#include "cow/range_set.h"
#include "extent/checksums.h"
#include "extent/types.h"

namespace untorn {

// A placed extent has its place on the device already. The extent is preallocated space, or data that a large
// transaction wrote before its commit.
struct PlacedExtent {
  BlockRange blocks;
  BlockNumber physical;
  MappingState state = MappingState::kWritten;
  DataChecksums data;  // if it is written
};
// Adds an unwritten extent to `placed`.
inline void AddUnwritten(BlockRange blocks, BlockNumber physical, std::vector<PlacedExtent>* placed) {
  PlacedExtent& extent = placed->emplace_back();
  extent.blocks = blocks;
  extent.physical = physical;
  extent.state = MappingState::kUnwritten;
}

// The log entries of a change come in this order: holes, placed extents, inode, data.
struct ObjectChange {
  std::shared_ptr<ObjectState> object;
  size_t pending_at = 0;  // while the change set is pending: its index in ObjectState::pending
  RangeSet holes;
  std::vector<PlacedExtent> placed;
  RangeSet data;                                // blocks with new content
  std::optional<uint64_t> set_size_bytes;       // after a truncate: the exact size, with later growth
  uint64_t grow_to_bytes = 0;                   // without a truncate: the size becomes at least this
  std::optional<uint64_t> recorded_size_bytes;  // the size in the log entry of the change, once built
  std::optional<std::string> name;              // create, rename
  bool removed = false;

  // True if the change has more than data and growth. Metadata orders the change against all other changes of
  // the object.
  bool metadata() const { return !holes.empty() || !placed.empty() || set_size_bytes || name || removed; }
};

// Holds the changes of a change set, by object. Most change sets change one object, so one change needs no
// memory of its own.
//
// Invariant: `first_` has the smallest id. An insertion invalidates references to all other changes.
class ObjectChanges {
  using Rest = absl::btree_map<ObjectId, ObjectChange>;

 public:
  using value_type = Rest::value_type;

  template <typename Owner, typename RestIterator, typename Value>
  class IteratorOf {
   public:
    IteratorOf(Owner* owner, bool at_first, RestIterator rest)
        : owner_(owner), at_first_(at_first), rest_(rest) {}
    Value& operator*() const { return at_first_ ? *owner_->first_ : *rest_; }
    Value* operator->() const { return &**this; }
    IteratorOf& operator++() {
      if (!std::exchange(at_first_, false)) ++rest_;
      return *this;
    }
    bool operator==(const IteratorOf& other) const {
      return at_first_ == other.at_first_ && rest_ == other.rest_;
    }

   private:
    Owner* owner_;
    bool at_first_;
    RestIterator rest_;
  };
  using iterator = IteratorOf<ObjectChanges, Rest::iterator, value_type>;
  using const_iterator = IteratorOf<const ObjectChanges, Rest::const_iterator, const value_type>;

  iterator begin() { return {this, first_.has_value(), rest_.begin()}; }
  iterator end() { return {this, false, rest_.end()}; }
  const_iterator begin() const { return {this, first_.has_value(), rest_.begin()}; }
  const_iterator end() const { return {this, false, rest_.end()}; }
  size_t size() const { return (first_ ? 1 : 0) + rest_.size(); }

  iterator find(ObjectId id) { return {this, IsFirst(id), IsFirst(id) ? rest_.begin() : rest_.find(id)}; }
  const_iterator find(ObjectId id) const {
    return {this, IsFirst(id), IsFirst(id) ? rest_.begin() : rest_.find(id)};
  }
  bool contains(ObjectId id) const { return IsFirst(id) || rest_.contains(id); }
  // Makes an empty change if there is none.
  ObjectChange& operator[](ObjectId id) {
    if (IsFirst(id)) return first_->second;
    if (first_ && first_->first < id) return rest_[id];
    if (first_) rest_.emplace(first_->first, std::move(first_->second));
    return first_.emplace(id, ObjectChange()).second;
  }
  void clear() {
    first_.reset();
    rest_.clear();
  }

 private:
  bool IsFirst(ObjectId id) const { return first_ && first_->first == id; }

  std::optional<value_type> first_;
  Rest rest_;
};

}  // namespace untorn

#endif  // UNTORN_COW_OBJECT_CHANGE_H_
