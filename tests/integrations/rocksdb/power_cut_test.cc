// The power is cut under RocksDB while it writes, flushes, compacts and opens. Each way is tried in which what no flush covers
// can land. Of what is left, RocksDB opens, has every write that was acknowledged with WriteOptions::sync, and has the state
// after some write (promises 1, 3 and 6).
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/write_batch.h>
#include <xxhash.h>

#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "integrations/rocksdb/untorn_rocksdb.h"
#include "sim/simulated_device.h"
#include "store/on_device.h"
#include "tests/explore/landings.h"
#include "untorn/store.h"

namespace untorn::rocks {
namespace {

constexpr uint64_t kDiskBytes = 64 << 20;
constexpr char kCount[] = "count";  // the key that tells how many writes there were

std::string Text(uint64_t n) { return absl::StrCat(n); }

// A database on a store on a simulated disk. The store has no threads of its own; RocksDB has.
class Database {
 public:
  static absl::StatusOr<std::unique_ptr<Database>> Open(std::shared_ptr<SimulatedDisk> disk,
                                                        const SimulatedDeviceOptions& options,
                                                        bool reuse_logs) {
    auto database = std::make_unique<Database>();
    database->reuse_logs_ = reuse_logs;
    absl::StatusOr<std::unique_ptr<Store>> store = internal::OpenOnDevice(
        std::make_unique<SimulatedDevice>(disk, options), {.cache_bytes = 4 << 20}, false);
    if (!store.ok()) return store.status();
    database->disk_ = std::move(disk);
    database->store_ = *std::move(store);
    database->fs_ = NewFileSystem(*database->store_);
    database->env_ = ::rocksdb::NewCompositeEnv(database->fs_);
    const ::rocksdb::Status s = database->Reopen();
    if (!s.ok()) return absl::InternalError(s.ToString());
    return database;
  }
  ~Database() { disk_->SetObserver(nullptr); }

  ::rocksdb::Status Reopen() {
    db_.reset();
    ::rocksdb::Options options;
    options.env = env_.get();
    options.create_if_missing = true;
    options.write_buffer_size = 64 << 10;
    options.max_write_buffer_number = 2;
    options.level0_file_num_compaction_trigger = 2;
    options.recycle_log_file_num = reuse_logs_ ? 2 : 0;
    options.compression = ::rocksdb::kNoCompression;
    options.wal_recovery_mode = ::rocksdb::WALRecoveryMode::kPointInTimeRecovery;
    ::rocksdb::DB* db = nullptr;
    ::rocksdb::Status s = ::rocksdb::DB::Open(options, "/db", &db);
    db_.reset(db);
    return s;
  }
  ::rocksdb::DB& db() { return *db_; }
  SimulatedDisk& disk() { return *disk_; }

  // All keys and values but the count; or the error of reading them.
  std::string Contents() {
    std::string all;
    const std::unique_ptr<::rocksdb::Iterator> it(db_->NewIterator({}));
    for (it->SeekToFirst(); it->Valid(); it->Next())
      if (it->key() != kCount) absl::StrAppend(&all, it->key().ToString(), "=", it->value().ToString(), ";");
    if (!it->status().ok()) return it->status().ToString();
    return absl::StrCat(all.size(), " bytes, ", absl::Hex(XXH3_64bits(all.data(), all.size())));
  }
  uint64_t Count() {
    std::string value;
    return db_->Get({}, kCount, &value).ok() ? std::stoull(value) : 0;
  }

