// ls, rm, mv, truncate.
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "inspect/printable.h"
#include "tools/commands.h"
#include "tools/flags.h"
#include "tools/output.h"
#include "untorn/store.h"

namespace untorn::tools {
namespace {

constexpr size_t kAnyNumber = std::numeric_limits<size_t>::max();

using Change = absl::Status (*)(const Invocation&, Store&);

// Opens the store for writing, makes the change and closes the store.
int RunChange(const Invocation& invocation, Change change) {
  auto store = Store::Open(invocation.arguments[0], OpenOptionsFromFlags(/*read_only=*/false));
  if (!store.ok()) return invocation.Fail(store.status());
  const absl::Status changed = change(invocation, **store);
  return invocation.Finish(changed, (*store)->Close());
}

int RunLs(const Invocation& invocation) {
  auto store = Store::Open(invocation.arguments[0], OpenOptionsFromFlags(/*read_only=*/true));
  if (!store.ok()) return invocation.Fail(store.status());
  const bool as_json = absl::GetFlag(FLAGS_json);
  Json objects = Json::array();
  std::string after;
  while (true) {
    absl::StatusOr<std::vector<ObjectInfo>> page = (*store)->List(after);
    if (!page.ok()) return invocation.Fail(page.status());
    if (page->empty()) break;
    for (const ObjectInfo& object : *page) {
      if (as_json) {
        Json json = NameJson(object.name);
        json["id"] = object.id;
        json["size_bytes"] = object.size_bytes;
        objects.push_back(std::move(json));
      } else {
        PrintText(absl::StrFormat("%14d  %s\n", object.size_bytes, Printable(object.name)));
      }
    }
    after = page->back().name;
  }
  if (as_json) PrintJson(objects);
  return kExitOk;
}

absl::Status Remove(const Invocation& invocation, Store& store) {
  if (invocation.arguments.size() == 2) return store.Remove(invocation.arguments[1], DurabilityFromFlags());
  Transaction transaction = store.Begin();
  for (size_t i = 1; i < invocation.arguments.size(); ++i) {
    if (absl::Status removed = transaction.Remove(invocation.arguments[i]); !removed.ok()) return removed;
  }
  return transaction.Commit(DurabilityFromFlags());
}

absl::Status Rename(const Invocation& invocation, Store& store) {
  const std::string& from = invocation.arguments[1];
  const std::string& to = invocation.arguments[2];
  if (!absl::GetFlag(FLAGS_force) || from == to || !store.OpenObject(to).ok()) {
    return store.Rename(from, to, DurabilityFromFlags());
  }
  Transaction transaction = store.Begin();
  if (absl::Status removed = transaction.Remove(to); !removed.ok()) return removed;
  if (absl::Status renamed = transaction.Rename(from, to); !renamed.ok()) return renamed;
  return transaction.Commit(DurabilityFromFlags());
}

absl::Status Truncate(const Invocation& invocation, Store& store) {
  absl::StatusOr<Object> object = store.OpenObject(invocation.arguments[1]);
  if (!object.ok()) return object.status();
  return object->Truncate(absl::GetFlag(FLAGS_size).bytes, DurabilityFromFlags());
}

int RunRm(const Invocation& invocation) { return RunChange(invocation, Remove); }

int RunMv(const Invocation& invocation) { return RunChange(invocation, Rename); }

int RunTruncate(const Invocation& invocation) {
  if (!absl::GetFlag(FLAGS_size).given()) return invocation.Misuse("the new size is needed: --size");
  return RunChange(invocation, Truncate);
}

}  // namespace

std::vector<Command> ObjectCommands() {
  return {
      {.name = "ls",
       .arguments = "STORE",
       .summary = "Lists the objects of a store",
       .description =
           "Prints size in bytes and name, in byte order of the names. Bytes of a name that cannot be "
           "printed are shown as escapes; with --json such a name comes in hexadecimal too. Changes nothing.",
       .options = WithOpenOptions({{"json"}}),
       .examples = "untorn ls app.untorn\nuntorn ls app.untorn --json",
       .min_arguments = 1,
       .max_arguments = 1,
       .run = RunLs},
      {.name = "rm",
       .arguments = "STORE NAME...",
       .summary = "Removes objects",
       .description =
           "All of them in one atomic step: if one cannot be removed, none is. Their space comes back. "
           "Works on a full store.",
       .options = WithOpenOptions({{"sync"}}),
       .examples =
           "untorn rm app.untorn old.bin\nuntorn rm app.untorn a b c\nuntorn rm app.untorn -- --strange-name",
       .min_arguments = 2,
       .max_arguments = kAnyNumber,
       .run = RunRm},
      {.name = "mv",
       .arguments = "STORE FROM TO",
       .summary = "Renames an object",
       .description =
           "Atomic. Fails if an object TO exists, unless --force is given: then TO is replaced in the same "
           "atomic step.",
       .options = WithOpenOptions({{"force", "", "replace an existing object TO"}, {"sync"}}),
       .examples = "untorn mv app.untorn data.new data --force",
       .min_arguments = 3,
       .max_arguments = 3,
       .run = RunMv},
      {.name = "truncate",
       .arguments = "STORE NAME",
       .summary = "Sets the size of an object",
       .description =
           "Atomic. What lies beyond the new size is dropped and its space comes back; an object that grows "
           "reads as zeros there. Works on a full store.",
       .options = WithOpenOptions({{"size", "SIZE", "the new size"}, {"sync"}}),
       .examples = "untorn truncate app.untorn data.bin --size=1M",
       .min_arguments = 2,
       .max_arguments = 2,
       .run = RunTruncate},
  };
}

}  // namespace untorn::tools
