#include "demo/driver.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/byte_size.h"
#include "base/file_io.h"
#include "base/status_macros.h"
#include "demo/child.h"
#include "demo/ranges.h"
#include "untorn/inspect.h"

extern char** environ;

namespace untorn::demo {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

volatile std::sig_atomic_t interrupted = 0;

constexpr uint64_t kAppendsBytesMax = 8 << 20;
// Larger files are compared whole in every fifth round only.
constexpr uint64_t kCompareAlwaysBytesMax = 48 << 20;

absl::Status InFile(const std::string& path, int error) { return absl::ErrnoToStatus(error, path); }

absl::StatusOr<Objects> OpenObjects(Store& store) {
  Objects objects;
  for (const auto& [name, object] : {std::pair{kFileObject, &objects.file},
                                     {kSecondObject, &objects.second},
                                     {kAppendsObject, &objects.appends}}) {
    ASSIGN_OR_RETURN(*object, store.OpenObject(name));
  }
  return objects;
}

// Waits until the child has ended, at most that long. Returns its wait status.
std::optional<int> WaitFor(pid_t child, milliseconds at_most) {
  const auto deadline = steady_clock::now() + at_most;
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (steady_clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return status;
}

}  // namespace

Driver::Driver(DriverOptions options)
    : options_(std::move(options)),
      store_path_(absl::StrCat(options_.directory, "/", options_.name, ".untorn")),
      shared_path_(absl::StrCat(options_.directory, "/", options_.name, ".shared")),
      tracks_(MakeTracks(options_.file_bytes)),
      untouched_(UntouchedBytes(tracks_, options_.file_bytes)),
      random_(options_.seed) {
  report_.name = options_.name;
}

absl::StatusOr<ModeReport> Driver::Run() {
  // The stores are removed, and the child does not outlive a round.
  for (int signal_number : {SIGINT, SIGTERM, SIGHUP}) signal(signal_number, [](int) { interrupted = 1; });
  RETURN_IF_ERROR(SetUp());
  for (int round = 1; round <= options_.rounds; ++round) {
    RETURN_IF_ERROR(RunRound(round));
  }
  RETURN_IF_ERROR(CheckWithFsck("at the end"));
  return report_;
}

absl::Status Driver::SetUp() {
  ASSIGN_OR_RETURN(shared_, SharedMemory::Create(shared_path_));
  (*shared_)->file_bytes = options_.file_bytes;

  const int fd = open(options_.file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return InFile(options_.file, errno);
  absl::StatusOr<uint64_t> hash = HashRanges(untouched_, [&](uint64_t at, std::span<std::byte> out) {
    const ssize_t count = pread(fd, out.data(), out.size(), static_cast<off_t>(at));
    return count == static_cast<ssize_t>(out.size()) ? absl::OkStatus()
                                                     : InFile(options_.file, count < 0 ? errno : EIO);
  });
  close(fd);
  ASSIGN_OR_RETURN(untouched_hash_, std::move(hash));

  CreateOptions create;
  constexpr uint64_t kMiB = 1 << 20;
  create.size_bytes = std::max(256 * kMiB, (2 * options_.file_bytes / kMiB + 192) * kMiB);
  create.force = true;  // a kept one of an earlier run
  RETURN_IF_ERROR(Store::Create(store_path_, create));
  ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::Open(store_path_, options_.open));
  const StoreInfo info = store->info();
  report_.path_note =
      absl::StrCat(info.engine, info.direct_io ? ", direct I/O" : "", ", atomic unit ",
                   info.atomic_unit_max_bytes == 0 ? "none" : HumanBytes(info.atomic_unit_max_bytes), " ",
                   info.atomic_source);
  const auto start = steady_clock::now();
  RETURN_IF_ERROR(Import(*store));
  RETURN_IF_ERROR(WriteFirstVersions(*store));
  AddCounters(store->stats(), &report_.counters);
  std::printf("%s: %s; imported %s in %.2f s\n", options_.name.c_str(), report_.path_note.c_str(),
              HumanBytes(options_.file_bytes).c_str(),
              std::chrono::duration<double>(steady_clock::now() - start).count());
  return store->Close();
}

absl::Status Driver::Import(Store& store) {
  ASSIGN_OR_RETURN(InputFile input, InputFile::Open(options_.file));
  Transaction transaction = store.Begin();
  ASSIGN_OR_RETURN(const Object object, transaction.CreateObject(kFileObject));
  std::vector<std::byte> piece(kFilePieceBytes);
  for (uint64_t at = 0; at < options_.file_bytes;) {
    const auto wanted = std::span(piece).first(std::min<uint64_t>(piece.size(), options_.file_bytes - at));
    ASSIGN_OR_RETURN(const size_t count, input.Read(wanted));
    if (count < wanted.size()) return absl::InternalError(absl::StrCat(options_.file, " has become shorter"));
    RETURN_IF_ERROR(transaction.Write(object, at, wanted));
    at += wanted.size();
  }
  return transaction.Commit();
}

absl::Status Driver::WriteFirstVersions(Store& store) {
  for (const char* name : {kSecondObject, kAppendsObject}) {
    RETURN_IF_ERROR(store.CreateObject(name).status());
  }
  ASSIGN_OR_RETURN(const Objects objects, OpenObjects(store));
  Transaction transaction = store.Begin();
  std::vector<std::byte> content;
  for (size_t i = 0; i < tracks_.size(); ++i) {
    const Track& track = tracks_[i];
    TrackState& state = (*shared_)->tracks[i];
    state.first = 1;
    if (track.kind == TrackKind::kAppend) {
      state.first = 0;
      continue;
    }
    // Version 1 in the odd window, then version 2 in the even one, over it.
    const bool overlap = track.kind == TrackKind::kOverlap;
    for (size_t n = 0; n < track.pieces.size(); ++n) {
      const size_t p = overlap ? track.pieces.size() - 1 - n : n;
      const Piece& piece = track.pieces[p];
      content.resize(piece.length);
      FillStamped({piece.range, overlap ? n + 1 : 0}, content);
      RETURN_IF_ERROR(transaction.Write(objects[piece.object], piece.offset, content));
    }
    if (overlap) {
      state.base = {2, 1};
      state.submitted = 2;
      state.first = 3;
    }
  }
  return transaction.Commit();
}

absl::StatusOr<int> Driver::Spawn(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  std::string program = "/proc/self/exe";
  argv.push_back(program.data());
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t child = 0;
  const int error = posix_spawn(&child, program.c_str(), nullptr, nullptr, argv.data(), environ);
  if (error != 0) return InFile("starting the child", error);
  return child;
}

std::string Driver::ChildMessage() const {
  return (*shared_)->has_message ? std::string((*shared_)->message.data()) : "no message";
}

absl::Status Driver::RunChildAndKill(uint64_t seed, milliseconds delay) {
  Shared& shared = **shared_;
  shared.writing = false;
  shared.has_message = false;
  shared.snapshots = 0;
  shared.live_reads = shared.live_torn = shared.live_lost = 0;
  ASSIGN_OR_RETURN(const int child, Spawn(options_.child_arguments(store_path_, shared_path_, seed,
                                                                   /*open_only=*/false)));
  const auto deadline = steady_clock::now() + std::chrono::seconds(20);
  std::optional<int> ended;
  while (!shared.writing && !ended.has_value() && steady_clock::now() < deadline) {
    ended = WaitFor(child, milliseconds(1));
  }
  if (shared.writing && !ended.has_value()) ended = WaitFor(child, delay);
  if (!ended.has_value()) {
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    if (!shared.writing) return absl::DeadlineExceededError("the child did not begin to write within 20 s");
    ended = status;
  }
  if (!WIFSIGNALED(*ended) || WTERMSIG(*ended) != SIGKILL) {
    return absl::InternalError(absl::StrCat("the child ended by itself, ",
                                            WIFSIGNALED(*ended) ? absl::StrCat("by signal ", WTERMSIG(*ended))
                                                                : absl::StrCat("code ", WEXITSTATUS(*ended)),
                                            ": ", ChildMessage()));
  }
  ++report_.kills;
  AddCounters(shared.LastSnapshot(), &report_.counters);
  report_.live_reads += shared.live_reads;
  report_.torn += shared.live_torn;
  report_.lost += shared.live_lost;
  if (shared.has_message) std::printf("  %s\n", ChildMessage().c_str());
  return absl::OkStatus();
}

absl::Status Driver::KillDuringRecovery() {
  ASSIGN_OR_RETURN(const int child, Spawn(options_.child_arguments(store_path_, shared_path_, 0,
                                                                   /*open_only=*/true)));
  const std::optional<int> ended = WaitFor(child, milliseconds(random_() % 30));
  if (ended.has_value()) return absl::OkStatus();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  ++report_.recoveries_killed;
  return absl::OkStatus();
}

absl::Status Driver::CheckWithFsck(const std::string& when) {
  absl::StatusOr<FsckResult> fsck = Fsck(store_path_);
  if (!fsck.ok())
    return absl::Status(fsck.status().code(), absl::StrCat("fsck: ", std::string(fsck.status().message())));
  report_.fsck_findings += fsck->findings_total;
  for (const Finding& finding : fsck->findings) {
    std::printf("  fsck %s: %s: %s\n", when.c_str(), FindingCodeName(finding.code), finding.what.c_str());
  }
  return absl::OkStatus();
}

void Driver::ResumeFrom(size_t track, const std::array<uint64_t, kPiecesMax>& versions) {
  TrackState& state = (*shared_)->tracks[track];
  state.base = versions;
  state.durable = 0;
  if (tracks_[track].kind == TrackKind::kAppend) {
    state.first = versions[0];
    state.submitted = versions[0];
    return;
  }
  // Versions that are lost now must not come back, so their numbers are not used again.
  state.first = state.submitted + 1;
  if (tracks_[track].kind == TrackKind::kOverlap && state.first % 2 == versions[0] % 2) ++state.first;
  state.submitted = state.first - 1;
}

absl::Status Driver::ResetAppends(size_t track, const Object& appends) {
  if ((*shared_)->tracks[track].base[0] * kAppendBytes < kAppendsBytesMax) return absl::OkStatus();
  ResumeFrom(track, {});
  return appends.Truncate(0, Durability::kSync);
}

absl::Status Driver::CheckStore(Store& store, bool whole_file) {
  ASSIGN_OR_RETURN(const Objects objects, OpenObjects(store));
  Verdict verdict;
  Checker checker(tracks_, **shared_, objects);
  for (size_t i = 0; i < tracks_.size(); ++i) {
    ASSIGN_OR_RETURN(const auto versions, checker.CheckTrack(i, &verdict));
    report_.ranges_checked += tracks_[i].pieces.size();
    ResumeFrom(i, versions);
    if (tracks_[i].kind == TrackKind::kAppend) {
      RETURN_IF_ERROR(ResetAppends(i, objects.appends));
    }
  }
  if (whole_file) {
    ASSIGN_OR_RETURN(const uint64_t hash, HashRanges(untouched_, [&](uint64_t at, std::span<std::byte> out) {
                       absl::StatusOr<size_t> count = objects.file.Read(at, out, {.bypass_cache = true});
                       if (!count.ok()) return count.status();
                       return *count == out.size()
                                  ? absl::OkStatus()
                                  : absl::DataLossError("the imported file has become shorter");
                     }));
    if (hash != untouched_hash_) verdict.Torn("the imported file has changed where nothing was written");
  }
  report_.torn += verdict.torn;
  report_.lost += verdict.lost;
  for (const std::string& note : verdict.notes) std::printf("  %s\n", note.c_str());
  return absl::OkStatus();
}

absl::Status Driver::RunRound(int round) {
  if (interrupted) return absl::CancelledError("interrupted");
  const milliseconds delay(50 + random_() % 351);
  RETURN_IF_ERROR(RunChildAndKill(random_(), delay));
  const uint64_t writes = (*shared_)->LastSnapshot().writes + (*shared_)->LastSnapshot().transactions;
  RETURN_IF_ERROR(CheckWithFsck("after the kill"));
  if (round % 3 == 0) {
    RETURN_IF_ERROR(KillDuringRecovery());
    RETURN_IF_ERROR(CheckWithFsck("after a recovery was killed"));
  }
  const auto start = steady_clock::now();
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(store_path_, options_.open);
  if (!store.ok())
    return absl::Status(store.status().code(),
                        absl::StrCat("recovery: ", std::string(store.status().message())));
  const auto recovery = std::chrono::duration_cast<milliseconds>(steady_clock::now() - start);
  ++report_.recoveries;
  const Stats opened = (*store)->stats();
  const bool whole_file =
      options_.file_bytes <= kCompareAlwaysBytesMax || round % 5 == 0 || round == options_.rounds;
  RETURN_IF_ERROR(CheckStore(**store, whole_file));
  AddCounters((*store)->stats(), &report_.counters);
  std::printf(
      "%s round %2d/%d: killed after %3d ms and %5d writes; recovered in %d ms, %d records replayed, %d "
      "dropped; "
      "torn %d, lost %d\n",
      options_.name.c_str(), round, options_.rounds, static_cast<int>(delay.count()),
      static_cast<int>(writes), static_cast<int>(recovery.count()),
      static_cast<int>(opened.recovered_records), static_cast<int>(opened.dropped_records),
      static_cast<int>(report_.torn), static_cast<int>(report_.lost));
  std::fflush(stdout);
  return (*store)->Close();
}

}  // namespace untorn::demo
