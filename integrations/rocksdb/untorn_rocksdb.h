// RocksDB on untorn: a FileSystem whose files are objects of an untorn store.
//
//     auto fs = untorn::rocks::NewFileSystem("untorn:///srv/db.untorn");
//     std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(*fs);
//     options.env = env.get();
//     rocksdb::DB::Open(options, "/db", &db);
//
// Programs that take --fs_uri need no code: untorn_rocksdb.so, by LD_PRELOAD, or RegisterFileSystem() makes URIs known to
// RocksDB.
//
//     untorn://PATH[?PARAMETER=VALUE&...]     "untorn:///srv/db.untorn", "untorn://db.untorn?store_size=1073741824"
//
//     mode=ro              reads only. The store may be open for writing elsewhere: what is read is then the state at the
//                          opening.
//     store_create=0       does not create the store if it is not there
//     store_size=BYTES     limits a store that is created (CreateOptions::size_bytes)
//     store_cache_mib=N    limits the store's cache (OpenOptions::cache_bytes)
//     store_atomic_unit=N  is the operator's word (OpenOptions::stated_atomic_unit_bytes)
//
// A process has each store open once. The first URI of a store decides its parameters.
//
// Crash behaviour: a kill of the process is to RocksDB what a power cut is on a file system. What a Sync() has covered is
// there, and so is every rename. The end of a file that was not synced is lost, as it is on a file system at a power cut. So
// writes without WriteOptions::sync may be lost at a kill, in the order of the log, too.
//
// Threading: any thread may call any function.
#ifndef UNTORN_INTEGRATIONS_ROCKSDB_UNTORN_ROCKSDB_H_
#define UNTORN_INTEGRATIONS_ROCKSDB_UNTORN_ROCKSDB_H_

#include <rocksdb/file_system.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "untorn/store.h"

namespace untorn::rocks {

// Opens the store that `uri` names, and creates it if it is not there. Errors of Store::Open and Store::Create.
//  kInvalidArgument     the URI has another form, an unknown parameter, or a value out of range
absl::StatusOr<std::shared_ptr<::rocksdb::FileSystem>> NewFileSystem(const std::string& uri);

// Uses a store that the caller has opened, and that must outlive the file system.
std::shared_ptr<::rocksdb::FileSystem> NewFileSystem(Store& store);

// Makes RocksDB know URIs that begin with "untorn://". May be called again.
void RegisterFileSystem();

}  // namespace untorn::rocks

#endif  // UNTORN_INTEGRATIONS_ROCKSDB_UNTORN_ROCKSDB_H_
