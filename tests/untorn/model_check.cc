// The check of what a crash has left: see model.h.
#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/untorn/model.h"

namespace untorn {
namespace {

constexpr uint64_t kBlock = ObjectData::kBlock;

}  // namespace

class CrashChecker {
 public:
  CrashChecker(const Model& model, const Observed& observed) : model_(model), observed_(observed) {
    for (const auto& [name, object] : observed.objects) objects_[object.id] = &object;
  }

  std::string Run() {
    CheckUntouched();
    present_.assign(model_.ops_.size(), {});
    lowest_.assign(model_.cells_.size(), 0);
    value_.resize(model_.cells_.size());
    for (CellId c = 0; c < model_.cells_.size(); ++c) {
      value_[c] = ValueOf(model_.cells_[c]);
      lowest_[c] = -1;
      Raise(c, 0, {Why::kShown, c});
    }
    for (OpId op = 0; op < model_.ops_.size(); ++op) {
      if (model_.ops_[op].durable) Add(op, {Why::kDurable, 0});
    }
    do {
      Spread();
    } while (wrong_.empty() && CheckSizes());
    return wrong_;
  }

 private:
  using OpId = Model::OpId;
  using CellId = Model::CellId;

  // Why an op must be there.
  struct Why {
    enum Kind { kNotThere, kDurable, kShown, kNeeded, kBarrier, kSize } kind = kNotThere;
    uint64_t of = 0;  // cell, op, op, object
  };
  // What is seen of a cell.
  struct Value {
    bool seen = false;
    uint64_t value = 0;
  };

  void Wrong(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }

  std::string Explain(OpId op, int depth = 0) const {
    const Why& why = present_[op];
    std::string text = "op " + std::to_string(op) + " (" + model_.ops_[op].what + ")";
    if (depth > 8) return text + " ...";
    switch (why.kind) {
      case Why::kNotThere:
        return text;
      case Why::kDurable:
        return text + ", which was reported durable";
      case Why::kShown:
        return text + ", which " + model_.Describe(model_.cells_[why.of]) + " shows";
      case Why::kNeeded:
        return text + ", which goes with " + Explain(why.of, depth + 1);
      case Why::kBarrier:
        return text + ", which lies before a barrier before " + Explain(why.of, depth + 1);
      case Why::kSize:
        return text + ", which the size of object " + std::to_string(why.of) + " shows";
    }
    return text;
  }

  // What was not touched since the base must be unchanged.
  void CheckUntouched() {
    for (const auto& [name, object] : observed_.objects) {
      if (model_.name_cells_.contains(name)) continue;
      auto it = model_.names_.find(name);
      if (it == model_.names_.end() || it->second != object.id) {
        Wrong("object \"" + name.substr(0, 20) + "\" comes from nowhere");
      }
    }
    for (const auto& [name, id] : model_.names_) {
      if (!model_.name_cells_.contains(name) && !observed_.objects.contains(name)) {
        Wrong("object \"" + name.substr(0, 20) + "\" is lost");
      }
    }
    for (const auto& [id, object] : objects_) {
      auto it = model_.objects_.find(id);
      if (it == model_.objects_.end()) {
        if (object->data.size() > 0) Wrong("object " + std::to_string(id) + " was never written");
        continue;
      }
      const Model::ObjectState& state = it->second;
      auto check = [&](uint64_t block) {
        if (block * kBlock >= object->data.size() || state.cells.contains(block)) return;
        if (!object->complete && !object->seen.contains(block)) return;
        if (std::memcmp(&state.data.block(block), &object->data.block(block), kBlock) != 0) {
          Wrong("block " + std::to_string(block) + " of object " + std::to_string(id) +
                " has changed, but no op touched it");
        }
      };
      for (const auto& [block, data] : state.data.blocks()) check(block);
      for (const auto& [block, data] : object->data.blocks()) check(block);
    }
  }

  Value ValueOf(const Model::Cell& cell) const {
    if (cell.object == Model::kNoObject) {
      auto it = observed_.objects.find(cell.name);
      return {true, it == observed_.objects.end() ? Model::kNoObject : it->second.id};
    }
    auto it = objects_.find(cell.object);
    if (it == objects_.end() || cell.block * kBlock >= it->second->data.size()) return {};
    if (!it->second->complete && !it->second->seen.contains(cell.block)) return {};
    return {true, it->second->data.BlockHash(cell.block)};
  }

  bool Fits(const Model::Cell& cell, const Value& value, const Model::Version& version) const {
    if (!value.seen || value.value == version.value) return true;
    return cell.object == Model::kNoObject && version.value == Model::kAnyObject &&
           value.value != Model::kNoObject && !model_.knows(value.value);
  }

