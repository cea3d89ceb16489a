#include "demo/plan.h"

#include <algorithm>

#include "base/check.h"

namespace untorn::demo {
namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kCellBytes = 256 * kKiB;
constexpr uint64_t kCellsMax = 48;

// Lays tracks out, one cell of the file at a time.
class Planner {
 public:
  std::vector<Track> tracks;

  void Aligned(uint64_t cell) {
    const struct {
      uint64_t offset, length;
    } ranges[] = {
        {0, 64 * kKiB},
        {64 * kKiB, 16 * kKiB},
        {80 * kKiB, 4 * kKiB},
        {84 * kKiB, 4 * kKiB},
        {88 * kKiB, 8 * kKiB},
        {100 * kKiB, 16 * kKiB},  // not a multiple of its length
        {116 * kKiB, 12 * kKiB} /* no power of two */,
        {128 * kKiB, 128 * kKiB},
    };
    for (const auto& range : ranges) Single({.offset = cell + range.offset, .length = range.length});
  }

  // One after the other without a gap, so that neighbours share blocks.
  void Odd(uint64_t cell) {
    uint64_t at = cell + 1234;
    for (const uint64_t length : {5000, 777, 40961, 100, 65536, 3000, 1 << 16 | 1, 4096, 333, 20000}) {
      Single({.offset = at, .length = length});
      at += length;
    }
  }

  void Groups(uint64_t cell) {
    Add(TrackKind::kGroup, kGroupThread,
        {{.offset = cell, .length = 16 * kKiB},
         {.offset = cell + 32 * kKiB, .length = 4 * kKiB},
         {.offset = cell + 70001, .length = 10001},
         {.object = TargetObject::kSecond, .offset = second_bytes_, .length = 8 * kKiB}});
    second_bytes_ += 8 * kKiB;
    Add(TrackKind::kGroup, kGroupThread,
        {{.offset = cell + 80002, .length = 2999},
         {.offset = cell + 128 * kKiB, .length = 64 * kKiB},
         {.offset = cell + 192 * kKiB, .length = 16 * kKiB},
         {.offset = cell + 208 * kKiB, .length = 16 * kKiB},
         {.object = TargetObject::kSecond, .offset = second_bytes_ + 100, .length = 5001}});
    second_bytes_ += 8 * kKiB;
  }

  void Barriers(uint64_t cell) {
    Add(TrackKind::kBarrier, kOrderThread,
        {{.offset = cell, .length = 16 * kKiB}, {.offset = cell + 64 * kKiB, .length = 4 * kKiB}});
    Add(TrackKind::kBarrier, kOrderThread,
        {{.offset = cell + 100001, .length = 30000}, {.offset = cell + 130001, .length = 501}});
  }

  void Overlaps(uint64_t cell) {
    for (const auto& [offset, length] : {std::pair{uint64_t{0}, 32 * kKiB}, {65 * kKiB + 17, 20001}}) {
      Add(TrackKind::kOverlap, kOrderThread,
          {{.offset = cell + offset, .length = length},
           {.offset = cell + offset + length / 2, .length = length}});
    }
  }

  void Punches(uint64_t cell) {
    Add(TrackKind::kPunch, kShapeThread, {{.offset = cell, .length = 64 * kKiB}});
    Add(TrackKind::kPunch, kShapeThread, {{.offset = cell + 70000, .length = 50001}});
  }

  void Appends() {
    Add(TrackKind::kAppend, kShapeThread, {{.object = TargetObject::kAppends, .length = kAppendBytes}});
  }

 private:
  void Single(const Piece& piece) {
    const int turn = singles_++ % 4;
    if (turn % 2 == 0) {
      Add(TrackKind::kSync, kSyncThreads[turn / 2], {piece});
    } else {
      Add(TrackKind::kBuffered, kBufferedThreads[turn / 2], {piece});
    }
  }

  void Add(TrackKind kind, int thread, std::vector<Piece> pieces) {
    UNTORN_CHECK(pieces.size() <= kPiecesMax && tracks.size() < kTracksMax,
                 "a plan has more parts than it may");
    for (Piece& piece : pieces) piece.range = ranges_++;
    tracks.push_back({kind, thread, std::move(pieces)});
  }

  uint32_t ranges_ = 1;
  int singles_ = 0;
  uint64_t second_bytes_ = 0;
};

}  // namespace

std::vector<Track> MakeTracks(uint64_t file_bytes) {
  UNTORN_CHECK(file_bytes >= kFileBytesMin, "a plan is for a file that is too short");
  const uint64_t all = file_bytes / kCellBytes;
  const uint64_t used = std::min(all, kCellsMax);
  Planner planner;
  for (uint64_t i = 0; i < used; ++i) {
    const uint64_t cell = i * all / used * kCellBytes;
    switch (i % 8) {
      case 0:
      case 4:
        planner.Aligned(cell);
        break;
      case 1:
      case 7:
        planner.Odd(cell);
        break;
      case 2:
        planner.Groups(cell);
        break;
      case 3:
        planner.Barriers(cell);
        break;
      case 5:
        planner.Overlaps(cell);
        break;
      case 6:
        planner.Punches(cell);
        break;
    }
  }
  planner.Appends();
  return std::move(planner.tracks);
}

std::vector<std::pair<uint64_t, uint64_t>> UntouchedBytes(const std::vector<Track>& tracks,
                                                          uint64_t file_bytes) {
  std::vector<std::pair<uint64_t, uint64_t>> touched;
  for (const Track& track : tracks) {
    for (const Piece& piece : track.pieces) {
      if (piece.object == TargetObject::kFile)
        touched.emplace_back(piece.offset, piece.offset + piece.length);
    }
  }
  std::sort(touched.begin(), touched.end());
  std::vector<std::pair<uint64_t, uint64_t>> untouched;
  uint64_t at = 0;
  for (const auto& [begin, end] : touched) {
    if (begin > at) untouched.emplace_back(at, begin);
    at = std::max(at, end);
  }
  if (at < file_bytes) untouched.emplace_back(at, file_bytes);
  return untouched;
}

}  // namespace untorn::demo
