// Makes an image out of a base image and the bytes of a fuzz input.
//
// An input is one byte that says how the image is finished, then edits of kEditBytes. Most edits know what they
// change (a field of a superblock, an entry of a tree node or log record, bits of the free-space map) and leave it well
// formed; the others change bytes. Finishing puts right what would otherwise hide the edit from all but the first
// check: checksums, what a parent says of its child, totals.
#ifndef UNTORN_TESTS_FUZZ_IMAGE_EDITOR_H_
#define UNTORN_TESTS_FUZZ_IMAGE_EDITOR_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "extent/log_format.h"
#include "extent/tree_node.h"
#include "tests/extent/entry_strings.h"
#include "tests/fuzz/base_image.h"

namespace untorn {

inline constexpr size_t kEditBytes = 12;

class ImageEditor {
 public:
  explicit ImageEditor(const BaseImage& base) : base_(base), edited_(base.blocks.size()) {}

  void Edit(std::span<const uint8_t> edit);  // of kEditBytes

  enum class Finish {
    kNot,     // checksums are as the edits leave them
    kSeal,    // and every block, and what refers to it, has the right one
    kMirror,  // and both superblock slots hold what slot 0 does
    kTotals,  // and all totals, and the free-space map, are as the tree has it
  };
  std::shared_ptr<SimulatedDisk> FinishedDisk(Finish finish);

 private:
  // The parts of an edit; each kind takes what it needs.
  struct Parts {
    uint8_t kind, block, other, form;
    uint16_t at, from;
    uint32_t value;
  };
  using Entries = std::vector<EntryStrings>;

  const BlockBytes& Block(size_t index) const {
    return edited_[index] ? *edited_[index] : base_.contents[index];
  }
  BlockBytes& Change(size_t index);
  static bool InRing(size_t index);
  std::optional<size_t> IndexOf(BlockNumber block) const;
  // What the edit makes of a number.
  uint64_t NewValue(const Parts& edit, uint64_t old) const;
  template <typename Tag, typename Distance>
  StrongInt<Tag, Distance> NewValue(const Parts& edit, StrongInt<Tag, Distance> old) const {
    return StrongInt<Tag, Distance>(NewValue(edit, old.value()));
  }
  template <typename T>
  void ChangeField(const Parts& edit, void* at) const;

  void EditBytes(const Parts& edit, size_t index);
  void EditSuperblock(const Parts& edit, size_t index);
  void EditNode(const Parts& edit, size_t index);
  void EditNodeValue(const Parts& edit, int level, std::pair<std::string, std::string>& entry) const;
  void EditRecord(const Parts& edit, size_t index);
  void EditRecordEntry(const Parts& edit, LogEntry& entry) const;
  void EditTable(const Parts& edit, size_t index);
  void EditBitmap(const Parts& edit, size_t index);

  // Of a well-formed node; nothing of any other.
  uint32_t EntryBytesOf(size_t index) const;  // of a tree node
  std::optional<Entries> EntriesOf(size_t index) const;
  int LevelOf(size_t index) const;
  // Sorted, and without what does not fit.
  void PutNode(size_t index, int level, Entries entries);
  std::optional<LogRecord> RecordIn(size_t index) const;
  // As the record of its place in the chain.
  void PutRecord(size_t index, LogRecord record);

  void SealTree(BlockNumber block);
  void SealLog();
  void SealLanes();
  void SealMap();
  void SealSuperblocks(bool mirror);
  void CorrectTotals();

  const BaseImage& base_;
  std::vector<std::unique_ptr<BlockBytes>> edited_;
  std::set<size_t> visited_;  // by SealTree
};

}  // namespace untorn

#endif  // UNTORN_TESTS_FUZZ_IMAGE_EDITOR_H_
