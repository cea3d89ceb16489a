// The inside of the model: the states of disk and engine, and the class that goes from one to the next.
#ifndef UNTORN_TESTS_PROTOCOL_LOG_SEARCHER_H_
#define UNTORN_TESTS_PROTOCOL_LOG_SEARCHER_H_

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "tests/protocol/log_model.h"

namespace untorn::protocol {

constexpr int kBlocksMax = 30, kSlots = 2, kExtentsMax = 12, kLanesMax = 3, kRequestsMax = 4,
              kRequestBlocks = 3;
constexpr int kLsnMax = 16, kPages = 2, kEntriesMax = 6, kCopiesMax = 4, kDisplacedMax = 10;
constexpr uint8_t kNone = 0xff;

// What a block holds: nothing, a torn write, a version of a page, a record, or a superblock.
using Content = uint32_t;
constexpr Content kBlank = 0, kTorn = 1, kFirstData = 2, kVersionsMax = 32, kFirstRecord = 128,
                  kFirstSuperblock = 1 << 24;
inline Content Data(int page, int version) {
  return static_cast<Content>(kFirstData + page * kVersionsMax + version);
}
inline bool IsRecord(Content content) { return content >= kFirstRecord && content < kFirstSuperblock; }
inline bool IsSuperblock(Content content) { return content >= kFirstSuperblock; }

// Maps a page, or says that the block of the page is open.
struct Entry {
  uint8_t lsn, page, block, version, opens;
};
using Extents = uint16_t;  // bit i: extent i

// A record of the ring, or a lane record. It holds all commits from the LSN `first` to `lsn`.
struct Record {
  uint8_t epoch, first, lsn, claim;
  uint8_t generation;  // of the newest superblock that counts
  uint8_t in_ring, last_of_chain;
  uint8_t place;     // its block in a lane, or its position in the ring
  Content previous;  // the record of the ring before it
  Extents names;     // of a record of the ring: where lanes may be
  uint8_t entry_count;
  Entry entries[kEntriesMax];
  uint8_t unused[3];
};
static_assert(std::has_unique_object_representations_v<Record>, "equal records have equal bytes");

// The records or superblocks that were ever made. Equal ones have equal numbers, so a number stands for a checksum.
template <typename T, Content kFirst, Content kEnd>
class Numbers {
 public:
  Content Number(const T& made) {
    std::array<char, sizeof(T)> bytes;
    std::memcpy(bytes.data(), &made, sizeof(T));
    auto [it, fresh] = numbers_.insert({bytes, static_cast<Content>(kFirst + made_.size())});
    if (fresh) {
      UNTORN_CHECK(kFirst + made_.size() < kEnd,
                   "the search makes too many different records or superblocks");
      made_.push_back(made);
    }
    return it->second;
  }
  const T& operator[](Content number) const { return made_[number - kFirst]; }

