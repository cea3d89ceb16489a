// Which ranges the demo's writers overwrite, and how.
#ifndef UNTORN_DEMO_PLAN_H_
#define UNTORN_DEMO_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace untorn::demo {

// A track is what one thread writes in rising versions. Ranges of different tracks do not overlap, but do
// share blocks. The kinds differ in what must hold after a crash, besides that every range is whole, not
// older than what was acknowledged as durable, and not newer than what was submitted:
enum class TrackKind {
  kSync,      // one range, overwritten durably
  kBuffered,  // one range, overwritten in the cache, with a sync now and then
  kGroup,  // ranges of both objects, written in transactions: all of one version, and never an abandoned one
  kBarrier,  // piece 0, a barrier, piece 1: piece 1 is never newer than piece 0
  kOverlap,  // two overlapping windows, written in turn: the result of a prefix of the writes
  kPunch,    // odd versions are punched holes and read as zeros
  kAppend,   // an object that grows by records: the version is their number
};

enum class TargetObject { kFile, kSecond, kAppends };

struct Piece {
  TargetObject object = TargetObject::kFile;
  uint64_t offset = 0;
  uint64_t length = 0;
  uint32_t range = 0;  // its number in stamps
};

struct Track {
  TrackKind kind;
  int thread;
  std::vector<Piece> pieces;
};

inline constexpr size_t kPiecesMax = 5;
inline constexpr size_t kTracksMax = 512;
inline constexpr uint64_t kFileBytesMin = 2 << 20;
inline constexpr uint64_t kAppendBytes = 3001;

// The threads of the child, by what their tracks are.
inline constexpr int kSyncThreads[] = {0, 1};
inline constexpr int kBufferedThreads[] = {2, 3};
inline constexpr int kGroupThread = 4;
inline constexpr int kOrderThread = 5;  // kBarrier and kOverlap
inline constexpr int kShapeThread = 6;  // kPunch and kAppend
inline constexpr int kWriterThreads = 7;

// Depends on the size alone, so that parent and child need not tell each other.
std::vector<Track> MakeTracks(uint64_t file_bytes);

// The bytes of the imported file that no track writes: [begin, end).
std::vector<std::pair<uint64_t, uint64_t>> UntouchedBytes(const std::vector<Track>& tracks,
                                                          uint64_t file_bytes);

// Versions whose transaction is abandoned.
inline bool IsAbandoned(uint64_t version) { return version % 7 == 3; }

}  // namespace untorn::demo

#endif  // UNTORN_DEMO_PLAN_H_
