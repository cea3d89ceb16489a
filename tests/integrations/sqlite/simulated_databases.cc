#include "tests/integrations/sqlite/simulated_databases.h"

#include <xxhash.h>

#include <atomic>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "integrations/sqlite/untorn_sqlite.h"
#include "store/on_device.h"

namespace untorn::sqlite {

std::shared_ptr<SimulatedDisk> SimulatedDatabases::NewDisk(uint64_t bytes) {
  auto disk = std::make_shared<SimulatedDisk>(bytes);
  SimulatedDevice device(disk, {.size_bytes = bytes});
  EXPECT_TRUE(internal::CreateOnDevice(device, {}).ok());
  return disk;
}

absl::StatusOr<std::unique_ptr<SimulatedDatabases>> SimulatedDatabases::Open(
    std::shared_ptr<SimulatedDisk> disk, const SimulatedDeviceOptions& options, const std::string& vfs) {
  static std::atomic<int> opened = 0;
  if (untorn_sqlite_register(0) != SQLITE_OK) return absl::InternalError("the VFS cannot be registered");
  std::unique_ptr<SimulatedDatabases> databases(new SimulatedDatabases);
  databases->disk_ = disk;
  databases->vfs_ = vfs;
  databases->path_ = absl::StrCat("/simulated/", ++opened);
  auto device = std::make_unique<SimulatedDevice>(std::move(disk), options);
  databases->device_ = device.get();
  absl::StatusOr<std::unique_ptr<Store>> store =
      internal::OpenOnDevice(std::move(device), {.cache_bytes = 4 << 20}, false);
  if (!store.ok()) return store.status();
  absl::StatusOr<SharedStore::Use> use =
      StoresOfProcess<SharedStore>::Adopt(databases->path_, *std::move(store));
  if (!use.ok()) return use.status();
  databases->store_ = *std::move(use);
  Connection& connection = databases->connection_.emplace(databases->Uri("one.db"));
  if (connection.rc() != SQLITE_OK) return absl::InternalError(connection.error());
  const std::string attached = connection(absl::StrCat("ATTACH '", databases->Uri("two.db"), "' AS two"));
  if (!attached.empty()) return absl::InternalError(attached);
  return databases;
}

SimulatedDatabases::~SimulatedDatabases() {
  disk_->SetObserver(nullptr);
  std::mt19937_64 rng(1);
  disk_->Kill(rng);
}

std::string SimulatedDatabases::Uri(const std::string& name) const {
  return absl::StrCat("file:", name, "?vfs=", vfs_, "&store=", path_);
}

std::string Contents(Connection& connection) {
  std::string all;
  for (const char* schema : {"main", "two"}) {
    absl::StrAppend(&all, all.empty() ? "" : "; ", schema, ": ",
                    connection(absl::StrCat("SELECT sql FROM ", schema, ".sqlite_schema ORDER BY name")));
    for (const char* table : {"t", "u"}) {
      const std::string rows = connection(absl::StrCat("SELECT * FROM ", schema, ".", table));
      // A table that is missing is missing in the schema.
      if (connection.rc() == SQLITE_ERROR) continue;
      absl::StrAppend(&all, "; ", table, ": ");
      if (connection.rc() == SQLITE_OK)
        absl::StrAppend(&all, rows.size(), " bytes, ", absl::Hex(XXH3_64bits(rows.data(), rows.size())));
      else
        absl::StrAppend(&all, rows);
    }
  }
  return all;
}

std::string Unsound(SimulatedDatabases& databases) {
  const std::string checked = databases("PRAGMA main.integrity_check; PRAGMA two.integrity_check");
  if (checked != "ok ok") return checked;
  const absl::StatusOr<std::vector<ObjectInfo>> objects = databases.store().List();
  if (!objects.ok()) return objects.status().ToString();
  for (const ObjectInfo& object : *objects) {
    if (object.name != "one.db" && object.name != "two.db") return "in the store is '" + object.name + "'";
  }
  return "";
}

}  // namespace untorn::sqlite