 private:
  std::map<std::array<char, sizeof(T)>, Content> numbers_;
  std::deque<T> made_;  // a reference stays valid
};

// The contents that a power cut may leave in a block, oldest first. The newest is what a read returns.
struct Block {
  uint16_t copies, atomic;  // bit i of `atomic`: the device keeps copy i whole
  Content copy[kCopiesMax];
};
enum Purpose : uint8_t { kCommit, kOpeningFold, kInPlace, kAgree, kSlot };
struct Request {
  uint8_t lsn, purpose, durable_by_itself, blocks;
  Content content[kRequestBlocks];
  uint8_t block[kRequestBlocks], unused;
};
// A version stands for its checksum. While a block is open, the block may hold a newer version.
struct Mapping {
  uint8_t block, version, lsn, open;
};
struct Superblock {
  uint8_t generation, epoch, checkpoint, durable;
  Extents names;
  uint8_t position, unused;  // the log goes on at this position of the ring
  Content previous;          // the record of the ring before that position
  Mapping map[kPages];
};
enum RecordState : uint8_t { kUnsent, kSent, kCompleted, kDurable };
// What the engine knows of one LSN.
struct Commit {
  uint8_t state, claim, last_of_chain, page, data_block, version, opens;
  uint8_t block;     // of its lane record, or kNone
  uint8_t position;  // behind its record in the ring, or 0
  uint8_t unused[3];
  Content record;
};
struct Displaced {
  uint8_t block, mapped, displaced;
};
struct Lane {
  uint8_t extent, used, last, next;  // `used` blocks, LSN of the last record in the lane or 0, next extent
};
enum Mode : uint8_t {
  kRunning,
  kDown,
  kDamaged,
  kRecovered,
  kFlushed,
  kAgreeSent,
  kFoldSent,
  kOpeningSuperblock
};
// How far the next superblock is.
enum Stage : uint8_t { kNoNext, kFrozen, kFirstSlot, kSecondSlot };

struct State {
  Block blocks[kBlocksMax + kSlots];
  Request requests[kRequestsMax];
  // The engine's memory.
  Superblock superblock, next_superblock;  // the one that counts, and the one that is being made
  Commit commits[kLsnMax];
  Mapping map[kPages];
  uint8_t request_count, mode, stage;
  uint8_t epoch, next, durable, settled, settled_twice, displaced_count;
  uint8_t position, in_ring;  // of the ring: the next position, and the LSN of the last record
  uint8_t unused;
  Content previous;  // the last record of the ring
  Lane lanes[kLanesMax];
  // Of the current mapping: the record that opened it, the version that is in the block, and whether the engine
  // knows that version.
  uint8_t opened_by[kPages], newest[kPages], known[kPages];
  Displaced displaced[kDisplacedMax];
  // What the search knows, and the engine does not.
  uint8_t submitted[kPages], acknowledged[kPages], settled_version[kPages], chain[kPages];
  uint8_t openings_left, in_place_left;
  uint8_t commits_left, chains_left, settling_left, checkpoints_left, cuts_left, kills_left, rot_left;
  uint8_t slot_rot_left, lost_left;
  uint8_t named;  // the newest superblock that a durable record names
  uint8_t large_left, giving_back_left, unused_too[2];
  uint32_t dropped[kPages];  // bit v: recovery has said that version v is not there
};
static_assert(std::is_trivially_copyable_v<State>);
static_assert(std::has_unique_object_representations_v<State>, "equal states have equal bytes");

class Searcher {
 public:
  Searcher(const Bounds& bounds, const std::set<Rule>& dropped) : b_(bounds), dropped_(dropped) {
    UNTORN_CHECK(BlockCount() + b_.ring_blocks <= kBlocksMax, "too many blocks");
    UNTORN_CHECK(bounds.extents <= kExtentsMax && bounds.lanes <= kLanesMax, "too many extents");
    UNTORN_CHECK(bounds.commits_in_record <= kEntriesMax, "a record has too many entries");
  }
  SearchResult Run();

 private:
  using Emit = std::function<void(const State&, const std::string&)>;
  bool Holds(Rule rule) const { return !dropped_.contains(rule); }
  int BlockOf(int extent, int index) const { return extent * b_.extent_blocks + index; }
  int BlockCount() const { return b_.extents * b_.extent_blocks; }
  int RingBlock(int position) const { return BlockCount() + position % b_.ring_blocks; }
  // The slots are alike, so the one that opening finds in use changes places with the other where need be.
  int SlotInUse() const { return BlockCount() + b_.ring_blocks; }
  int SpareSlot() const { return SlotInUse() + 1; }
  int DiskBlocks() const { return SlotInUse() + kSlots; }
  static bool MaySend(const State& s) { return s.request_count < kRequestsMax && s.next + 1 < kLsnMax; }
  static Content Read(const State& s, int block) { return s.blocks[block].copy[s.blocks[block].copies - 1]; }
  // Makes a line of a trace.
  template <typename... Parts>
  std::string Tell(const Parts&... parts) const {
    return telling_ ? absl::StrCat(parts...) : std::string();
  }
  std::string Name(Content content) const;
  std::string BlockName(int block) const;
  // Returns the version that a read of the page gives. A checksum that does not match is damage, unless the block is
  // open: then the device is taken at its word.
  static int VersionFound(const State& s, int page, const Mapping& m) {
    if (m.block == kNone || !m.open) return m.version;
    const Content held = Read(s, m.block);
    return held >= Data(page, 0) && held < Data(page, kVersionsMax) ? held - Data(page, 0) : m.version;
  }

