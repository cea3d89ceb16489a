// The C API: hands each call on to the C++ API.
#include "untorn/c.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/memory_reserve.h"
#include "inspect/store_json.h"
#include "untorn/inspect.h"
#include "untorn/metrics.h"
#include "untorn/store.h"
#include "untorn/version.h"

struct untorn_store {
  std::unique_ptr<untorn::Store> store;
};
struct untorn_object {
  untorn::Object object;
};
struct untorn_transaction {
  untorn::Transaction transaction;
};

namespace {

using untorn::Durability;
using untorn::Object;

static_assert(UNTORN_DATA_LOSS == static_cast<int>(absl::StatusCode::kDataLoss) &&
              UNTORN_CANCELLED == static_cast<int>(absl::StatusCode::kCancelled) &&
              UNTORN_PERMISSION_DENIED == static_cast<int>(absl::StatusCode::kPermissionDenied));

// The message of the thread's last failure.
std::string& Message() {
  static thread_local std::string message;
  return message;
}

untorn_code CodeOf(const absl::Status& status) {
  const int code = status.raw_code();
  return *untorn_code_name(code) == '\0' ? UNTORN_INTERNAL : static_cast<untorn_code>(code);
}

untorn_code Told(const absl::Status& status) {
  const untorn::MemoryReserve::Use reserve;
  if (!status.ok()) Message() = std::string(status.message());
  return CodeOf(status);
}

// Runs the body of a function. The C++ API gives an error where there is no memory; here that is about arguments and handles.
template <typename Body>
untorn_code Call(Body body) noexcept {
  return Told(untorn::UnlessOutOfMemory([&] { return absl::Status(body()); }));
}

absl::Status Missing(const char* what) { return absl::InvalidArgumentError(std::string(what) + " is NULL"); }

// Reads a struct that may be of an older or newer program than the library. Without `from`, all members are 0.
template <typename Options>
absl::StatusOr<Options> Read(const Options* from) {
  Options options = {};
  if (from == nullptr) return options;
  if (from->struct_size < sizeof(size_t)) return absl::InvalidArgumentError("struct_size is not set");
  std::memcpy(&options, from, std::min(from->struct_size, sizeof(options)));
  // What this library does not know must be 0, which stands for the default.
  for (size_t at = sizeof(options); at < from->struct_size; ++at) {
    if (reinterpret_cast<const unsigned char*>(from)[at] != 0) {
      return absl::UnimplementedError("an option is set that this version of the library does not know: " +
                                      std::string(untorn::kVersion));
    }
  }
  return options;
}

Durability DurabilityOf(int flags) {
  return (flags & UNTORN_SYNC) != 0 ? Durability::kSync : Durability::kBuffered;
}
absl::Status CheckFlags(int flags, int known) {
  if ((flags & ~known) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError("unknown flags, or no durability: " + std::to_string(flags));
}
constexpr int kWriteFlags = UNTORN_SYNC | UNTORN_NOT_ATOMIC | UNTORN_BYPASS_CACHE;

absl::Status CheckMemory(const void* memory, size_t length) {
  return memory == nullptr && length > 0 ? Missing("the buffer") : absl::OkStatus();
}
absl::Status CheckPieces(const iovec* pieces, int count) {
  if (count < 0) return absl::InvalidArgumentError("count is negative");
  if (pieces == nullptr && count > 0) return Missing("the list of buffers");
  for (int i = 0; i < count; ++i) {
    if (absl::Status s = CheckMemory(pieces[i].iov_base, pieces[i].iov_len); !s.ok()) return s;
  }
  return absl::OkStatus();
}
untorn::WriteOptions WriteOptionsOf(int flags) {
  return {.atomic = (flags & UNTORN_NOT_ATOMIC) == 0,
          .durability = DurabilityOf(flags),
          .bypass_cache = (flags & UNTORN_BYPASS_CACHE) != 0};
}
untorn::ReadOptions ReadOptionsOf(int flags) { return {.bypass_cache = (flags & UNTORN_BYPASS_CACHE) != 0}; }

std::span<const std::byte> Bytes(const void* data, size_t length) {
  return {static_cast<const std::byte*>(data), length};
}
std::span<std::byte> Bytes(void* data, size_t length) { return {static_cast<std::byte*>(data), length}; }

// For a call that can be cancelled.
std::function<bool(uint64_t, uint64_t)> MayGoOn(untorn_progress_fn progress, void* context) {
  if (progress == nullptr) return nullptr;
  return [=](uint64_t done, uint64_t total) { return progress(context, done, total) != 0; };
}
std::function<void(uint64_t, uint64_t)> Progress(untorn_progress_fn progress, void* context) {
  if (progress == nullptr) return nullptr;
  return [=](uint64_t done, uint64_t total) { progress(context, done, total); };
}

absl::Status Hand(absl::StatusOr<Object> object, untorn_object** out) {
  if (!object.ok()) return object.status();
  const untorn::MemoryReserve::Use reserve;
  *out = new untorn_object{*std::move(object)};
  return absl::OkStatus();
}

template <typename Value>
absl::Status Hand(absl::StatusOr<Value> value, Value* out) {
  if (value.ok() && out != nullptr) *out = *value;
  return value.status();
}

absl::Status Hand(const std::string& text, char** out) {
  if (out == nullptr) return Missing("the result");
  *out = new char[text.size() + 1];
  std::memcpy(*out, text.c_str(), text.size() + 1);
  return absl::OkStatus();
}

absl::Status Hand(const absl::StatusOr<std::string>& text, char** out) {
  return text.ok() ? Hand(*text, out) : text.status();
}

std::string Text(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void Tell(untorn_done_fn done, void* context, const absl::Status& status, size_t got) {
  if (done != nullptr) done(context, CodeOf(status), std::string(status.message()).c_str(), got);
}

void TellFindings(const untorn_check_options& options, const untorn::FsckResult& result) {
  if (options.finding == nullptr) return;
  for (const untorn::Finding& f : result.findings)
    options.finding(options.context, static_cast<int>(f.code), FindingCodeName(f.code), f.what.c_str());
}

}  // namespace

// Return from the function if the argument is NULL, or the status is an error.
#define NEED(argument) \
  if ((argument) == nullptr) return Told(Missing(#argument))
#define CHECKED(status) \
  if (const absl::Status checked = (status); !checked.ok()) return Told(checked)

extern "C" {

const char* untorn_version() { return untorn::kVersion.data(); }
const char* untorn_message() { return Message().c_str(); }

const char* untorn_code_name(int code) {
  switch (code) {
    case UNTORN_OK:
      return "OK";
    case UNTORN_CANCELLED:
      return "CANCELLED";
    case UNTORN_UNKNOWN:
      return "UNKNOWN";
    case UNTORN_INVALID_ARGUMENT:
      return "INVALID_ARGUMENT";
    case UNTORN_NOT_FOUND:
      return "NOT_FOUND";
    case UNTORN_ALREADY_EXISTS:
      return "ALREADY_EXISTS";
    case UNTORN_PERMISSION_DENIED:
      return "PERMISSION_DENIED";
    case UNTORN_RESOURCE_EXHAUSTED:
      return "RESOURCE_EXHAUSTED";
    case UNTORN_FAILED_PRECONDITION:
      return "FAILED_PRECONDITION";
    case UNTORN_ABORTED:
      return "ABORTED";
    case UNTORN_OUT_OF_RANGE:
      return "OUT_OF_RANGE";
    case UNTORN_UNIMPLEMENTED:
      return "UNIMPLEMENTED";
    case UNTORN_INTERNAL:
      return "INTERNAL";
    case UNTORN_UNAVAILABLE:
      return "UNAVAILABLE";
    case UNTORN_DATA_LOSS:
      return "DATA_LOSS";
  }
  return "";
}

void untorn_free(char* string) { delete[] string; }

// ---- Stores ----

untorn_code untorn_store_create(const char* path, const untorn_create_options* options) {
  NEED(path);
  return Call([&]() -> absl::Status {
    const absl::StatusOr<untorn_create_options> o = Read(options);
    if (!o.ok()) return o.status();
    return untorn::Store::Create(path, {.size_bytes = o->size_bytes,
                                        .force = o->force != 0,
                                        .prepare = o->prepare != 0,
                                        .progress = Progress(o->progress, o->progress_context)});
  });
}

untorn_code untorn_store_open(const char* path, const untorn_open_options* options, untorn_store** store) {
  NEED(path);
  NEED(store);
  return Call([&]() -> absl::Status {
    const absl::StatusOr<untorn_open_options> o = Read(options);
    if (!o.ok()) return o.status();
    if (o->policy < UNTORN_AUTOMATIC || o->policy > UNTORN_HARDWARE_ONLY)
      return absl::InvalidArgumentError("there is no such policy");
    untorn::OpenOptions open;
    open.read_only = o->read_only != 0;
    open.policy = static_cast<untorn::WritePolicy>(o->policy);
    open.stated_atomic_unit_bytes = o->stated_atomic_unit_bytes;
    open.cache_bytes = o->cache_bytes;
    open.use_io_uring = o->no_io_uring == 0;
    if (o->log != nullptr) {
      open.log = [log = o->log, context = o->log_context](untorn::LogLevel level, std::string_view message) {
        log(context, static_cast<untorn_log_level>(level), std::string(message).c_str());
      };
    }
    absl::StatusOr<std::unique_ptr<untorn::Store>> opened = untorn::Store::Open(path, open);
    if (!opened.ok()) return opened.status();
    const untorn::MemoryReserve::Use reserve;
    *store = new untorn_store{*std::move(opened)};
    return absl::OkStatus();
  });
}

untorn_code untorn_store_close(untorn_store* store) {
  if (store == nullptr) return UNTORN_OK;
  const std::unique_ptr<untorn_store> owned(store);
  return Call([&] { return owned->store->Close(); });
}

untorn_code untorn_store_rename(untorn_store* store, const char* from, const char* to, int durability) {
  NEED(store);
  NEED(from);
  NEED(to);
  CHECKED(CheckFlags(durability, UNTORN_SYNC));
  return Call([&] { return store->store->Rename(from, to, DurabilityOf(durability)); });
}

untorn_code untorn_store_remove(untorn_store* store, const char* name, int durability) {
  NEED(store);
  NEED(name);
  CHECKED(CheckFlags(durability, UNTORN_SYNC));
  return Call([&] { return store->store->Remove(name, DurabilityOf(durability)); });
}

untorn_code untorn_store_list(untorn_store* store, const char* after, untorn_list_fn each, void* context) {
  NEED(store);
  NEED(each);
  return Call([&]() -> absl::Status {
    constexpr size_t kAtOnce = 1000;
    std::string last = after == nullptr ? "" : after;
    while (true) {
      const absl::StatusOr<std::vector<untorn::ObjectInfo>> some = store->store->List(last, kAtOnce);
      if (!some.ok()) return some.status();
      for (const untorn::ObjectInfo& o : *some) {
        if (each(context, o.name.c_str(), o.id, o.size_bytes) == 0) return absl::OkStatus();
      }
      if (some->size() < kAtOnce) return absl::OkStatus();
      last = some->back().name;
    }
  });
}

untorn_code untorn_store_barrier(untorn_store* store) {
  NEED(store);
  return Call([&] { return store->store->Barrier(); });
}
untorn_code untorn_store_sync(untorn_store* store) {
  NEED(store);
  return Call([&] { return store->store->Sync(); });
}
untorn_code untorn_store_refresh(untorn_store* store) {
  NEED(store);
  return Call([&] { return store->store->Refresh(); });
}
untorn_code untorn_store_checkpoint(untorn_store* store) {
  NEED(store);
  return Call([&] { return store->store->Checkpoint(); });
}

untorn_code untorn_store_resize(untorn_store* store, uint64_t size_bytes, untorn_progress_fn progress,
                                void* context) {
  NEED(store);
  return Call([&] { return store->store->Resize(size_bytes, {.progress = MayGoOn(progress, context)}); });
}

untorn_code untorn_store_trim(untorn_store* store, untorn_progress_fn progress, void* context,
                              uint64_t* before_bytes, uint64_t* after_bytes, uint64_t* moved_bytes) {
  NEED(store);
  return Call([&]() -> absl::Status {
    const absl::StatusOr<untorn::TrimResult> trimmed =
        store->store->Trim({.progress = MayGoOn(progress, context)});
    if (!trimmed.ok()) return trimmed.status();
    if (before_bytes != nullptr) *before_bytes = trimmed->before_bytes;
    if (after_bytes != nullptr) *after_bytes = trimmed->after_bytes;
    if (moved_bytes != nullptr) *moved_bytes = trimmed->moved_bytes;
    return absl::OkStatus();
  });
}

untorn_code untorn_store_scrub(untorn_store* store, const untorn_scrub_options* options,
                               untorn_scrub_result* result) {
  NEED(store);
  NEED(result);
  if (result->struct_size < sizeof(size_t)) return Told(absl::InvalidArgumentError("struct_size is not set"));
  return Call([&]() -> absl::Status {
    const absl::StatusOr<untorn_scrub_options> o = Read(options);
    if (!o.ok()) return o.status();
    const absl::StatusOr<untorn::ScrubResult> scrubbed = store->store->Scrub(
        {.bytes_per_second_max = o->bytes_per_second_max, .progress = MayGoOn(o->progress, o->context)});
    if (!scrubbed.ok()) return scrubbed.status();
    if (o->damage != nullptr) {
      for (const untorn::DamagedRange& d : scrubbed->damaged) {
        o->damage(o->context, d.object.c_str(), d.object_id, d.offset_bytes, d.length_bytes, d.why.c_str());
      }
    }
    const untorn_scrub_result known = {.struct_size = result->struct_size,
                                       .objects = scrubbed->objects,
                                       .bytes = scrubbed->bytes,
                                       .blocks_adopted = scrubbed->blocks_adopted,
                                       .damaged_total = scrubbed->damaged_total,
                                       .damaged_bytes = scrubbed->damaged_bytes};
    // As much as the program knows.
    std::memcpy(result, &known, std::min(result->struct_size, sizeof(known)));
    return absl::OkStatus();
  });
}

untorn_code untorn_store_info_json(untorn_store* store, char** json) {
  NEED(store);
  return Call([&] { return Hand(Text(untorn::InfoJson(store->store->info())), json); });
}
untorn_code untorn_store_stats_json(untorn_store* store, char** json) {
  NEED(store);
  return Call([&] { return Hand(Text(untorn::StatsJson(store->store->stats())), json); });
}
untorn_code untorn_store_metrics(untorn_store* store, char** text) {
  NEED(store);
  return Call(
      [&] { return Hand(untorn::PrometheusText(store->store->info(), store->store->stats()), text); });
}

// ---- Objects ----

untorn_code untorn_object_create(untorn_store* store, const char* name, int durability,
                                 untorn_object** object) {
  NEED(store);
  NEED(name);
  NEED(object);
  CHECKED(CheckFlags(durability, UNTORN_SYNC));
  return Call([&] { return Hand(store->store->CreateObject(name, DurabilityOf(durability)), object); });
}

untorn_code untorn_object_open(untorn_store* store, const char* name, untorn_object** object) {
  NEED(store);
  NEED(name);
  NEED(object);
  return Call([&] { return Hand(store->store->OpenObject(name), object); });
}

void untorn_object_free(untorn_object* object) { delete object; }

uint64_t untorn_object_id(const untorn_object* object) { return object == nullptr ? 0 : object->object.id(); }

untorn_code untorn_object_name(const untorn_object* object, char** name) {
  NEED(object);
  return Call([&] { return Hand(object->object.Name(), name); });
}

untorn_code untorn_object_size(const untorn_object* object, uint64_t* size) {
  NEED(object);
  NEED(size);
  return Call([&] { return Hand(object->object.Size(), size); });
}

untorn_code untorn_object_read(const untorn_object* object, uint64_t offset, void* out, size_t length,
                               int flags, size_t* got) {
  NEED(object);
  CHECKED(CheckMemory(out, length));
  CHECKED(CheckFlags(flags, UNTORN_BYPASS_CACHE));
  return Call(
      [&] { return Hand(object->object.Read(offset, Bytes(out, length), ReadOptionsOf(flags)), got); });
}

untorn_code untorn_object_readv(const untorn_object* object, uint64_t offset, const struct iovec* out,
                                int count, int flags, size_t* got) {
  NEED(object);
  CHECKED(CheckPieces(out, count));
  CHECKED(CheckFlags(flags, UNTORN_BYPASS_CACHE));
  return Call([&] {
    return Hand(object->object.ReadV(offset, {out, static_cast<size_t>(count)}, ReadOptionsOf(flags)), got);
  });
}

untorn_code untorn_object_write(const untorn_object* object, uint64_t offset, const void* data, size_t length,
                                int flags) {
  NEED(object);
  CHECKED(CheckMemory(data, length));
  CHECKED(CheckFlags(flags, kWriteFlags));
  return Call([&] { return object->object.Write(offset, Bytes(data, length), WriteOptionsOf(flags)); });
}

untorn_code untorn_object_writev(const untorn_object* object, uint64_t offset, const struct iovec* data,
                                 int count, int flags) {
  NEED(object);
  CHECKED(CheckPieces(data, count));
  CHECKED(CheckFlags(flags, kWriteFlags));
  return Call([&] {
    return object->object.WriteV(offset, {data, static_cast<size_t>(count)}, WriteOptionsOf(flags));
  });
}

void untorn_object_write_async(const untorn_object* object, uint64_t offset, const void* data, size_t length,
                               int flags, untorn_done_fn done, void* context) {
  absl::Status checked = object == nullptr ? Missing("object") : CheckMemory(data, length);
  checked.Update(CheckFlags(flags, kWriteFlags));
  if (!checked.ok()) return Tell(done, context, checked, 0);
  object->object.WriteAsync(offset, Bytes(data, length), WriteOptionsOf(flags),
                            [=](const absl::Status& status) { Tell(done, context, status, 0); });
}

void untorn_object_read_async(const untorn_object* object, uint64_t offset, void* out, size_t length,
                              int flags, untorn_done_fn done, void* context) {
  absl::Status checked = object == nullptr ? Missing("object") : CheckMemory(out, length);
  checked.Update(CheckFlags(flags, UNTORN_BYPASS_CACHE));
  if (!checked.ok()) return Tell(done, context, checked, 0);
  object->object.ReadAsync(
      offset, Bytes(out, length), ReadOptionsOf(flags),
      [=](const absl::StatusOr<size_t>& got) { Tell(done, context, got.status(), got.ok() ? *got : 0); });
}

untorn_code untorn_object_truncate(const untorn_object* object, uint64_t size, int durability) {
  NEED(object);
  CHECKED(CheckFlags(durability, UNTORN_SYNC));
  return Call([&] { return object->object.Truncate(size, DurabilityOf(durability)); });
}
untorn_code untorn_object_punch_hole(const untorn_object* object, uint64_t offset, uint64_t length,
                                     int durability) {
  NEED(object);
  CHECKED(CheckFlags(durability, UNTORN_SYNC));
  return Call([&] { return object->object.PunchHole(offset, length, DurabilityOf(durability)); });
}
untorn_code untorn_object_preallocate(const untorn_object* object, uint64_t offset, uint64_t length) {
  NEED(object);
  return Call([&] { return object->object.Preallocate(offset, length); });
}
untorn_code untorn_object_sync(const untorn_object* object) {
  NEED(object);
  return Call([&] { return object->object.Sync(); });
}
untorn_code untorn_object_sync_range(const untorn_object* object, uint64_t offset, uint64_t length) {
  NEED(object);
  return Call([&] { return object->object.SyncRange(offset, length); });
}

// ---- Transactions ----

untorn_code untorn_transaction_begin(untorn_store* store, untorn_transaction** transaction) {
  NEED(store);
  NEED(transaction);
  return Call([&] {
    const untorn::MemoryReserve::Use reserve;
    *transaction = new untorn_transaction{store->store->Begin()};
    return absl::OkStatus();
  });
}

void untorn_transaction_free(untorn_transaction* transaction) { delete transaction; }

untorn_code untorn_transaction_commit(untorn_transaction* transaction, int durability) {
  NEED(transaction);
  CHECKED(CheckFlags(durability, UNTORN_SYNC));
  return Call([&] { return transaction->transaction.Commit(DurabilityOf(durability)); });
}

untorn_code untorn_transaction_absorb(untorn_transaction* transaction, untorn_transaction* other) {
  NEED(transaction);
  NEED(other);
  return Call([&] { return transaction->transaction.Absorb(std::move(other->transaction)); });
}

untorn_code untorn_transaction_create(untorn_transaction* transaction, const char* name,
                                      untorn_object** object) {
  NEED(transaction);
  NEED(name);
  NEED(object);
  return Call([&] { return Hand(transaction->transaction.CreateObject(name), object); });
}

untorn_code untorn_transaction_open(untorn_transaction* transaction, const char* name,
                                    untorn_object** object) {
  NEED(transaction);
  NEED(name);
  NEED(object);
  return Call([&] { return Hand(transaction->transaction.OpenObject(name), object); });
}

untorn_code untorn_transaction_rename(untorn_transaction* transaction, const char* from, const char* to) {
  NEED(transaction);
  NEED(from);
  NEED(to);
  return Call([&] { return transaction->transaction.Rename(from, to); });
}

untorn_code untorn_transaction_remove(untorn_transaction* transaction, const char* name) {
  NEED(transaction);
  NEED(name);
  return Call([&] { return transaction->transaction.Remove(name); });
}

untorn_code untorn_transaction_read(untorn_transaction* transaction, const untorn_object* object,
                                    uint64_t offset, void* out, size_t length, size_t* got) {
  NEED(transaction);
  NEED(object);
  CHECKED(CheckMemory(out, length));
  return Call(
      [&] { return Hand(transaction->transaction.Read(object->object, offset, Bytes(out, length)), got); });
}

untorn_code untorn_transaction_write(untorn_transaction* transaction, const untorn_object* object,
                                     uint64_t offset, const void* data, size_t length) {
  NEED(transaction);
  NEED(object);
  CHECKED(CheckMemory(data, length));
  return Call([&] { return transaction->transaction.Write(object->object, offset, Bytes(data, length)); });
}

untorn_code untorn_transaction_truncate(untorn_transaction* transaction, const untorn_object* object,
                                        uint64_t size) {
  NEED(transaction);
  NEED(object);
  return Call([&] { return transaction->transaction.Truncate(object->object, size); });
}

untorn_code untorn_transaction_punch_hole(untorn_transaction* transaction, const untorn_object* object,
                                          uint64_t offset, uint64_t length) {
  NEED(transaction);
  NEED(object);
  return Call([&] { return transaction->transaction.PunchHole(object->object, offset, length); });
}

untorn_code untorn_transaction_size(untorn_transaction* transaction, const untorn_object* object,
                                    uint64_t* size) {
  NEED(transaction);
  NEED(object);
  NEED(size);
  return Call([&] { return Hand(transaction->transaction.Size(object->object), size); });
}

// ---- Stores that need not be fit to be opened ----

untorn_code untorn_fsck(const char* path, const untorn_check_options* options, uint64_t* findings) {
  NEED(path);
  NEED(findings);
  return Call([&]() -> absl::Status {
    const absl::StatusOr<untorn_check_options> o = Read(options);
    if (!o.ok()) return o.status();
    const absl::StatusOr<untorn::FsckResult> result =
        untorn::Fsck(path, {.data = o->data != 0, .progress = Progress(o->progress, o->context)});
    if (!result.ok()) return result.status();
    TellFindings(*o, *result);
    *findings = result->findings_total;
    return absl::OkStatus();
  });
}

untorn_code untorn_repair(const char* path, const untorn_check_options* options, uint64_t* actions,
                          uint64_t* quarantined) {
  NEED(path);
  return Call([&]() -> absl::Status {
    const absl::StatusOr<untorn_check_options> o = Read(options);
    if (!o.ok()) return o.status();
    const absl::StatusOr<untorn::RepairResult> result = untorn::Repair(
        path,
        {.dry_run = o->dry_run != 0, .planned = nullptr, .progress = Progress(o->progress, o->context)});
    if (!result.ok()) return result.status();
    TellFindings(*o, result->found);
    if (o->finding != nullptr) {
      for (const std::string& action : result->actions) o->finding(o->context, 0, "repair", action.c_str());
    }
    if (actions != nullptr) *actions = result->actions_total;
    if (quarantined != nullptr) *quarantined = result->quarantined;
    return absl::OkStatus();
  });
}

untorn_code untorn_dump_json(const char* path, char** json) {
  NEED(path);
  return Call([&] { return Hand(untorn::DumpJson(path, {}), json); });
}

}  // extern "C"
