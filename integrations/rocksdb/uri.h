// The URI of a store (untorn_rocksdb.h).
#ifndef UNTORN_INTEGRATIONS_ROCKSDB_URI_H_
#define UNTORN_INTEGRATIONS_ROCKSDB_URI_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "integrations/stores_of_process.h"

namespace untorn::rocks {

inline constexpr std::string_view kScheme = "untorn://";

struct StoreUri {
  std::string path;  // canonical
  StoreOptions options;
};

//  kInvalidArgument     the URI has another form, an unknown parameter, or a value out of range
absl::StatusOr<StoreUri> ParseUri(std::string_view uri);

}  // namespace untorn::rocks

#endif  // UNTORN_INTEGRATIONS_ROCKSDB_URI_H_
