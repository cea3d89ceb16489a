// put, get, write, read.
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/byte_size.h"
#include "base/file_io.h"
#include "inspect/printable.h"
#include "tools/commands.h"
#include "tools/flags.h"
#include "tools/output.h"
#include "tools/progress.h"
#include "tools/sqlite_log.h"
#include "untorn/store.h"

namespace untorn::tools {
namespace {

std::string LastComponent(const std::string& path) { return path.substr(path.rfind('/') + 1); }

class Summary {
 public:
  void Print(const Invocation& invocation, const std::string& what, uint64_t bytes) const {
    if (absl::GetFlag(FLAGS_quiet)) return;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    std::fprintf(stderr, "%s: %s: %s in %.2f s\n", invocation.command.name, Printable(what).c_str(),
                 HumanBytes(bytes).c_str(), seconds);
  }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void PrintStats(const Stats& before, const Stats& after) {
  std::fprintf(stderr, "Units of writeback by path and reason\n%s", ReasonsText(after).c_str());
  std::fprintf(
      stderr, "%s\n",
      absl::StrCat("commits ", after.commits - before.commits, ", flushes ", after.flushes - before.flushes,
                   ", durable writes ", after.durable_writes - before.durable_writes, ", device writes ",
                   after.device_writes - before.device_writes)
          .c_str());
}

// A store opened for a change, and what it had counted by then.
struct OpenStore {
  std::unique_ptr<Store> store;
  Stats before;
};
absl::StatusOr<OpenStore> OpenForChange(const Invocation& invocation) {
  auto store = Store::Open(invocation.arguments[0], OpenOptionsFromFlags(/*read_only=*/false));
  if (!store.ok()) return store.status();
  const Stats before = (*store)->stats();
  return OpenStore{*std::move(store), before};
}

// Makes the change durable, so that what --show-stats shows is all of it, and closes the store.
int Finish(const Invocation& invocation, OpenStore& open, absl::Status changed) {
  if (changed.ok() && absl::GetFlag(FLAGS_show_stats)) {
    changed = open.store->Sync();
    if (changed.ok()) PrintStats(open.before, open.store->stats());
  }
  return invocation.Finish(changed, open.store->Close());
}

// That a command does not overwrite the store it reads, or read the store it writes into.
bool IsStore(const Invocation& invocation, const std::string& path) {
  struct stat file, store;
  return path != "-" && stat(path.c_str(), &file) == 0 &&
         stat(invocation.arguments[0].c_str(), &store) == 0 && file.st_dev == store.st_dev &&
         file.st_ino == store.st_ino;
}
constexpr char kFileIsStore[] = "FILE is the store itself";

absl::Status WithProgress(const absl::Status& status, const char* before, uint64_t bytes, const char* after) {
  return absl::Status(status.code(), absl::StrCat(std::string(status.message()), before, bytes, after));
}

// The whole import is one transaction: the object is there complete, or not at all, or still the old one.
absl::StatusOr<uint64_t> Import(Store& store, InputFile& input, const std::string& name) {
  Transaction transaction = store.Begin();
  if (absl::GetFlag(FLAGS_force) && store.OpenObject(name).ok()) {
    if (absl::Status removed = transaction.Remove(name); !removed.ok()) return removed;
  }
  absl::StatusOr<Object> object = transaction.CreateObject(name);
  if (!object.ok()) return WithForceHint(object.status());
  Progress progress("put", !absl::GetFlag(FLAGS_quiet));
  std::vector<std::byte> piece(kFilePieceBytes);
  uint64_t offset = 0;
  while (true) {
    absl::StatusOr<size_t> count = input.Read(piece);
    if (!count.ok()) return count.status();
    if (*count == 0) break;
    if (absl::Status written = transaction.Write(*object, offset, std::span(piece).first(*count));
        !written.ok()) {
      return WithProgress(written, " (after ", offset, " bytes of the input; the store is as before)");
    }
    offset += *count;
    progress.Update(offset, input.size());
    if (*count < piece.size()) break;
  }
  if (absl::Status committed = transaction.Commit(DurabilityFromFlags()); !committed.ok()) return committed;
  return offset;
}

int RunPut(const Invocation& invocation) {
  const std::string& path = invocation.arguments[1];
  if (invocation.arguments.size() < 3 && path == "-")
    return invocation.Misuse("input from stdin needs a NAME");
  const std::string name = invocation.arguments.size() > 2 ? invocation.arguments[2] : LastComponent(path);
  const Summary summary;
  if (IsStore(invocation, path)) return invocation.Misuse(kFileIsStore);
  absl::StatusOr<InputFile> input = InputFile::Open(path);
  if (!input.ok()) return invocation.Fail(input.status());
  if (path != "-") {
    if (absl::Status s = CheckSqliteFileIsWhole(path, *input); !s.ok()) return invocation.Fail(s);
  }
  absl::StatusOr<OpenStore> open = OpenForChange(invocation);
  if (!open.ok()) return invocation.Fail(open.status());
  const absl::StatusOr<uint64_t> imported = Import(*open->store, *input, name);
  const int exit_code = Finish(invocation, *open, imported.status());
  if (exit_code == kExitOk) summary.Print(invocation, name, *imported);
  return exit_code;
}

// Copies [offset, end) of the object, or up to its end.
absl::StatusOr<uint64_t> Export(const Object& object, uint64_t offset, uint64_t length, OutputFile& output,
                                Progress* progress) {
  std::vector<std::byte> piece(kFilePieceBytes);
  uint64_t done = 0;
  while (done < length) {
    const size_t wanted = static_cast<size_t>(std::min<uint64_t>(piece.size(), length - done));
    absl::StatusOr<size_t> count =
        object.Read(offset + done, std::span(piece).first(wanted), {.bypass_cache = true});
    if (!count.ok()) return count.status();
    if (*count == 0) break;
    if (absl::Status written = output.Write(std::span(piece).first(*count)); !written.ok()) return written;
    done += *count;
    if (progress != nullptr) progress->Update(done, length);
  }
  if (absl::Status finished = output.Finish(); !finished.ok()) return finished;
  return done;
}

int RunGet(const Invocation& invocation) {
  const std::string& name = invocation.arguments[1];
  const std::string path = invocation.arguments.size() > 2 ? invocation.arguments[2] : LastComponent(name);
  if (path.empty() || path == "." || path == "..") {
    return invocation.Misuse("the object's name cannot be a file's: name the FILE");
  }
  if (IsStore(invocation, path)) return invocation.Misuse(kFileIsStore);
  if (path != "-") {
    if (absl::Status s = CheckSqliteWouldLeaveAlone(path); !s.ok()) return invocation.Fail(s);
  }
  const Summary summary;
  auto store = Store::Open(invocation.arguments[0], OpenOptionsFromFlags(/*read_only=*/true));
  if (!store.ok()) return invocation.Fail(store.status());
  absl::StatusOr<Object> object = (*store)->OpenObject(name);
  if (!object.ok()) return invocation.Fail(object.status());
  absl::StatusOr<uint64_t> size = object->Size();
  if (!size.ok()) return invocation.Fail(size.status());
  absl::StatusOr<OutputFile> output = OutputFile::Create(path, absl::GetFlag(FLAGS_force));
  if (!output.ok()) return invocation.Fail(WithForceHint(output.status()));
  absl::StatusOr<uint64_t> exported;
  {
    Progress progress("get", !absl::GetFlag(FLAGS_quiet));
    exported = Export(*object, 0, *size, *output, &progress);
  }
  if (!exported.ok()) return invocation.Fail(exported.status());
  summary.Print(invocation, name, *exported);
  return kExitOk;
}

int RunRead(const Invocation& invocation) {
  const std::string path = invocation.arguments.size() > 2 ? invocation.arguments[2] : "-";
  if (IsStore(invocation, path)) return invocation.Misuse(kFileIsStore);
  auto store = Store::Open(invocation.arguments[0], OpenOptionsFromFlags(/*read_only=*/true));
  if (!store.ok()) return invocation.Fail(store.status());
  absl::StatusOr<Object> object = (*store)->OpenObject(invocation.arguments[1]);
  if (!object.ok()) return invocation.Fail(object.status());
  absl::StatusOr<OutputFile> output = OutputFile::Create(path, absl::GetFlag(FLAGS_force));
  if (!output.ok()) return invocation.Fail(WithForceHint(output.status()));
  const absl::StatusOr<uint64_t> done =
      Export(*object, absl::GetFlag(FLAGS_offset).bytes, absl::GetFlag(FLAGS_length).bytes, *output, nullptr);
  return done.ok() ? kExitOk : invocation.Fail(done.status());
}

absl::StatusOr<uint64_t> WriteAtomically(Store& store, const std::string& name, uint64_t offset,
                                         InputFile& input) {
  const uint64_t limit = store.info().atomic_write_bytes_max;
  std::vector<std::byte> data;
  while (true) {
    const size_t before = data.size();
    data.resize(before + kFilePieceBytes);
    absl::StatusOr<size_t> count = input.Read(std::span(data).subspan(before));
    if (!count.ok()) return count.status();
    data.resize(before + *count);
    if (data.size() > limit) {
      return absl::InvalidArgumentError(
          absl::StrCat("the input is larger than the ", limit,
                       " bytes that one atomic write may have; --no-atomic or 'untorn "
                       "put' takes any size"));
    }
    if (*count < kFilePieceBytes) break;
  }
  absl::StatusOr<Object> object = store.OpenObject(name);
  absl::Status done;
  if (absl::IsNotFound(object.status()) && absl::GetFlag(FLAGS_create)) {
    Transaction transaction = store.Begin();
    object = transaction.CreateObject(name);
    if (!object.ok()) return object.status();
    if (done = transaction.Write(*object, offset, data); !done.ok()) return done;
    done = transaction.Commit(DurabilityFromFlags());
  } else {
    if (!object.ok()) return object.status();
    done = object->Write(offset, data, {.atomic = true, .durability = DurabilityFromFlags()});
  }
  if (!done.ok()) return done;
  return data.size();
}

absl::StatusOr<uint64_t> WriteInPieces(Store& store, const std::string& name, uint64_t offset,
                                       InputFile& input) {
  absl::StatusOr<Object> object = store.OpenObject(name);
  if (absl::IsNotFound(object.status()) && absl::GetFlag(FLAGS_create)) object = store.CreateObject(name);
  if (!object.ok()) return object.status();
  std::vector<std::byte> piece(kFilePieceBytes);
  uint64_t done = 0;
  while (true) {
    absl::StatusOr<size_t> count = input.Read(piece);
    absl::Status status = count.status();
    if (status.ok() && *count == 0) break;
    if (status.ok()) {
      status = object->Write(offset + done, std::span(piece).first(*count), {.atomic = false});
    }
    if (!status.ok()) return WithProgress(status, " (the ", done, " bytes before are written)");
    done += *count;
  }
  if (absl::GetFlag(FLAGS_sync)) {
    if (absl::Status synced = object->Sync(); !synced.ok()) return synced;
  }
  return done;
}

int RunWrite(const Invocation& invocation) {
  const std::string& name = invocation.arguments[1];
  const std::string path = invocation.arguments.size() > 2 ? invocation.arguments[2] : "-";
  if (IsStore(invocation, path)) return invocation.Misuse(kFileIsStore);
  const Summary summary;
  absl::StatusOr<InputFile> input = InputFile::Open(path);
  if (!input.ok()) return invocation.Fail(input.status());
  absl::StatusOr<OpenStore> open = OpenForChange(invocation);
  if (!open.ok()) return invocation.Fail(open.status());
  const uint64_t offset = absl::GetFlag(FLAGS_offset).bytes;
  const absl::StatusOr<uint64_t> written = absl::GetFlag(FLAGS_atomic)
                                               ? WriteAtomically(*open->store, name, offset, *input)
                                               : WriteInPieces(*open->store, name, offset, *input);
  const int exit_code = Finish(invocation, *open, written.status());
  if (exit_code == kExitOk) summary.Print(invocation, name, *written);
  return exit_code;
}

}  // namespace

std::vector<Command> TransferCommands() {
  return {
      {.name = "put",
       .arguments = "STORE FILE [NAME]",
       .summary = "Imports a file as an object",
       .description =
           "FILE may be - for stdin. NAME is FILE's last component unless given. The import is one "
           "transaction, of any size: if it fails or is interrupted, the store is as before.\n\n"
           "Fails if the object exists, unless --force is given: then it is replaced in the same atomic "
           "step.\n\n"
           "A database of SQLite is refused while a hot journal or a write-ahead log beside it holds a part "
           "of "
           "it; the message says how to settle that.",
       .options = WithOpenOptions(
           {{"force", "", "replace an existing object"}, {"sync"}, {"policy", "POLICY"}, {"show_stats"}}),
       .examples = "untorn put app.untorn data.bin\nuntorn put app.untorn /backup/data.bin data --force\n"
                   "tar c dir | untorn put app.untorn - dir.tar",
       .min_arguments = 2,
       .max_arguments = 3,
       .run = RunPut},
      {.name = "get",
       .arguments = "STORE NAME [FILE]",
       .summary = "Exports an object as a file",
       .description =
           "FILE may be - for stdout; without it, it is NAME's last component, in the current directory. "
           "The file appears under its name only when it is complete and durable. Changes nothing in "
           "the store.\n\nFails if FILE exists, unless --force is given; and if a journal of SQLite lies "
           "beside it, which "
           "would be applied to it.",
       .options = WithOpenOptions({{"force", "", "replace an existing file"}}),
       .examples = "untorn get app.untorn data.bin\nuntorn get app.untorn data.bin - | sha256sum",
       .min_arguments = 2,
       .max_arguments = 3,
       .run = RunGet},
      {.name = "write",
       .arguments = "STORE NAME [FILE]",
       .summary = "Writes into an object: one atomic write at any byte offset",
       .description =
           "Takes the data from FILE, or from stdin, to its end. After a crash, at any moment, the object "
           "holds all of the write or none of it. The object must exist unless --create is given, and grows "
           "if the write ends beyond its end. 'untorn info' tells how large one atomic write may be.",
       .options = WithOpenOptions(
           {{"offset", "N"}, {"atomic"}, {"create"}, {"sync"}, {"policy", "POLICY"}, {"show_stats"}}),
       .examples =
           "untorn write app.untorn data.bin --offset=64K < page\n"
           "untorn write app.untorn settings new-settings.json --create\n"
           "head -c 16K /dev/urandom | untorn write app.untorn data.bin --atomic-unit=16K --show-stats",
       .min_arguments = 2,
       .max_arguments = 3,
       .run = RunWrite,
       .findings =
           "the operation failed; nothing was changed, but for --no-atomic: the message says how much was "
           "written"},
      {.name = "read",
       .arguments = "STORE NAME [FILE]",
       .summary = "Reads a range of an object",
       .description =
           "Writes to FILE, or to stdout. The range ends where the object ends: less comes out, and nothing "
           "where it begins beyond. Changes nothing in the store.",
       .options =
           WithOpenOptions({{"offset", "N"}, {"length", "SIZE"}, {"force", "", "replace an existing file"}}),
       .examples = "untorn read app.untorn data.bin --offset=64K --length=16K > page",
       .min_arguments = 2,
       .max_arguments = 3,
       .run = RunRead},
  };
}

}  // namespace untorn::tools
