// Log entries say in the log what the change sets of a commit change. This file alone makes log entries.
#ifndef UNTORN_WRITEBACK_LOG_ENTRIES_H_
#define UNTORN_WRITEBACK_LOG_ENTRIES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "cow/change_set.h"
#include "extent/log_format.h"
#include "writeback/commit.h"
#include "writeback/plan.h"

namespace untorn {

// An entry with the longest name has this size.
inline constexpr uint64_t kNamedEntryBytesMax = 24 + 256;

// Returns the most bytes that the entries of the change set can take in the log.
uint64_t LogBytesMax(const ChangeSet& set);
// Returns the most blocks that the chain of one commit with so many bytes of entries can take in the log.
BlockCount LogBlocksMax(uint64_t entry_bytes);

struct BuiltEntries {
  std::vector<LogEntry> entries;
  // Gives for each piece the index of its entry. The checksums of the entry are not filled in yet. Pieces of one
  // entry follow one another.
  absl::InlinedVector<size_t, 1> of_piece;
};
// Builds the entries of all change sets of the plan that do not go in place, barrier epoch by barrier epoch.
// In one barrier epoch the changes of metadata come before those of data. The sizes and names of the objects
// count as sent from now on. `memory` must be empty; the function puts the entries there.
BuiltEntries BuildEntries(const Plan& plan, std::span<const CowPiece> pieces,
                          std::vector<LogEntry> memory = {});

// Fills in the checksums of the pieces' data. Needs no lock, because the data is frozen.
void HashPieces(std::span<const CowPiece> pieces, std::span<const size_t> of_piece, uint64_t data_key,
                std::vector<LogEntry>* entries);

// Computes the checksums that the plan's overwrites in place leave behind. Needs no lock.
std::vector<Commit::Overwrite> HashOverwrites(const Plan& plan, uint64_t data_key);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_LOG_ENTRIES_H_
