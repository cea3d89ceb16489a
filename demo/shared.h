// Memory that the demo's parent and child share: a mapped file, so that what the child stored there is exact
// even though it is killed at any moment.
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
  // Set by the parent before a round.
  std::array<uint64_t, kPiecesMax>
      base;        // the version of each piece; for kOverlap the last one and the one before
  uint64_t first;  // the first version of this round; those between were lost in crashes
  // Set by the child's thread that owns the track.
  std::atomic<uint64_t> submitted;  // before the call that writes it
  std::atomic<uint64_t> durable;    // after it was acknowledged as durable; 0: none in this round
};

static_assert(std::is_trivially_copyable_v<Stats>);

struct Shared {
  uint64_t file_bytes;
  std::atomic<bool> writing;  // the child's threads have started
  std::atomic<uint64_t> live_reads;
  std::atomic<uint64_t> live_torn;  // found by a reader beside the writers
  std::atomic<uint64_t> live_lost;
  // The child's statistics: snapshot number `snapshots` is in snapshot[snapshots % 2] and complete.
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
  static absl::StatusOr<SharedMemory> Create(const std::string& path);  // all zeros
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
