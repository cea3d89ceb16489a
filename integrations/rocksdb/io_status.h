// Errors of the store as RocksDB understands them.
#ifndef UNTORN_INTEGRATIONS_ROCKSDB_IO_STATUS_H_
#define UNTORN_INTEGRATIONS_ROCKSDB_IO_STATUS_H_

#include <rocksdb/io_status.h>

#include <string_view>

#include "absl/status/status.h"

namespace untorn::rocks {

// `what` and `name` say what was done, and with which file: "rename", "/db/CURRENT".
::rocksdb::IOStatus ToIoStatus(const absl::Status& status, std::string_view what, std::string_view name);

}  // namespace untorn::rocks

#endif  // UNTORN_INTEGRATIONS_ROCKSDB_IO_STATUS_H_
