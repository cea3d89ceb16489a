// The write requests of a commit, made of frozen buffers and their places.
#ifndef UNTORN_WRITEBACK_WRITE_BUILDER_H_
#define UNTORN_WRITEBACK_WRITE_BUILDER_H_

#include <span>

#include "writeback/commit.h"
#include "writeback/plan.h"

namespace untorn {

// Makes commit->data_writes: the pieces, as few and as long as their places allow, and the plan's writes in place. Called
// without the store's lock: all that it reads is frozen.
void BuildWrites(const Plan& plan, std::span<const CowPiece> pieces, Commit* commit);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_WRITE_BUILDER_H_
