// The works of the benchmark. Each adds its ratios, bars and figures to the results.
#ifndef UNTORN_BENCH_WORKS_H_
#define UNTORN_BENCH_WORKS_H_

#include <string>

#include "absl/status/status.h"
#include "bench/compare.h"
#include "bench/results.h"

namespace untorn::bench {

struct Setting {
  std::string directory;  // for the stores, on the file system to be measured; there, and removed afterwards
  bool quick = false;
  Pace pace;
  std::string on;  // is added to the name of each work: " on a fast disk"
};

// Durable transactions of one client, and of many on one object and on several.
absl::Status DurableWorks(const Setting& setting, Results* results);
absl::Status ManyClientsWorks(const Setting& setting, Results* results);
// Reads and durable updates of pages of which some are much more often used.
absl::Status MixedWorks(const Setting& setting, Results* results);
// Writing back a set of dirty pages, and reading from end to end what was overwritten at random, beside sequential I/O.
absl::Status WritebackWorks(const Setting& setting, Results* results);
// A store that is nearly full, new and after it has been overwritten.
absl::Status AgeingWorks(const Setting& setting, Results* results);
// The same writes in a store with few mappings and in one with many.
absl::Status MappingsWorks(const Setting& setting, Results* results);
// Batches of buffered atomic writes by three policies, on the file system and on simulated devices.
absl::Status PolicyWorks(const Setting& setting, Results* results);
// SQLite on untorn beside SQLite with a write-ahead log and with a rollback journal.
absl::Status SqliteWorks(const Setting& setting, Results* results);
// RocksDB on untorn beside RocksDB on the file system: only where db_bench is.
absl::Status RocksdbWorks(const Setting& setting, Results* results);
// The longest commits among many, in the virtual time of a simulated device.
absl::Status LatencyWorks(const Setting& setting, Results* results);
// Beside the atomic writes of XFS, which is made in a file and mounted for it: only where root does it.
absl::Status XfsWorks(const Setting& setting, Results* results);
// Those of the works above in which clients wait for their commits, on a disk that is as fast as memory: only where
// root does it.
absl::Status FastWorks(const Setting& setting, Results* results);
// Buffered atomic writes and cached reads beside memcpy and the page cache.
absl::Status MemoryWorks(const Setting& setting, Results* results);

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_WORKS_H_
