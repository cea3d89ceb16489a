// The subjects of the benchmark.
#ifndef UNTORN_BENCH_STORES_H_
#define UNTORN_BENCH_STORES_H_

#include <string>
#include <vector>

#include "bench/page_store.h"
#include "bench/sqlite_database.h"
#include "untorn/options.h"

namespace untorn::bench {

// `stated_unit_bytes`: 0: there is no fast path. `percent_full`: what its pages take of the store; 0: a third or less.
Subject UntornSubject(const std::string& name, WritePolicy policy, uint64_t stated_unit_bytes,
                      int percent_full = 0);

// Peers, each at its documented durable settings.
Subject SqliteSubject(SqliteKind kind = SqliteKind::kWal);
Subject LmdbSubject();
Subject RocksdbSubject();

// One durable write for each commit, plain, or with the copy and the hashes that a store has to make. The subjects are the
// two roads of the kernel to it. Which is faster depends on the disk.
extern const char kRaw[], kRawHashed[];
std::vector<Subject> RawWriteSubjects(const std::string& name);
// The same with RWF_ATOMIC: the file system has to support it.
Subject RawAtomicSubject(const std::string& name);
Subject RawPackedSubject();

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_STORES_H_