 private:
  bool reuse_logs_ = false;
  std::shared_ptr<SimulatedDisk> disk_;
  std::unique_ptr<Store> store_;
  std::shared_ptr<::rocksdb::FileSystem> fs_;
  std::unique_ptr<::rocksdb::Env> env_;
  std::unique_ptr<::rocksdb::DB> db_;
};

class PowerCutTest : public testing::TestWithParam<bool> {};  // logs are reused

TEST_P(PowerCutTest, LeavesAllThatWasSyncedAndTheStateAfterSomeWrite) {
  const bool reuse_logs = GetParam();
  constexpr int kSteps = 1200;
  const uint64_t seed = reuse_logs ? 2 : 1;
  std::printf("seed %d\n", static_cast<int>(seed));
  std::mt19937_64 rng(seed);
  const SimulatedDeviceOptions options{
      .size_bytes = kDiskBytes, .seed = rng(), .atomic = {AtomicSource::kStated, kBlockBytes, 64 << 10, 0}};
  auto disk = std::make_shared<SimulatedDisk>(kDiskBytes);
  {
    SimulatedDevice device(disk, {.size_bytes = kDiskBytes});
    ASSERT_TRUE(internal::CreateOnDevice(device, {}).ok());
  }
  absl::StatusOr<std::unique_ptr<Database>> opened = Database::Open(disk, options, reuse_logs);
  ASSERT_TRUE(opened.ok()) << opened.status();
  Database& database = **opened;

  struct Image {
    std::shared_ptr<SimulatedDisk> disk;
    uint64_t synced;  // writes, at the cut
  };
  std::mutex mu;  // RocksDB's threads write, too
  std::vector<Image> images;
  std::set<uint64_t> known;
  std::atomic<uint64_t> synced = 0;
  uint64_t points = 0;
  std::mt19937_64 cuts(rng());
  const auto collect = [&] {
    std::lock_guard guard(mu);
    if (++points % 3 != 0) return;
    const uint64_t least = synced;
    const std::shared_ptr<SimulatedDisk> moment = database.disk().Clone();
    for (const Landings& landings : EnumerateLandings(moment->unflushed(), 12, cuts)) {
      std::shared_ptr<SimulatedDisk> after = moment->AfterCut(landings);
      if (known.insert(after->Fingerprint()).second) images.push_back({std::move(after), least});
    }
  };

  std::map<std::string, std::string> model;
  std::vector<std::string> states;  // what the database holds after so many writes
  const auto note = [&] {
    std::string all;
    for (const auto& [key, value] : model) absl::StrAppend(&all, key, "=", value, ";");
    states.push_back(absl::StrCat(all.size(), " bytes, ", absl::Hex(XXH3_64bits(all.data(), all.size()))));
  };
  note();
  uint64_t checked = 0, newer = 0;
  for (int step = 0; step < kSteps; ++step) {
    database.disk().SetObserver(collect);
    const uint64_t kind = rng() % 40;
    if (kind == 0) {
      ASSERT_TRUE(database.db().Flush({}).ok());
    } else if (kind == 1) {
      ASSERT_TRUE(database.db().CompactRange({}, nullptr, nullptr).ok());
    } else if (kind == 2) {
      const ::rocksdb::Status s = database.Reopen();
      ASSERT_TRUE(s.ok()) << s.ToString();
    } else {
      ::rocksdb::WriteBatch batch;
      ASSERT_TRUE(batch.Put(kCount, Text(states.size())).ok());
      for (uint64_t n = rng() % 8 + 1; n > 0; --n) {
        const std::string key = Text(rng() % 500);
        if (rng() % 4 == 0) {
          ASSERT_TRUE(batch.Delete(key).ok());
          model.erase(key);
        } else {
          const std::string value(rng() % 4000, static_cast<char>('a' + rng() % 26));
          ASSERT_TRUE(batch.Put(key, value).ok());
          model[key] = value;
        }
      }
      note();
      ::rocksdb::WriteOptions write;
      write.sync = rng() % 4 != 0;
      const ::rocksdb::Status s = database.db().Write(write, &batch);
      ASSERT_TRUE(s.ok()) << s.ToString();
      if (write.sync) synced = states.size() - 1;
    }
    database.disk().SetObserver(nullptr);
    ASSERT_EQ(database.Contents(), states.back());
    std::lock_guard guard(mu);
    known.clear();  // of an older image more is wanted now
    for (const Image& image : images) {
      absl::StatusOr<std::unique_ptr<Database>> recovered = Database::Open(image.disk, options, reuse_logs);
      ASSERT_TRUE(recovered.ok()) << recovered.status() << " at step " << step;
      const uint64_t count = (*recovered)->Count();
      ASSERT_GE(count, image.synced) << "step " << step;
      ASSERT_LT(count, states.size()) << "step " << step;
      ASSERT_EQ((*recovered)->Contents(), states[count]) << "step " << step;
      ++checked;
      newer += count > image.synced;
      if (rng() % 16 != 0) continue;
      ::rocksdb::WriteOptions write;
      write.sync = true;
      const ::rocksdb::Status s = (*recovered)->db().Put(write, "more", "");
      ASSERT_TRUE(s.ok()) << s.ToString();
      ASSERT_TRUE((*recovered)->db().VerifyChecksum().ok());
    }
    images.clear();
  }
  std::printf("%d points, %d images, %d of them with more than what was synced\n", static_cast<int>(points),
              static_cast<int>(checked), static_cast<int>(newer));
  EXPECT_GT(newer, 0);
}

INSTANTIATE_TEST_SUITE_P(Logs, PowerCutTest, testing::Bool());

}  // namespace
}  // namespace untorn::rocks