  // The cell holds at least the value at `position` of its history.
  void Raise(CellId c, int position, Why why) {
    if (lowest_[c] >= position || !wrong_.empty()) return;
    const Model::Cell& cell = model_.cells_[c];
    const int end = cell.history.size();
    int fits = position;
    while (fits < end && !Fits(cell, value_[c], cell.history[fits])) ++fits;
    if (fits == end) {
      if (position == 0) return Wrong(model_.Describe(cell) + " holds none of the values it ever had");
      std::string shows = "only what was there before";
      for (int i = 0; i < position; ++i) {
        if (Fits(cell, value_[c], cell.history[i]) && cell.history[i].op != Model::kNone) {
          shows = Explain(cell.history[i].op);
        }
      }
      return Wrong(model_.Describe(cell) + " must hold " + Explain(cell.history[position].op) +
                   ", or a later one, but shows " + shows);
    }
    const int from = lowest_[c] + 1;
    lowest_[c] = fits;
    for (int i = from; i <= fits; ++i) {
      const OpId op = cell.history[i].op;
      if (op != Model::kNone) Add(op, fits > position || why.kind == Why::kShown ? Why{Why::kShown, c} : why);
    }
  }

  void Add(OpId op, Why why) {
    if (present_[op].kind != Why::kNotThere) return;
    present_[op] = why;
    work_.push_back(op);
  }

  // Adds whatever must be there with what is.
  void Spread() {
    while (!work_.empty() && wrong_.empty()) {
      const OpId id = work_.back();
      work_.pop_back();
      const Model::Op& op = model_.ops_[id];
      for (OpId need : op.needs) Add(need, {Why::kNeeded, id});
      for (; barriers_done_ < model_.ops_.size() && model_.ops_[barriers_done_].era < op.era;
           ++barriers_done_) {
        Add(barriers_done_, {Why::kBarrier, id});
      }
      for (CellId c : op.cells) {
        const auto& history = model_.cells_[c].history;
        auto at = std::lower_bound(history.begin() + 1, history.end(), id,
                                   [](const Model::Version& version, OpId op) { return version.op < op; });
        Raise(c, at - history.begin(), {Why::kNeeded, id});
      }
    }
  }

  bool IsThere(OpId op) const { return present_[op].kind != Why::kNotThere; }

  // True if the sizes show ops that were not known to be there.
  bool CheckSizes() {
    for (const auto& [id, object] : objects_) {
      auto it = model_.objects_.find(id);
      if (it != model_.objects_.end()) CheckSize(id, it->second, object->data.size());
    }
    return wrong_.empty() && !work_.empty();
  }

  void CheckSize(uint64_t id, const Model::ObjectState& state, uint64_t size) {
    // Which Set can be the last one that is there (-1: none), and which op then shows in the size?
    int possible = 0, last_set = -1;
    std::vector<OpId> shown_by;
    for (int t = -1; t < static_cast<int>(state.sizes.size()); ++t) {
      if (t >= 0 && !state.sizes[t].set) continue;
      const uint64_t set_to = t < 0 ? state.base_size : state.sizes[t].bytes;
      bool fits = set_to <= size;
      std::vector<OpId> reach;
      for (size_t k = t + 1; k < state.sizes.size() && fits; ++k) {
        const Model::SizeChange& change = state.sizes[k];
        if (IsThere(change.op) && (change.set || change.bytes > size)) fits = false;
        if (!change.set && change.bytes == size) reach.push_back(change.op);
      }
      if (!fits || (set_to != size && reach.empty())) continue;
      ++possible;
      last_set = t;
      shown_by = set_to == size ? std::vector<OpId>() : reach;
    }
    if (possible == 0) {
      return Wrong("object " + std::to_string(id) + " has size " + std::to_string(size) +
                   ", which does not follow from the ops that are there" + ExplainSizes(state));
    }
    if (possible > 1) return;
    if (last_set >= 0) Add(state.sizes[last_set].op, {Why::kSize, id});
    if (shown_by.size() == 1) Add(shown_by[0], {Why::kSize, id});
  }

  std::string ExplainSizes(const Model::ObjectState& state) const {
    std::string text = ": base " + std::to_string(state.base_size);
    const size_t first = state.sizes.size() > 12 ? state.sizes.size() - 12 : 0;
    for (size_t k = first; k < state.sizes.size(); ++k) {
      const Model::SizeChange& change = state.sizes[k];
      text += std::string(change.set ? "; set to " : "; grown to ") + std::to_string(change.bytes) + " by " +
              Explain(change.op) + (IsThere(change.op) ? "" : " (perhaps not there)");
    }
    return text;
  }

  const Model& model_;
  const Observed& observed_;
  std::map<uint64_t, const Observed::Object*> objects_;
  std::vector<Why> present_;
  std::vector<int> lowest_;  // position in each cell's history that it has at least
  std::vector<Value> value_;
  std::vector<OpId> work_;
  OpId barriers_done_ = 0;  // ops before this one are there because of barriers
  std::string wrong_;
};

std::string Model::CheckCrash(const Observed& observed) const { return CrashChecker(*this, observed).Run(); }

}  // namespace untorn
