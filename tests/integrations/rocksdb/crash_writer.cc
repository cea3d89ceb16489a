// What kill_test.sh kills, and what looks afterwards.
//
//   crash_writer write URI          writes with WriteOptions::sync, in four threads, and prints "THREAD COUNT" when a write
//                                   is acknowledged
//   crash_writer check URI ACKS     opens the database, and compares it with the last numbers in the file ACKS
//
// Write number n of a thread sets the thread's count and one of its slots, in one batch. So the count tells what each slot
// holds.
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/write_batch.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "integrations/rocksdb/untorn_rocksdb.h"

namespace {

constexpr int kThreads = 4;
constexpr uint64_t kSlots = 500;

std::string CountKey(int thread) { return absl::StrCat("thread ", thread); }
std::string SlotKey(int thread, uint64_t n) { return absl::StrCat("slot ", thread, " ", n % kSlots); }
std::string Value(int thread, uint64_t n) {
  return std::string(n * 37 % 3000, static_cast<char>('a' + (n + thread) % 26)) + absl::StrCat(n);
}

int Fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  return 1;
}

uint64_t CountOf(rocksdb::DB& db, int thread) {
  std::string value;
  return db.Get({}, CountKey(thread), &value).ok() ? std::stoull(value) : 0;
}

// Never returns true.
bool WriteForEver(rocksdb::DB& db, int thread) {
  for (uint64_t n = CountOf(db, thread) + 1;; ++n) {
    rocksdb::WriteBatch batch;
    (void)batch.Put(CountKey(thread), absl::StrCat(n));
    (void)batch.Put(SlotKey(thread, n), Value(thread, n));
    rocksdb::WriteOptions sync;
    sync.sync = true;
    const rocksdb::Status s = db.Write(sync, &batch);
    if (!s.ok()) return Fail(s.ToString()) == 0;
    const std::string line = absl::StrCat(thread, " ", n, "\n");
    if (write(STDOUT_FILENO, line.data(), line.size()) < 0) return false;
  }
}

int Check(rocksdb::DB& db, const char* acks) {
  std::array<uint64_t, kThreads> acknowledged{};
  std::ifstream file(acks);
  int thread;
  uint64_t n;
  while (file >> thread >> n && !file.eof()) acknowledged.at(thread) = std::max(acknowledged.at(thread), n);
  for (thread = 0; thread < kThreads; ++thread) {
    const uint64_t count = CountOf(db, thread);
    std::printf("thread %d: %d writes, %d acknowledged\n", thread, static_cast<int>(count),
                static_cast<int>(acknowledged.at(thread)));
    if (count < acknowledged.at(thread)) return Fail("an acknowledged write is lost");
    for (n = count; n > 0 && n + kSlots > count; --n) {
      std::string value;
      const rocksdb::Status s = db.Get({}, SlotKey(thread, n), &value);
      if (!s.ok()) return Fail(absl::StrCat(SlotKey(thread, n), ": ", s.ToString()));
      if (value != Value(thread, n))
        return Fail(absl::StrCat(SlotKey(thread, n), " is not that of write ", n));
    }
  }
  const rocksdb::Status s = db.VerifyChecksum();
  return s.ok() ? 0 : Fail(s.ToString());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  untorn::rocks::RegisterFileSystem();
  std::shared_ptr<rocksdb::FileSystem> fs;
  rocksdb::Status s = rocksdb::FileSystem::CreateFromString(rocksdb::ConfigOptions(), argv[2], &fs);
  if (!s.ok()) return Fail(s.ToString());
  const std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(fs);
  rocksdb::Options options;
  options.env = env.get();
  options.create_if_missing = true;
  options.write_buffer_size = 1 << 20;
  options.level0_file_num_compaction_trigger = 2;
  rocksdb::DB* opened = nullptr;
  s = rocksdb::DB::Open(options, "/db", &opened);
  if (!s.ok()) return Fail(s.ToString());
  const std::unique_ptr<rocksdb::DB> db(opened);
  if (std::string_view(argv[1]) == "check") return argc == 4 ? Check(*db, argv[3]) : 2;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back([&db, i] { WriteForEver(*db, i); });
  for (std::thread& thread : threads) thread.join();
  return 1;
}
