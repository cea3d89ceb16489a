// The ranges that the demo's writers overwrite, and the ways in which they do it.
#ifndef UNTORN_DEMO_PLAN_H_
#define UNTORN_DEMO_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace untorn::demo {

// A track is a set of ranges that one thread writes in rising versions. Ranges of different tracks share
// blocks, but do not overlap. After a crash every range must be whole, not older than the last version
// acknowledged as durable, and not newer than the last version submitted. Some kinds of track must keep a
// further promise.
enum class TrackKind {
  kSync,      // one range is overwritten durably
  kBuffered,  // one range is overwritten in the cache, with a sync now and then
  kGroup,     // transactions write ranges of both objects: all have one version, and never an abandoned one
  kBarrier,   // piece 0, a barrier and piece 1 are written in turn: piece 1 is never newer than piece 0
  kOverlap,   // two overlapping windows are written in turn: both show a prefix of the writes
  kPunch,     // odd versions are punched holes and read as zeros
  kAppend,    // an object grows by records: the version is the number of records
};

enum class TargetObject { kFile, kSecond, kAppends };

struct Piece {
  TargetObject object = TargetObject::kFile;
  uint64_t offset = 0;
  uint64_t length = 0;
  uint32_t range = 0;  // the piece's number in stamps
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

// The threads of the child, by the kinds of their tracks.
inline constexpr int kSyncThreads[] = {0, 1};
inline constexpr int kBufferedThreads[] = {2, 3};
inline constexpr int kGroupThread = 4;
inline constexpr int kOrderThread = 5;  // kBarrier and kOverlap
inline constexpr int kShapeThread = 6;  // kPunch and kAppend
inline constexpr int kWriterThreads = 7;

// The result depends on the size alone, so parent and child get the same tracks without a word.
std::vector<Track> MakeTracks(uint64_t file_bytes);

// Returns the ranges [begin, end) of the imported file that no track writes.
std::vector<std::pair<uint64_t, uint64_t>> UntouchedBytes(const std::vector<Track>& tracks,
                                                          uint64_t file_bytes);

// Says whether a writer abandons the transaction of this version.
inline bool IsAbandoned(uint64_t version) { return version % 7 == 3; }

}  // namespace untorn::demo

#endif  // UNTORN_DEMO_PLAN_H_
