#include "demo/child.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "demo/check.h"
#include "demo/plan.h"
#include "demo/ranges.h"
#include "demo/shared.h"
#include "untorn/store.h"

namespace untorn::demo {
namespace {

constexpr int kExitFailed = 3;

struct Context {
  Store& store;
  Shared& shared;
  const std::vector<Track>& tracks;
  const Objects& objects;
  // Held by a writer that wants to be alone for a while: the others wait before their next write. Commits of
  // many writers are packed into one run; a lone one goes in place.
  std::mutex& alone;
};

[[noreturn]] void Die(const Context& context, const std::string& message) {
  context.shared.SetMessage(message);
  _exit(kExitFailed);
}

void Check(const Context& context, const absl::Status& status, const char* what) {
  if (!status.ok()) Die(context, absl::StrCat(what, ": ", status.ToString()));
}

// One writing thread and the tracks that belong to it.
class Writer {
 public:
  Writer(const Context& context, int thread, uint64_t seed)
      : context_(context), random_(seed * kWriterThreads + static_cast<uint64_t>(thread)) {
    for (size_t i = 0; i < context.tracks.size(); ++i) {
      if (context.tracks[i].thread == thread) mine_.push_back(i);
    }
    next_.resize(context.tracks.size());
    accepted_.resize(context.tracks.size());
    for (size_t i : mine_) next_[i] = state(i).first;
  }

  void Run() {
    const bool goes_alone = !mine_.empty() && context_.tracks[mine_[0]].thread == kSyncThreads[0];
    for (bool first = true; !mine_.empty(); first = false) {
      if (goes_alone && (first || OneIn(8))) WriteAlone();
      { std::lock_guard wait(context_.alone); }
      const size_t track = Pick();
      switch (context_.tracks[track].kind) {
        case TrackKind::kSync:
          WriteTrack(track, Durability::kSync);
          break;
        case TrackKind::kBuffered:
          WriteBurst();
          break;
        case TrackKind::kGroup:
          WriteGroup(track);
          break;
        case TrackKind::kBarrier:
          WriteAroundBarrier(track);
          break;
        case TrackKind::kOverlap:
          for (int i = 0; i < 4; ++i) WriteTrack(track, OneIn(8) ? Durability::kSync : Durability::kBuffered);
          break;
        case TrackKind::kPunch:
          Reshape(track);
          break;
        case TrackKind::kAppend:
          Append(track);
          break;
      }
      if (OneIn(20)) SyncSome(track);
    }
  }

 private:
  TrackState& state(size_t track) { return context_.shared.tracks[track]; }
  uint64_t Random(uint64_t below) { return random_() % below; }
  bool OneIn(uint64_t n) { return Random(n) == 0; }

  // A few tracks are hot: they are overwritten again and again.
  size_t Pick() { return mine_[Random(OneIn(2) ? std::min<size_t>(4, mine_.size()) : mine_.size())]; }

  std::span<const std::byte> Content(uint32_t range, uint64_t version, uint64_t length) {
    content_.resize(length);
    FillStamped({range, version}, content_);
    return content_;
  }

  // The version about to be written is told to the parent first.
  uint64_t Submit(size_t track) {
    const uint64_t version = next_[track]++;
    state(track).submitted = version;
    return version;
  }

  void Accepted(size_t track, uint64_t version, Durability durability) {
    accepted_[track] = version;
    if (durability == Durability::kSync) state(track).durable = version;
  }

  void WriteTrack(size_t track, Durability durability) {
    const Track& t = context_.tracks[track];
    const uint64_t version = Submit(track);
    const Piece& piece = t.pieces[t.kind == TrackKind::kOverlap ? version % 2 : 0];
    Check(context_,
          context_.objects[piece.object].Write(piece.offset, Content(piece.range, version, piece.length),
                                               {.durability = durability}),
          "write");
    Accepted(track, version, durability);
  }

  void WriteAlone() {
    std::lock_guard hold(context_.alone);
    const size_t track = mine_[Random(std::min<size_t>(4, mine_.size()))];
    for (uint64_t i = 4 + Random(12); i > 0; --i) WriteTrack(track, Durability::kSync);
  }

  void WriteBurst() {
    for (uint64_t i = 1 + Random(16); i > 0; --i) WriteTrack(Pick(), Durability::kBuffered);
    if (OneIn(3)) SyncSome(Pick());
    std::this_thread::sleep_for(std::chrono::microseconds(Random(2000)));
  }

  void WriteGroup(size_t track) {
    const Track& t = context_.tracks[track];
    while (IsAbandoned(next_[track])) {
      WriteAbandoned(t, next_[track]);
      ++next_[track];
    }
    const uint64_t version = Submit(track);
    Transaction transaction = context_.store.Begin();
    for (const Piece& piece : t.pieces) {
      Check(context_,
            transaction.Write(context_.objects[piece.object], piece.offset,
                              Content(piece.range, version, piece.length)),
            "write in a transaction");
    }
    const Durability durability = OneIn(2) ? Durability::kSync : Durability::kBuffered;
    Check(context_, transaction.Commit(durability), "commit");
    Accepted(track, version, durability);
  }

  void WriteAbandoned(const Track& t, uint64_t version) {
    Transaction transaction = context_.store.Begin();
    const Piece& piece = t.pieces[0];
    const Object& object = context_.objects[piece.object];
    Check(context_, transaction.Write(object, piece.offset, Content(piece.range, version, piece.length)),
          "write in a transaction");
    std::vector<std::byte> own(piece.length);
    absl::StatusOr<size_t> count = transaction.Read(object, piece.offset, own);
    Check(context_, count.status(), "read in a transaction");
    if (ReadStamp(own) != Stamp{piece.range, version})
      Die(context_, "a transaction does not see its own write");
    transaction.Abandon();
  }

