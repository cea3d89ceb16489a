// Writeback wires together all that is between acceptance and durability.
#ifndef UNTORN_WRITEBACK_WRITEBACK_H_
#define UNTORN_WRITEBACK_WRITEBACK_H_

#include "cow/cow_fork.h"
#include "device/io_pump.h"
#include "extent/volume.h"
#include "untorn/options.h"
#include "writeback/callbacks.h"
#include "writeback/checkpointer.h"
#include "writeback/committer.h"
#include "writeback/health.h"
#include "writeback/parts.h"
#include "writeback/readers.h"

namespace untorn {

// The pump and the volume must outlive this object.
class Writeback {
 public:
  Writeback(IoPump& pump, Volume& volume, const OpenOptions& options, const CommitterOptions& committing)
      : health_(options.read_only),
        progress_(pump),
        callbacks_(options.log),
        parts_{pump, volume, fork_, health_, progress_, callbacks_, stats_},
        checkpointer_(parts_),
        committer_(parts_, checkpointer_, committing),
        readers_(parts_, checkpointer_) {
    health_.OnFailure([this](const absl::Status& failure) {
      callbacks_.Log(LogLevel::kError, std::string(failure.message()));
    });
  }
  Writeback(const Writeback&) = delete;

  const Parts& parts() const { return parts_; }
  Checkpointer& checkpointer() { return checkpointer_; }
  Committer& committer() { return committer_; }
  Readers& readers() { return readers_; }
  const Readers& readers() const { return readers_; }

 private:
  CowFork fork_;
  Health health_;
  Progress progress_;
  Callbacks callbacks_;
  Stats stats_;
  const Parts parts_;
  Checkpointer checkpointer_;
  Committer committer_;
  Readers readers_;
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_WRITEBACK_H_
