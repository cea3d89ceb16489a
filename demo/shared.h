// Memory that the demo's parent and child share. It is a mapped file, so all that the child stored there is
// exact, at whatever moment the child is killed.
#ifndef UNTORN_DEMO_SHARED_H_
#define UNTORN_DEMO_SHARED_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include "absl/status/statusor.h"
#include "demo/plan.h"
#include "untorn/options.h"

namespace untorn::demo {

struct TrackState {
  // The parent sets these two before a round. `base` has the version of each piece, and for a kOverlap the
  // last version and the one before. `first` is the first version of this round; crashes lost the versions
  // between.
  std::array<uint64_t, kPiecesMax> base;
  uint64_t first;
  // The child's thread that owns the track sets `submitted` before the call that writes the version. It sets
  // `durable` after the version was acknowledged as durable; 0: no version of this round.
  std::atomic<uint64_t> submitted;
  std::atomic<uint64_t> durable;
};

static_assert(std::is_trivially_copyable_v<Stats>);

struct Shared {
  uint64_t file_bytes;
  std::atomic<bool> writing;  // the child's threads have started
  std::atomic<uint64_t> live_reads;
  std::atomic<uint64_t> live_torn;  // ranges that a reader beside the writers found torn
  std::atomic<uint64_t> live_lost;
  // The child's statistics. Snapshot number `snapshots` is complete, in snapshot[snapshots % 2].
  std::atomic<uint64_t> snapshots;
  std::array<Stats, 2> snapshot;
  std::atomic<bool> has_message;
  std::array<char, 1000> message;
  std::array<TrackState, kTracksMax> tracks;

  void SetMessage(const std::string& text);
  Stats LastSnapshot() const { return snapshots == 0 ? Stats{} : snapshot[snapshots % 2]; }
};

class SharedMemory {
 public:
  // The new memory is all zeros.
  static absl::StatusOr<SharedMemory> Create(const std::string& path);
  static absl::StatusOr<SharedMemory> Open(const std::string& path);
  Shared& operator*() const { return *shared_; }
  Shared* operator->() const { return shared_.get(); }

 private:
  static absl::StatusOr<SharedMemory> Map(const std::string& path, int flags);
  struct Unmap {
    void operator()(Shared* shared) const;
  };
  std::unique_ptr<Shared, Unmap> shared_;
};

}  // namespace untorn::demo

#endif  // UNTORN_DEMO_SHARED_H_