  void WriteAroundBarrier(size_t track) {
    const Track& t = context_.tracks[track];
    const uint64_t version = Submit(track);
    for (const Piece& piece : t.pieces) {
      Check(
          context_,
          context_.objects[piece.object].Write(piece.offset, Content(piece.range, version, piece.length), {}),
          "write");
      if (&piece == &t.pieces.front()) Check(context_, context_.store.Barrier(), "barrier");
    }
    Accepted(track, version, Durability::kBuffered);
    std::this_thread::sleep_for(std::chrono::microseconds(Random(3000)));
  }

  void Reshape(size_t track) {
    if (OneIn(30)) Check(context_, context_.store.Checkpoint(), "checkpoint");
    const Durability durability = OneIn(2) ? Durability::kSync : Durability::kBuffered;
    if (next_[track] % 2 == 0) return WriteTrack(track, durability);
    const Piece& piece = context_.tracks[track].pieces[0];
    const uint64_t version = Submit(track);
    const Object& object = context_.objects[piece.object];
    Check(context_, object.PunchHole(piece.offset, piece.length, durability), "punch");
    Accepted(track, version, durability);
    if (OneIn(2)) Check(context_, object.Preallocate(piece.offset, piece.length), "preallocate");
  }

  void Append(size_t track) {
    const Piece& piece = context_.tracks[track].pieces[0];
    const Durability durability = OneIn(2) ? Durability::kSync : Durability::kBuffered;
    // The version is the number of records, so the record itself has the number before.
    const uint64_t record = next_[track]++;
    state(track).submitted = record + 1;
    Check(context_,
          context_.objects[piece.object].Write(
              record * kAppendBytes, Content(piece.range, record, kAppendBytes), {.durability = durability}),
          "append");
    Accepted(track, record + 1, durability);
  }

  // Whatever kind of sync returns, it covers what this thread wrote before.
  void SyncSome(size_t track) {
    const Track& t = context_.tracks[track];
    if (OneIn(2)) {
      Check(context_, context_.store.Sync(), "sync");
      for (size_t i : mine_) MarkDurable(i);
      return;
    }
    for (const Piece& piece : t.pieces) {
      const Object& object = context_.objects[piece.object];
      const bool whole = piece.object == TargetObject::kAppends || OneIn(2);
      Check(context_, whole ? object.Sync() : object.SyncRange(piece.offset, piece.length), "sync");
    }
    MarkDurable(track);
  }

  void MarkDurable(size_t track) {
    if (accepted_[track] != 0) state(track).durable = accepted_[track];
  }

  const Context& context_;
  std::mt19937_64 random_;
  std::vector<size_t> mine_;
  std::vector<uint64_t> next_;      // by track
  std::vector<uint64_t> accepted_;  // by track; 0: nothing in this round
  std::vector<std::byte> content_;
};

// Reads beside the writers: every atomic write is seen whole or not at all.
void ReadForever(const Context& context, uint64_t seed) {
  std::mt19937_64 random(seed);
  Checker checker(context.tracks, context.shared, context.objects);
  while (true) {
    const size_t track = random() % context.tracks.size();
    Verdict verdict;
    Check(context, checker.CheckLive(track, random() % context.tracks[track].pieces.size(), &verdict),
          "read");
    ++context.shared.live_reads;
    context.shared.live_torn += verdict.torn;
    context.shared.live_lost += verdict.lost;
    if (!verdict.notes.empty())
      context.shared.SetMessage(absl::StrCat("while being written: ", verdict.notes[0]));
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

void PublishStatsForever(const Context& context) {
  while (true) {
    const uint64_t next = context.shared.snapshots + 1;
    context.shared.snapshot[next % 2] = context.store.stats();
    context.shared.snapshots = next;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace

int RunChild(const std::string& store_path, const OpenOptions& options, const std::string& shared_path,
             uint64_t seed) {
  absl::StatusOr<SharedMemory> shared = SharedMemory::Open(shared_path);
  if (!shared.ok()) {
    std::fprintf(stderr, "demo: %s\n", shared.status().ToString().c_str());
    return kExitFailed;
  }
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(store_path, options);
  if (!store.ok()) {
    (*shared)->SetMessage(absl::StrCat("open: ", store.status().ToString()));
    return kExitFailed;
  }
  Objects objects;
  for (const auto& [name, object] : {std::pair{kFileObject, &objects.file},
                                     {kSecondObject, &objects.second},
                                     {kAppendsObject, &objects.appends}}) {
    absl::StatusOr<Object> opened = (*store)->OpenObject(name);
    if (!opened.ok()) {
      (*shared)->SetMessage(absl::StrCat("open object ", name, ": ", opened.status().ToString()));
      return kExitFailed;
    }
    *object = *opened;
  }
  const std::vector<Track> tracks = MakeTracks((*shared)->file_bytes);
  std::mutex alone;
  const Context context{**store, **shared, tracks, objects, alone};
  std::vector<std::jthread> threads;
  for (int i = 0; i < kWriterThreads; ++i) {
    threads.emplace_back([&context, i, seed] { Writer(context, i, seed).Run(); });
  }
  threads.emplace_back([&context, seed] { ReadForever(context, seed); });
  (*shared)->writing = true;
  PublishStatsForever(context);
  return kExitFailed;
}

}  // namespace untorn::demo
