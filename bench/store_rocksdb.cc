#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/version.h>
#include <rocksdb/write_batch.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "bench/stores.h"

namespace untorn::bench {
namespace {

absl::Status Check(const rocksdb::Status& s) {
  if (s.ok()) return absl::OkStatus();
  return s.IsNotFound() ? absl::NotFoundError("never written")
                        : absl::InternalError("RocksDB: " + s.ToString());
}

class RocksdbStore : public PageStore {
 public:
  static absl::StatusOr<std::unique_ptr<PageStore>> Open(const PageStoreOptions& options, bool) {
    auto store = std::make_unique<RocksdbStore>();
    store->options_ = options;
    rocksdb::BlockBasedTableOptions table;
    table.block_cache = rocksdb::NewLRUCache(options.cache_bytes);
    rocksdb::Options rocks;
    rocks.create_if_missing = true;
    rocks.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
    rocks.compression = rocksdb::kNoCompression;  // pages are random bytes
    rocksdb::DB* db = nullptr;
    if (absl::Status s = Check(rocksdb::DB::Open(rocks, options.directory + "/rocksdb", &db)); !s.ok())
      return s;
    store->db_.reset(db);
    return store;
  }

  absl::Status Commit(int, std::span<const PageWrite> pages) override {
    rocksdb::WriteBatch batch;
    for (const PageWrite& p : pages) {
      const uint64_t id = Key(p.object, p.page);
      batch.Put(Slice(id), {reinterpret_cast<const char*>(p.data), options_.page_bytes});
    }
    rocksdb::WriteOptions sync;
    sync.sync = true;
    return Check(db_->Write(sync, &batch));
  }

  absl::Status Read(int, uint32_t object, uint64_t page, std::byte* out) override {
    const uint64_t id = Key(object, page);
    rocksdb::PinnableSlice value;
    absl::Status s = Check(db_->Get({}, db_->DefaultColumnFamily(), Slice(id), &value));
    if (s.ok()) std::memcpy(out, value.data(), value.size());
    return s;
  }

 private:
  // In the order of pages.
  uint64_t Key(uint32_t object, uint64_t page) const {
    return __builtin_bswap64(object * options_.pages + page);
  }
  static rocksdb::Slice Slice(const uint64_t& id) { return {reinterpret_cast<const char*>(&id), sizeof(id)}; }
  PageStoreOptions options_;
  std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace

Subject RocksdbSubject() {
  return {"RocksDB",
          absl::StrCat("RocksDB ", ROCKSDB_MAJOR, ".", ROCKSDB_MINOR, ".", ROCKSDB_PATCH,
                       ", WriteOptions::sync, no compression (pages are random bytes)"),
          RocksdbStore::Open};
}

}  // namespace untorn::bench
