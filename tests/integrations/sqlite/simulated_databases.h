// SQLite on a store on a simulated disk: the databases one.db, which is main, and two.db, attached as "two".
#ifndef UNTORN_TESTS_INTEGRATIONS_SQLITE_SIMULATED_DATABASES_H_
#define UNTORN_TESTS_INTEGRATIONS_SQLITE_SIMULATED_DATABASES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "integrations/sqlite/database.h"
#include "sim/simulated_device.h"
#include "tests/integrations/sqlite/connection.h"

namespace untorn::sqlite {

class SimulatedDatabases {
 public:
  // A disk with a store in which there is nothing yet.
  static std::shared_ptr<SimulatedDisk> NewDisk(uint64_t bytes);
  // The store has no threads of its own. The databases are created if they do not exist.
  static absl::StatusOr<std::unique_ptr<SimulatedDatabases>> Open(std::shared_ptr<SimulatedDisk> disk,
                                                                  const SimulatedDeviceOptions& options,
                                                                  const std::string& vfs = "untorn");
  // As by a kill: nothing more reaches the disk.
  ~SimulatedDatabases();

  // The first connection.
  Connection& connection() { return *connection_; }
  std::string operator()(const std::string& sql) { return connection()(sql); }
  std::string Uri(const std::string& name) const;
  SimulatedDevice& device() { return *device_; }
  Store& store() { return store_->store(); }
  const std::shared_ptr<SimulatedDisk>& disk() const { return disk_; }

 private:
  SimulatedDatabases() = default;

  std::shared_ptr<SimulatedDisk> disk_;
  SimulatedDevice* device_ = nullptr;  // the store's
  std::string path_, vfs_;
  SharedStore::Use store_;
  std::optional<Connection> connection_;
};

// The schemas of main and two and a hash of their rows, or the error of reading them.
std::string Contents(Connection& connection);
// "" or what is wrong with one of the databases, or with the names in the store.
std::string Unsound(SimulatedDatabases& databases);

}  // namespace untorn::sqlite

#endif  // UNTORN_TESTS_INTEGRATIONS_SQLITE_SIMULATED_DATABASES_H_
