#include <lmdb.h>

#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/stores.h"

namespace untorn::bench {
namespace {

absl::Status Check(int error) {
  return error == 0 ? absl::OkStatus() : absl::InternalError(absl::StrCat("LMDB: ", mdb_strerror(error)));
}

class LmdbStore : public PageStore {
 public:
  static absl::StatusOr<std::unique_ptr<PageStore>> Open(const PageStoreOptions& options, bool) {
    auto store = std::make_unique<LmdbStore>();
    store->options_ = options;
    const uint64_t set_bytes = options.page_bytes * options.pages * options.objects;
    const std::string path = options.directory + "/lmdb";
    if (absl::Status s = Check(mdb_env_create(&store->env_)); !s.ok()) return s;
    mdb_env_set_mapsize(store->env_, 4 * set_bytes + (64 << 20));
    mdb_env_set_maxreaders(store->env_, options.clients + 1);
    if (absl::Status s = Check(mdb_env_open(store->env_, path.c_str(), MDB_NOSUBDIR | MDB_NOTLS, 0644));
        !s.ok())
      return s;
    MDB_txn* txn = nullptr;
    if (absl::Status s = Check(mdb_txn_begin(store->env_, nullptr, 0, &txn)); !s.ok()) return s;
    if (absl::Status s = Check(mdb_dbi_open(txn, nullptr, MDB_INTEGERKEY, &store->dbi_)); !s.ok()) return s;
    if (absl::Status s = Check(mdb_txn_commit(txn)); !s.ok()) return s;
    store->readers_.resize(options.clients);
    return store;
  }
  ~LmdbStore() override {
    for (MDB_txn* reader : readers_) {
      if (reader != nullptr) mdb_txn_abort(reader);
    }
    if (env_ != nullptr) mdb_env_close(env_);
  }

  absl::Status Commit(int, std::span<const PageWrite> pages) override {
    MDB_txn* txn = nullptr;
    if (absl::Status s = Check(mdb_txn_begin(env_, nullptr, 0, &txn)); !s.ok()) return s;
    for (const PageWrite& p : pages) {
      uint64_t id = p.object * options_.pages + p.page;
      MDB_val key{sizeof(id), &id}, value{options_.page_bytes, const_cast<std::byte*>(p.data)};
      if (absl::Status s = Check(mdb_put(txn, dbi_, &key, &value, 0)); !s.ok()) {
        mdb_txn_abort(txn);
        return s;
      }
    }
    return Check(mdb_txn_commit(txn));
  }

  absl::Status Read(int client, uint32_t object, uint64_t page, std::byte* out) override {
    MDB_txn*& reader = readers_[client];
    const int begun =
        reader == nullptr ? mdb_txn_begin(env_, nullptr, MDB_RDONLY, &reader) : mdb_txn_renew(reader);
    if (absl::Status s = Check(begun); !s.ok()) return s;
    uint64_t id = object * options_.pages + page;
    MDB_val key{sizeof(id), &id}, value;
    const int error = mdb_get(reader, dbi_, &key, &value);
    if (error == 0) std::memcpy(out, value.mv_data, value.mv_size);
    mdb_txn_reset(reader);
    return error == MDB_NOTFOUND ? absl::NotFoundError("never written") : Check(error);
  }

 private:
  PageStoreOptions options_;
  MDB_env* env_ = nullptr;
  MDB_dbi dbi_ = 0;
  std::vector<MDB_txn*> readers_;
};

}  // namespace

Subject LmdbSubject() {
  return {"LMDB", absl::StrCat(mdb_version(nullptr, nullptr, nullptr), ", synchronous commits (the default)"),
          LmdbStore::Open};
}

}  // namespace untorn::bench
