#include "tests/untorn/model.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace untorn {
namespace {

constexpr uint64_t kBlock = ObjectData::kBlock;

uint64_t BlocksFor(uint64_t bytes) { return (bytes + kBlock - 1) / kBlock; }

}  // namespace

bool Model::exists(uint64_t object) const {
  auto it = objects_.find(object);
  return it != objects_.end() && !it->second.name.empty();
}

void Model::Begin(std::string what) {
  UNTORN_CHECK(!in_op_, "an operation begins inside another");
  in_op_ = true;
  ops_.push_back({.what = std::move(what), .era = era_});
}

Model::OpId Model::End() {
  UNTORN_CHECK(in_op_, "an operation ends that has not begun");
  in_op_ = false;
  const OpId id = ops_.size() - 1;
  for (CellId c : ops_[id].cells) {
    Cell& cell = cells_[c];
    uint64_t value = kNoObject;
    if (cell.object != kNoObject) {
      value = objects_.at(cell.object).data.BlockHash(cell.block);
    } else if (auto it = names_.find(cell.name); it != names_.end()) {
      value = it->second;
    }
    cell.history.push_back({id, value});
  }
  return id;
}

void Model::Touch(CellId cell) {
  const OpId op = ops_.size() - 1;
  if (cells_[cell].touched_by == op) return;
  cells_[cell].touched_by = op;
  ops_.back().cells.push_back(cell);
}

void Model::TouchBlock(uint64_t object, ObjectState& state, uint64_t block) {
  auto [it, is_new] = state.cells.try_emplace(block, cells_.size());
  if (is_new) {
    cells_.push_back({.object = object, .block = block, .history = {{kNone, state.data.BlockHash(block)}}});
  }
  Touch(it->second);
}

// Blocks that hold nothing, and did not since the base, need no history: nothing happens to them.
void Model::TouchRange(uint64_t object, ObjectState& state, uint64_t first, uint64_t end) {
  std::vector<uint64_t> blocks;
  const auto& data = state.data.blocks();
  for (auto it = data.lower_bound(first); it != data.end() && it->first < end; ++it)
    blocks.push_back(it->first);
  for (auto it = state.cells.lower_bound(first); it != state.cells.end() && it->first < end; ++it) {
    blocks.push_back(it->first);
  }
  for (uint64_t block : blocks) TouchBlock(object, state, block);
}

void Model::TouchName(const std::string& name) {
  auto [it, is_new] = name_cells_.try_emplace(name, cells_.size());
  if (is_new) {
    auto now = names_.find(name);
    cells_.push_back({.name = name, .history = {{kNone, now == names_.end() ? kNoObject : now->second}}});
  }
  Touch(it->second);
}

Model::ObjectState& Model::Use(uint64_t object) {
  ObjectState& state = objects_.at(object);
  const OpId op = ops_.size() - 1;
  if (state.ops.empty() || state.ops.back() != op) {
    state.ops.push_back(op);
    if (state.created != kNone && state.created != op) ops_.back().needs.push_back(state.created);
  }
  return state;
}

void Model::UseWhole(uint64_t object) {
  ObjectState& state = Use(object);
  auto& needs = ops_.back().needs;
  needs.insert(needs.end(), state.ops.begin() + state.whole_from, state.ops.end() - 1);
  state.whole_from = state.ops.size() - 1;
}

void Model::ChangeSize(ObjectState& state, bool set, uint64_t bytes) {
  const OpId op = ops_.size() - 1;
  if (state.sizes.empty() || state.sizes.back().op != op) {
    state.sizes.push_back({op, set, bytes});
    return;
  }
  SizeChange& last = state.sizes.back();
  if (set) {
    last = {op, true, bytes};
  } else {
    last.bytes = std::max(last.bytes, bytes);
  }
}

void Model::Create(const std::string& name, uint64_t object) {
  TouchName(name);
  names_[name] = object;
  if (object == kAnyObject) return;
  ObjectState& state = objects_[object];
  state.name = name;
  state.created = ops_.size() - 1;
  Use(object);
}

void Model::Remove(const std::string& name) {
  const uint64_t object = names_.at(name);
  TouchName(name);
  names_.erase(name);
  UseWhole(object);
  objects_.at(object).name.clear();
}

void Model::Rename(const std::string& from, const std::string& to) {
  const uint64_t object = names_.at(from);
  TouchName(from);
  TouchName(to);
  names_.erase(from);
  names_[to] = object;
  UseWhole(object);
  objects_.at(object).name = to;
}

void Model::Write(uint64_t object, uint64_t offset, std::span<const std::byte> data) {
  ObjectState& state = Use(object);
  const uint64_t end = offset + data.size();
  for (uint64_t b = offset / kBlock; b < BlocksFor(end); ++b) TouchBlock(object, state, b);
  state.data.Write(offset, data);
  ChangeSize(state, false, end);
}

void Model::Truncate(uint64_t object, uint64_t size) {
  UseWhole(object);
  ObjectState& state = objects_.at(object);
  TouchRange(object, state, size / kBlock, ~uint64_t{0});
  state.data.Truncate(size);
  ChangeSize(state, true, size);
}

void Model::Punch(uint64_t object, uint64_t offset, uint64_t length) {
  if (offset >= data(object).size()) return;  // changes nothing, so brings nothing
  ObjectState& state = Use(object);
  TouchRange(object, state, offset / kBlock, BlocksFor(std::min(offset + length, state.data.size())));
  state.data.Punch(offset, length);
}

void Model::Grow(uint64_t object, uint64_t size) {
  ObjectState& state = Use(object);
  state.data.Grow(size);
  ChangeSize(state, false, size);
}

void Model::SetObjectDurable(uint64_t object) {
  for (OpId op : objects_.at(object).ops) SetDurable(op);
}

void Model::SetRangeDurable(uint64_t object, uint64_t offset, uint64_t length) {
  ObjectState& state = objects_.at(object);
  auto end = state.cells.lower_bound(BlocksFor(offset + length));
  for (auto it = state.cells.lower_bound(offset / kBlock); it != end; ++it) {
    const OpId op = cells_[it->second].history.back().op;
    if (op != kNone) SetDurable(op);
  }
}

void Model::SetAllDurable() {
  std::erase_if(objects_, [](const auto& entry) { return entry.second.name.empty(); });
  for (auto& [id, state] : objects_) {
    state.base_size = state.data.size();
    state.created = kNone;
    state.ops.clear();
    state.whole_from = 0;
    state.sizes.clear();
    state.cells.clear();
  }
  ops_.clear();
  cells_.clear();
  name_cells_.clear();
  era_ = 0;
}

std::set<uint64_t> Model::BlocksOf(uint64_t object) const {
  std::set<uint64_t> blocks;
  auto it = objects_.find(object);
  if (it == objects_.end()) return blocks;
  for (const auto& [block, data] : it->second.data.blocks()) blocks.insert(block);
  for (const auto& [block, cell] : it->second.cells) blocks.insert(block);
  return blocks;
}

void Model::Adopt(Observed observed) {
  names_.clear();
  objects_.clear();
  for (auto& [name, object] : observed.objects) {
    names_[name] = object.id;
    ObjectState& state = objects_[object.id];
    state.name = name;
    state.data = std::move(object.data);
  }
  SetAllDurable();
}

std::string Model::Describe(const Cell& cell) const {
  if (cell.object == kNoObject) return "name \"" + cell.name.substr(0, 20) + "\"";
  return "block " + std::to_string(cell.block) + " of object " + std::to_string(cell.object);
}

}  // namespace untorn
