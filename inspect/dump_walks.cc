#include "inspect/dump_walks.h"

#include "inspect/describe.h"
#include "inspect/printable.h"

namespace untorn::internal {

void NodeDump::Node(const TreeNode& node) {
  if (out_ == nullptr) return;
  Json json = {{"block", node.pointer().block}, {"level", node.level()}, {"count", node.count()}};
  if (node.count() > 0) json["first_key"] = DescribeKey(node.key(0));
  if (node.level() > 0) {
    Json& children = json["children"] = Json::array();
    for (NodeReader at = node.reader(); at.Next();) children.push_back(at.entry().child().block);
  }
  out_->Element(json);
}

void NodeDump::Damaged(BlockPointer pointer, const absl::Status& why, std::string_view first,
                       std::optional<std::string_view> limit) {
  ++damaged_;
  if (out_ == nullptr) return;
  out_->Element(
      {{"block", pointer.block}, {"error", ErrorJson(why)}, {"covers", DescribeRange(first, limit)}});
}

void NodeDump::Entry(const NodeEntry& entry) {
  if (entry.has_mapping_key()) return;
  if (auto inode = ParseInode(entry.other_key, entry.value)) inodes_[inode->id] = *std::move(inode);
}

void ObjectDump::Entry(const NodeEntry& entry) {
  if (entry.has_mapping_key()) Tree(&entry.mapping);
}

void ObjectDump::Finish() {
  Tree(nullptr);
  while (next_ != inodes_.end()) Begin(next_->first);
  End();
}

void ObjectDump::Tree(const MappingEntry* entry) {
  final_.Tree(entry, [this](ObjectId id, const Mapping& m, bool from_log) {
    if (only_ && id != *only_) return;
    // Objects without mappings come in between, by their number.
    while (current_ != id) {
      Begin(next_ != inodes_.end() && next_->first < id ? next_->first : id);
    }
    Json json = {{"logical", m.logical.start},
                 {"physical", m.physical},
                 {"count", m.logical.count},
                 {"state", StateName(m.state)},
                 {"from", from_log ? "log" : "checkpoint"}};
    if (from_log) json["lsn"] = m.lsn;
    if (m.opened > 0) json["opened_in_epoch"] = m.opened;
    out_.Element(json);
  });
}

void ObjectDump::Begin(ObjectId id) {
  End();
  const bool known = next_ != inodes_.end() && next_->first == id;
  current_ = id;
  if (known && only_ && id != *only_) {
    ++next_;
    return;
  }
  out_.Separate();
  out_.Begin('{');
  if (known) {
    Json name = Json::object();
    PutName(name, next_->second.name);
    for (const auto& [key, value] : name.items()) out_.Member(key.c_str(), value);
  }
  out_.Member("id", Value(id));
  if (known) {
    out_.Member("size_bytes", next_->second.size_bytes);
    if (next_->second.preallocated) out_.Member("preallocated", true);
    ++next_;
  } else {
    out_.Member("error", "mappings of an object that has no readable record");
  }
  out_.Key("mappings");
  out_.Begin('[');
  open_ = true;
}

void ObjectDump::End() {
  if (!open_) return;
  out_.End(']');
  out_.End('}');
  open_ = false;
}

void FreeMapDump::Table(const FreeMapNode& node, BlockCount used) {
  Json json = NodeJson(node);
  json["used_blocks"] = used;
  out_.Element(json);
}

void FreeMapDump::Bitmap(const FreeMapNode& node, const BlockSet::Words&, BlockCount used) {
  Json json = NodeJson(node);
  json["used_blocks"] = used;
  out_.Element(json);
}

void FreeMapDump::Null(const FreeMapNode& node) {
  Json json = NodeJson(node);
  json["note"] = "not on disk: nothing in use but the fixed areas";
  out_.Element(json);
}

void FreeMapDump::Damaged(const FreeMapNode& node, const absl::Status& why) {
  Json json = NodeJson(node);
  json["error"] = ErrorJson(why);
  out_.Element(json);
}

void FreeMapDump::WrongCount(const FreeMapNode& node, BlockCount said, BlockCount used) {
  out_.Element({{"level", node.level},
                {"index", node.index},
                {"error", absl::StrCat("its table says that ", Word(said), " blocks are in use, it says ",
                                       Word(used))}});
}

Json FreeMapDump::NodeJson(const FreeMapNode& node) {
  Json json = {{"level", node.level}, {"index", node.index}};
  if (node.pointer) json["block"] = node.pointer.block;
  json["first_group"] = node.first_group;
  json["groups"] = node.last_group - node.first_group;
  return json;
}

}  // namespace untorn::internal
