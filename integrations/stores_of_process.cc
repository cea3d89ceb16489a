#include "integrations/stores_of_process.h"

namespace untorn {

absl::StatusOr<std::unique_ptr<Store>> OpenOrCreate(const std::string& path, const StoreOptions& options) {
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(path, options.open);
  const bool refused = absl::IsFailedPrecondition(store.status()) || absl::IsPermissionDenied(store.status());
  if (refused && options.only_reads) {
    OpenOptions read_only = options.open;
    read_only.read_only = true;
    return Store::Open(path, read_only);
  }
  if (!absl::IsNotFound(store.status()) || !options.may_create) return store;
  const absl::Status created = Store::Create(path, options.create);
  // Another process may have been faster.
  if (!created.ok() && !absl::IsAlreadyExists(created)) return created;
  return Store::Open(path, options.open);
}

}  // namespace untorn