  State Initial();
  void Successors(const State& s, const Emit& emit);
  void CutPower(const State& s, const Emit& emit);
  void Rot(const State& s, int block, const std::string& what, const Emit& emit);
  void Kill(const State& s, const Emit& emit);
  void CompleteRequest(const State& s, int index, const Emit& emit);
  void CompleteSlot(const State& s, const Emit& emit);
  void Flush(const State& s, const Emit& emit);
  void SendPage(const State& s, int page, const Emit& emit);
  bool SendToLane(const State& s, int page, const Emit& emit);
  // Without a page the record has no data. It may open the block of `open_page`.
  void SendToRing(const State& s, int page, const Emit& emit, int open_page = -1);
  void SendChain(const State& s, const Emit& emit);
  void GiveLanesBack(const State& s, const Emit& emit);
  void OverwriteInPlace(const State& s, int page, const Emit& emit);
  void ReadPage(const State& s, int page, const Emit& emit);
  void BeginCheckpoint(const State& s, const Emit& emit);
  void EndCheckpoint(const State& s, const Emit& emit);
  void Open(const State& s, const Emit& emit);

  // The engine's rules.
  bool MayOverwrite(const State& s, int lsn) const;
  bool InUse(const State& s, int block) const;
  bool OfLane(const State& s, int block) const;
  std::optional<int> TakeExtent(const State& s) const;
  std::optional<int> DataBlock(const State& s) const;
  Extents MayUse(const State& s) const;
  bool MoveLane(State& s, Lane& lane) const;
  std::optional<int> RoomInLane(State& s, Lane& lane);
  bool RingHasRoom(const State& s, int more) const;
  int Claim(const State& s) const;
  bool InPlaceInFlight(const State& s, int page) const;
  bool MayOverwriteInPlace(const State& s, int page) const;
  bool MayClose(const State& s, int page) const;

  // Makes records and sends them.
  void StartCommit(State& s, bool last_of_chain) const;
  static uint8_t Submit(State& s, int page);
  bool MapPage(State& s, int page, int block) const;
  void OpenBlock(State& s, int page) const;
  // Makes a record of the commits from `first` to `lsn`.
  Record MakeRecord(const State& s, int first, int lsn, int claim) const;
  Record MakeRingRecord(const State& s, int first, int lsn, int claim) const;
  void Append(State& s, const Record& record, Request& request);
  int FirstUnfolded(const State& s) const;
  bool BeginRingWrite(State& s, Request& request);
  bool SendRecord(State& s, int page, int open_page, bool last_of_chain, Request& request);
  void SendSlot(State& s, int slot, const Superblock& superblock, Purpose purpose = kSlot);
  void SendSuperblock(State& s);
  void Count(State& s) const;
  void Advance(State& s) const;
  static void Settle(State& s);

  struct Recovered {
    std::string damage;                      // empty if there is none
    const Superblock* superblock = nullptr;  // null if no slot is readable
    int end = 0, claim = 0;
    int position = 0;                 // behind the records that were walked
    Extents names = 0;                // where recovery looks for lane records
    std::vector<const Record*> ring;  // the records that were walked
    std::vector<const Record*> behind;
    uint8_t newest_epoch = 0, newest_generation = 0;  // that a lane record names
    const Record* top = nullptr;                      // the lane record that the log ends with, if any
    std::map<int, Entry> entries;                     // by LSN
    Mapping map[kPages];
  };
  const Superblock* NewestSuperblock(const State& s) const;
  const Record* RingRecord(const State& s, int position) const;
  void Walk(const State& s, Recovered& r) const;
  void LookBehind(const State& s, Recovered& r) const;
  void LookAtLanes(const State& s, Recovered& r) const;
  bool NamesNewerSuperblock(const State& s, const Recovered& r) const;
  void TakeTop(Recovered& r) const;
  void Vouch(Recovered& r) const;
  void CompareData(const State& s, Recovered& r) const;
  Recovered Recover(const State& s) const;
  void Judge(const State& s, const Recovered& r);
  void Rebuild(State& s, const Recovered& r);
  void BeginEpoch(State s, const Recovered& r, const Emit& emit);
  void Forget(State& s) const;
  static void Canonical(State& s);

  const Bounds b_;
  const std::set<Rule> dropped_;
  Numbers<Record, kFirstRecord, kFirstSuperblock> records_;
  Numbers<Superblock, kFirstSuperblock, 2 * kFirstSuperblock> superblocks_;
  SearchResult result_;
  bool telling_ = false;
  std::string violation_;
};

}  // namespace untorn::protocol

#endif  // UNTORN_TESTS_PROTOCOL_LOG_SEARCHER_H_
