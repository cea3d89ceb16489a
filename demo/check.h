// Checks the demo's ranges, after a crash and while the writers are at work.
#ifndef UNTORN_DEMO_CHECK_H_
#define UNTORN_DEMO_CHECK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "demo/plan.h"
#include "demo/shared.h"
#include "untorn/store.h"

namespace untorn::demo {

struct Objects {
  Object file, second, appends;
  const Object& operator[](TargetObject target) const;
};

struct Verdict {
  // Ranges that are not whole: a mix of versions, a part of a transaction, or bytes that nobody wrote.
  uint64_t torn = 0;
  // Ranges that are whole, but older than a durable version or than the order allows, or of a version that
  // was never submitted.
  uint64_t lost = 0;
  std::vector<std::string> notes;

  void Torn(std::string note);
  void Lost(std::string note);
};

class Checker {
 public:
  Checker(const std::vector<Track>& tracks, const Shared& shared, Objects objects)
      : tracks_(tracks), shared_(shared), objects_(std::move(objects)) {}

  // Checks a track after a crash. Returns the versions that it found, as TrackState::base holds them. Fails
  // only if the store cannot be read.
  absl::StatusOr<std::array<uint64_t, kPiecesMax>> CheckTrack(size_t track, Verdict* verdict);
  // Checks one piece while writers are at work. Of a kOverlap it checks both windows.
  absl::Status CheckLive(size_t track, size_t piece, Verdict* verdict);

 private:
  struct Bounds {
    uint64_t durable, submitted;
  };
  struct Overlap {
    uint64_t last, before;
  };
  absl::Status Read(const Piece& piece, uint64_t length);
  // Returns nullopt for a piece of zeros.
  std::optional<uint64_t> PieceVersion(size_t track, size_t piece, const Bounds& bounds, Verdict* verdict);
  std::optional<Overlap> OverlapVersions(size_t track, const Bounds& bounds, Verdict* verdict);
  absl::StatusOr<uint64_t> AppendCount(size_t track, Verdict* verdict);
  bool IsAllowed(size_t track, size_t piece, uint64_t version, const Bounds& bounds) const;
  std::string Name(size_t track, size_t piece) const;

  const std::vector<Track>& tracks_;
  const Shared& shared_;
  const Objects objects_;
  std::vector<std::byte> content_;
};

// Hashes the bytes of an object or a file that no track writes.
using ReadAt = std::function<absl::Status(uint64_t offset, std::span<std::byte> out)>;
absl::StatusOr<uint64_t> HashRanges(const std::vector<std::pair<uint64_t, uint64_t>>& ranges,
                                    const ReadAt& read);

}  // namespace untorn::demo

#endif  // UNTORN_DEMO_CHECK_H_
