// The entries that a commit's change sets have in the log. Log entries are made here and nowhere else.
#ifndef UNTORN_WRITEBACK_LOG_ENTRIES_H_
#define UNTORN_WRITEBACK_LOG_ENTRIES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "cow/change_set.h"
#include "extent/log_format.h"
#include "writeback/plan.h"

namespace untorn {

// An entry with the longest name.
inline constexpr uint64_t kNamedEntryBytesMax = 24 + 256;

// Bytes that the change set's entries take in the log at most.
uint64_t LogBytesMax(const ChangeSet& set);
// Blocks that one transaction with so many bytes of entries takes in the log at most.
BlockCount LogBlocksMax(uint64_t entry_bytes);

struct BuiltEntries {
  std::vector<LogEntry> entries;
  // By piece: its entry, whose hash is still to be filled in. Pieces of one entry follow one another.
  absl::InlinedVector<size_t, 1> of_piece;
};
// The entries of all change sets of the plan that do not go in place: barrier epoch by barrier epoch, the changes of
// metadata before those of data. The objects' sizes and names count as recorded from now on.
// `memory`: empty; the entries are put there.
BuiltEntries BuildEntries(const Plan& plan, std::span<const CowPiece> pieces,
                          std::vector<LogEntry> memory = {});

// Fills in the hashes of the pieces' data. Called without the store's lock: the data is frozen.
void HashPieces(std::span<const CowPiece> pieces, std::span<const size_t> of_piece,
                std::vector<LogEntry>* entries);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_LOG_ENTRIES_H_
