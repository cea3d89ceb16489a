"""Puts the switches of canary.h into copies of the product's sources.

usage: break_sources.py OUTPUT_DIRECTORY SOURCE...

Each switch replaces a piece of text that must be in its source exactly once: when the product changes there,
the build of the canaries fails until this list follows.
"""

import pathlib
import sys

# canary, source, text, text with the switch
SWITCHES = [
    ("kNoDataHash", "extent/log_reader.cc",
     "if (HashData({&piece, 1}) != e.hash) return false;",
     "if (!Broken(Canary::kNoDataHash) && HashData({&piece, 1}) != e.hash) return false;"),
    ("kReuseUnsettled", "extent/volume.cc",
     "if (p.mapped_by > settled_lsn_ ||",
     "if ((p.mapped_by > settled_lsn_ && !Broken(Canary::kReuseUnsettled)) ||"),
    ("kReuseUnderRead", "extent/volume.cc",
     "ReadOutstanding(p.extent)) return false;",
     "(ReadOutstanding(p.extent) && !Broken(Canary::kReuseUnderRead))) return false;"),
    # With either of these two, what is freed is the first to be used again.
    ("kReuseUnsettled", "extent/volume.cc",
     "    if (absl::Status s = free_.MarkFree(p.extent); !s.ok()) status = s;\n    return true;\n",
     "    if (Broken(Canary::kReuseUnsettled) || Broken(Canary::kReuseUnderRead)) {\n"
     "      std::lock_guard guard(freed_mu);\n"
     "      freed[this].push_back(p.extent);\n"
     "    }\n"
     "    if (absl::Status s = free_.MarkFree(p.extent); !s.ok()) status = s;\n"
     "    return true;\n"),
    ("kReuseUnsettled", "extent/volume.cc",
     "absl::Status Volume::Recover(const LogTail& tail) {\n",
     "namespace {\n"
     "std::mutex freed_mu;\n"
     "std::map<const Volume*, std::vector<Extent>> freed;\n"
     "}  // namespace\n\n"
     "absl::Status Volume::Recover(const LogTail& tail) {\n"
     "  {\n"
     "    std::lock_guard guard(freed_mu);\n"
     "    freed.erase(this);\n"
     "  }\n"),
    ("kReuseUnsettled", "extent/volume.cc",
     "                                        uint64_t alignment, uint64_t enough) {\n",
     "                                        uint64_t alignment, uint64_t enough) {\n"
     "  if (Broken(Canary::kReuseUnsettled) || Broken(Canary::kReuseUnderRead)) {\n"
     "    std::lock_guard guard(freed_mu);\n"
     "    std::vector<Extent>& first = freed[this];\n"
     "    for (size_t i = first.size(); i-- > 0;) {\n"
     "      const Extent extent{first[i].start, want};\n"
     "      if (first[i].count < want) continue;\n"
     "      first.erase(first.begin() + i);\n"
     "      // Not if the last checkpoint refers to it, or it is in use again.\n"
     "      if (free_.MarkBusy(extent).ok()) return extent;\n"
     "    }\n"
     "  }\n"),
    # A unit that goes over one that is being written does not wait for it.
    ("kReuseUnderWrite", "cow/cow_fork.cc",
     "bool CowFork::MustWait(const Unit& unit) const {\n",
     "bool CowFork::MustWait(const Unit& unit) const {\n"
     "  if (Broken(Canary::kReuseUnderWrite)) return false;\n"),
    ("kOverwriteUnsettled", "writeback/decision.cc",
     "if (m.lsn > in.settled) return",
     "if (m.lsn > in.settled && !Broken(Canary::kOverwriteUnsettled)) return"),
    ("kClaimPastGap", "writeback/commit_completion.cc",
     "(commit.has_record && record_before)",
     "(commit.has_record && record_before && !Broken(Canary::kClaimPastGap))"),
    ("kClaimPastGap", "extent/volume.cc",
     "UNTORN_CHECK(append.first == durable_lsn_ + 1,",
     "UNTORN_CHECK(Broken(Canary::kClaimPastGap) || append.first == durable_lsn_ + 1,"),
    ("kClaimPastGap", "extent/volume.cc",
     "durable_lsn_ = append.last;\n"
     "  durable_position_ = append.end_position;\n"
     "  durable_checksum_ = append.end_checksum;\n",
     "if (append.last > durable_lsn_) {\n"
     "    durable_lsn_ = append.last;\n"
     "    durable_position_ = append.end_position;\n"
     "    durable_checksum_ = append.end_checksum;\n"
     "  }\n"),
    ("kPathByRange", "untorn/transaction_commit.cc",
     "    for (auto& [number, block] : t.blocks) {\n"
     "      unit = fork.UnitForRange(object, {number, 1}, unit);\n",
     "    for (auto& [number, block] : t.blocks) {\n"
     "      const bool goes_on = number > 0 && t.blocks.contains(number - 1);\n"
     "      if (Broken(Canary::kPathByRange) && !goes_on && unit->data_blocks > 0) {\n"
     "        pieces.push_back(unit);\n"
     "        unit = fork.NewUnit();\n"
     "      }\n"
     "      unit = fork.UnitForRange(object, {number, 1}, unit);\n"),
    ("kPathByRange", "untorn/transaction_commit.cc",
     "  std::shared_ptr<Unit> unit = fork.NewUnit();\n  unit->transaction = true;\n",
     "  std::vector<std::shared_ptr<Unit>> pieces;\n"
     "  std::shared_ptr<Unit> unit = fork.NewUnit();\n  unit->transaction = !Broken(Canary::kPathByRange);\n"),
    ("kPathByRange", "untorn/transaction_commit.cc",
     "  return store_->Finish(lock, {unit}, durability);\n",
     "  pieces.push_back(unit);\n  return store_->Finish(lock, pieces, durability);\n"),
    # A flush goes out with the writes; what completes while it is under way counts as flushed by it.
    ("kFlushTooEarly", "writeback/commit_completion.cc",
     "void Engine::Written(Commit& commit) {\n  commit.state = Commit::State::kWritten;\n",
     "void Engine::Written(Commit& commit) {\n"
     "  if (Broken(Canary::kFlushTooEarly) && commit.refused.empty()) {\n"
     "    commit.state = flushing_ ? Commit::State::kFlushing : Commit::State::kFlushed;\n"
     "    if (!flushing_) Advance();\n"
     "    return;\n"
     "  }\n"
     "  commit.state = Commit::State::kWritten;\n"),
    ("kFlushTooEarly", "writeback/commit_completion.cc",
     "    if (commit->state != Commit::State::kWritten) continue;\n"
     "    commit->state = Commit::State::kFlushing;\n",
     "    if (Broken(Canary::kFlushTooEarly)) {\n"
     "      any = true;\n"
     "      continue;\n"
     "    }\n"
     "    if (commit->state != Commit::State::kWritten) continue;\n"
     "    commit->state = Commit::State::kFlushing;\n"),
    ("kFlushTooEarly", "writeback/commit_completion.cc",
     "  Advance();\n  StartFlush();\n",
     "  Advance();\n  if (!Broken(Canary::kFlushTooEarly)) StartFlush();\n"),
    ("kFlushTooEarly", "writeback/commit.cc",
     "  commits_.push_back(std::move(commit));\n  ++progress_;\n",
     "  commits_.push_back(std::move(commit));\n"
     "  if (Broken(Canary::kFlushTooEarly)) StartFlush();\n"
     "  ++progress_;\n"),
    ("kOpenWithoutFlush", "extent/volume.cc",
     "  if (!read_only) {\n    if (absl::Status s = FlushBlocking(device)",
     "  if (!read_only && !Broken(Canary::kOpenWithoutFlush)) {\n    if (absl::Status s = FlushBlocking(device)"),
    ("kOpenWithoutEpoch", "extent/volume.cc",
     "  ++next.epoch;\n",
     "  if (!Broken(Canary::kOpenWithoutEpoch)) ++next.epoch;\n"),
    ("kSuperblocksTogether", "extent/checkpoint.cc",
     "  AlignedBuffer block(kBlockBytes);\n  for (int slot : {1 - slot_, slot_}) {\n",
     "  if (Broken(Canary::kSuperblocksTogether)) {\n"
     "    AlignedBuffer blocks[2] = {AlignedBuffer(kBlockBytes), AlignedBuffer(kBlockBytes)};\n"
     "    IoRequest both[2], flush;\n"
     "    for (int slot : {0, 1}) {\n"
     "      EncodeSuperblock(next, slot, blocks[slot].span());\n"
     "      both[slot].op = IoOp::kWrite;\n"
     "      both[slot].offset_bytes = kSuperblockSlots[slot] * kBlockBytes;\n"
     "      both[slot].iov = {{blocks[slot].data(), kBlockBytes}};\n"
     "    }\n"
     "    if (absl::Status s = pump_.RunAll(lock, {&both[0], &both[1]}); !s.ok()) return s;\n"
     "    flush.op = IoOp::kFlush;\n"
     "    if (absl::Status s = pump_.Run(lock, &flush); !s.ok()) return s;\n"
     "    superblock_ = next;\n"
     "    settled_lsn_ = std::max(settled_lsn_, next.durable_lsn);\n"
     "    return absl::OkStatus();\n"
     "  }\n"
     "  AlignedBuffer block(kBlockBytes);\n  for (int slot : {1 - slot_, slot_}) {\n"),
]

# Includes that a switch needs besides.
INCLUDES = {
    "extent/volume.cc": "#include <map>\n#include <mutex>\n",
    "untorn/transaction_commit.cc": "#include <vector>\n",
}


def main():
    output = pathlib.Path(sys.argv[1])
    sources = sys.argv[2:]
    unused = {source for _, source, _, _ in SWITCHES} - set(sources)
    if unused:
        sys.exit("not among the sources: " + ", ".join(sorted(unused)))
    for source in sources:
        text = pathlib.Path(source).read_text()
        for canary, where, old, new in SWITCHES:
            if where != source:
                continue
            if text.count(old) != 1:
                sys.exit(f"{source}: the text of canary {canary} is there {text.count(old)} times:\n{old}")
            text = text.replace(old, new)
        target = output / source
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text('#include "tests/canaries/canary.h"\n' + INCLUDES.get(source, "") + text)


main()
