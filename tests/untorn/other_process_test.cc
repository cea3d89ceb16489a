// One process writes a store, three others read it, and each of them is stopped and killed now and then. What a reader sees
// is one state of the store that has all that was acknowledged before it asked (promises 2, 3 and 10).
//
// UNTORN_SECONDS says for how long the long test runs.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kPage = 4096, kStoreBytes = 48 << 20;
constexpr int kGroups = 48, kPagesOfGroup = 4, kReaders = 3;
constexpr uint64_t kHotBytes = 16 << 10, kBulkBytes = 1 << 20;

// What the processes share.
struct Shared {
  // The newest stamp of each group that the writer was told is durable; the last one is the hot page's.
  std::array<std::atomic<uint64_t>, kGroups + 1> acknowledged;
  std::atomic<uint64_t> stamps, commits, in_place, refused, revoked, passes, aborted, refreshes;
  std::atomic<bool> stop;
  std::atomic<int> wrong;
  char what[1000];

  void Tell(const std::string& text) {
    if (wrong.fetch_add(1) == 0) std::snprintf(what, sizeof(what), "%s", text.c_str());
  }
};

class OtherProcessTest : public testing::Test {
 protected:
  OtherProcessTest()
      : path_(absl::StrCat(testing::TempDir(), "/other_process.", getpid())),
        shared_(new (mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
                    Shared()) {}
  ~OtherProcessTest() override {
    unlink(path_.c_str());
    munmap(shared_, sizeof(Shared));
  }

  static std::unique_ptr<Store> OpenFor(const std::string& path, bool read_only) {
    OpenOptions options;
    options.read_only = read_only;
    options.cache_bytes = 4 << 20;
    options.stated_atomic_unit_bytes = kHotBytes;
    absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(path, options);
    // Where there is no direct I/O, nothing goes in place.
    if (absl::IsInvalidArgument(store.status())) {
      options.stated_atomic_unit_bytes = 0;
      store = Store::Open(path, options);
    }
    if (store.ok()) return *std::move(store);
    if (!absl::IsUnavailable(store.status()) && !absl::IsFailedPrecondition(store.status()))
      std::fprintf(stderr, "open: %s\n", store.status().ToString().c_str());
    return nullptr;
  }

  pid_t Fork(const std::function<void()>& run) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    run();
    _exit(0);
  }

  // Writes until it is told to stop, or killed.
  void Write(uint64_t seed);
  // Reads until it is told to stop, or killed.
  void Read(uint64_t seed);
  // Reads all that a state has, and compares it. False: the state is not kept any more.
  bool ReadAll(Store& store, const std::array<uint64_t, kGroups + 1>& at_least,
               std::array<uint64_t, kGroups + 1>* seen, bool again);
  void Check(const absl::Status& status, const char* what) {
    if (!status.ok()) shared_->Tell(absl::StrCat(what, ": ", status.ToString()));
  }

  const std::string path_;
  Shared* const shared_;
};

// Content that tells its stamp, and whether it is whole.
std::vector<std::byte> Content(uint64_t stamp, uint64_t length) {
  std::vector<std::byte> bytes = Stamped(stamp, length);
  std::memcpy(bytes.data(), &stamp, sizeof(stamp));
  return bytes;
}

// The pages of a group are where its number says, two of them in each of two objects.
uint64_t PageOffset(int group, int page) {
  return (static_cast<uint64_t>(page / 2) * kGroups + group) * kPage;
}
std::string ObjectOf(int page) { return page % 2 == 0 ? "even" : "odd"; }

void OtherProcessTest::Write(uint64_t seed) {
  std::unique_ptr<Store> store;
  while (store == nullptr && !shared_->stop) {
    store = OpenFor(path_, false);
    if (store == nullptr) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  if (store == nullptr) return;
  std::mt19937_64 rng(seed);
  absl::StatusOr<Object> objects[2] = {store->OpenObject("even"), store->OpenObject("odd")};
  absl::StatusOr<Object> hot = store->OpenObject("hot"), bulk = store->OpenObject("bulk");
  for (const auto* o : {&objects[0], &objects[1], &hot, &bulk})
    Check(o->status(), "the writer opens an object");
  uint64_t bulk_bytes = 0;
  while (!shared_->stop && shared_->wrong == 0) {
    const uint64_t kind = rng() % 100, stamp = ++shared_->stamps;
    if (kind < 70) {
      const int group = static_cast<int>(rng() % kGroups);
      const Durability durability = rng() % 4 == 0 ? Durability::kBuffered : Durability::kSync;
      Transaction transaction = store->Begin();
      const std::vector<std::byte> bytes = Content(stamp, kPage);
      absl::Status status;
      for (int page = 0; status.ok() && page < kPagesOfGroup; ++page) {
        status = transaction.Write(*objects[page % 2], PageOffset(group, page), bytes);
      }
      if (status.ok()) status = transaction.Commit(durability);
      Check(status, "a commit");
      if (durability == Durability::kSync) shared_->acknowledged[group] = stamp;
    } else if (kind < 90) {
      Check(hot->Write(0, Content(stamp, kHotBytes), {.durability = Durability::kSync}), "a write in place");
      shared_->acknowledged[kGroups] = stamp;
    } else if (kind < 98) {
      // The store fills up, and takes the space from the readers.
      const absl::Status status =
          bulk->Write(bulk_bytes, Content(stamp, kBulkBytes), {.durability = Durability::kSync});
      bulk_bytes += kBulkBytes;
      if (absl::IsResourceExhausted(status)) {
        ++shared_->refused;
        Check(bulk->Truncate(0, Durability::kSync), "a truncate");
        bulk_bytes = 0;
      } else {
        Check(status, "a large write");
      }
    } else {
      Check(store->Checkpoint(), "a checkpoint");
    }
    ++shared_->commits;
    const Stats stats = store->stats();
    shared_->in_place = std::max<uint64_t>(shared_->in_place, stats.change_sets_in_place());
    shared_->revoked = std::max<uint64_t>(shared_->revoked, stats.leases_revoked);
  }
  Check(store->Close(), "close");
}

bool OtherProcessTest::ReadAll(Store& store, const std::array<uint64_t, kGroups + 1>& at_least,
                               std::array<uint64_t, kGroups + 1>* seen, bool again) {
  std::vector<std::byte> bytes(kHotBytes);
  const auto stamp_at = [&](const std::string& name, uint64_t offset, uint64_t length,
                            uint64_t* stamp) -> absl::Status {
    absl::StatusOr<Object> object = store.OpenObject(name);
    if (!object.ok()) return object.status();
    absl::StatusOr<size_t> read =
        object->Read(offset, std::span(bytes).first(length), {.bypass_cache = true});
    if (!read.ok()) return read.status();
    std::memcpy(stamp, bytes.data(), sizeof(*stamp));
    const std::vector<std::byte> whole = Content(*stamp, length);
    if (*read != length || std::memcmp(bytes.data(), whole.data(), length) != 0)
      return absl::InternalError(absl::StrCat(name, " at ", offset, " is torn"));
    return absl::OkStatus();
  };
  for (int group = 0; group <= kGroups; ++group) {
    uint64_t first = 0;
    for (int page = 0; page < (group < kGroups ? kPagesOfGroup : 1); ++page) {
      uint64_t stamp = 0;
      const absl::Status status = group < kGroups
                                      ? stamp_at(ObjectOf(page), PageOffset(group, page), kPage, &stamp)
                                      : stamp_at("hot", 0, kHotBytes, &stamp);
      if (absl::IsAborted(status)) return false;
      if (!status.ok()) {
        shared_->Tell(absl::StrCat("a reader: ", status.ToString()));
        return false;
      }
      if (page > 0 && stamp != first) {
        shared_->Tell(absl::StrCat("group ", group, " is torn: ", first, " and ", stamp));
        return false;
      }
      first = stamp;
    }
    if (first < at_least[group]) {
      shared_->Tell(
          absl::StrCat("group ", group, " shows ", first, ", and ", at_least[group], " was durable"));
      return false;
    }
    if (again && (*seen)[group] != first) {
      shared_->Tell(absl::StrCat("group ", group, " shows ", first, ", and before ", (*seen)[group]));
      return false;
    }
    (*seen)[group] = first;
  }
  return true;
}

void OtherProcessTest::Read(uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::unique_ptr<Store> store;
  std::array<uint64_t, kGroups + 1> at_least, seen{};
  while (!shared_->stop && shared_->wrong == 0) {
    for (int i = 0; i <= kGroups; ++i) at_least[i] = shared_->acknowledged[i];
    if (store == nullptr) {
      store = OpenFor(path_, true);
      if (store == nullptr) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        continue;
      }
      // Nobody writes. A reader that stayed would keep the next writer out.
      if (!store->info().beside_owner) {
        store.reset();
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        continue;
      }
    } else if (const absl::Status status = store->Refresh(); !status.ok()) {
      if (!absl::IsUnavailable(status)) shared_->Tell(absl::StrCat("a refresh: ", status.ToString()));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      continue;
    }
    ++shared_->refreshes;
    for (int pass = 0; pass < 1 + static_cast<int>(rng() % 4); ++pass) {
      if (!ReadAll(*store, at_least, &seen, pass > 0)) {
        ++shared_->aborted;
        break;
      }
      ++shared_->passes;
      if (rng() % 8 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(rng() % 200));
    }
    if (rng() % 50 == 0) store.reset();
  }
}

TEST_F(OtherProcessTest, ReadersSeeOneStateThatHasAllThatWasDurable) {
  const uint64_t seed = TestSeed(1);
  const auto seconds = std::chrono::seconds(FromEnvironment("UNTORN_SECONDS", 15));
  ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = kStoreBytes})));
  {
    std::unique_ptr<Store> store = OpenFor(path_, false);
    ASSERT_NE(store, nullptr);
    for (const char* name : {"even", "odd", "hot", "bulk"}) {
      absl::StatusOr<Object> object = store->CreateObject(name);
      ASSERT_TRUE(IsOk(object));
      for (uint64_t at = 0; at < 2 * kGroups * kPage; at += kPage) {
        ASSERT_TRUE(IsOk(object->Write(at, Content(0, kPage))));
      }
    }
    absl::StatusOr<Object> hot = store->OpenObject("hot");
    ASSERT_TRUE(IsOk(hot->Write(0, Content(0, kHotBytes))));
    ASSERT_TRUE(IsOk(store->Close()));
  }
  std::mt19937_64 rng(seed);
  uint64_t children = 0, kills = 0, stops = 0;
  pid_t writer = Fork([&] { Write(seed); });
  std::vector<pid_t> readers;
  for (int i = 0; i < kReaders; ++i) readers.push_back(Fork([&] { Read(seed + ++children); }));
  pid_t stopped = 0;
  const Clock::time_point end = Clock::now() + seconds;
  while (Clock::now() < end && shared_->wrong == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100 + rng() % 300));
    if (stopped != 0) kill(std::exchange(stopped, 0), SIGCONT);
    pid_t& reader = readers[rng() % kReaders];
    const uint64_t what = rng() % 10;
    if (what < 4) {
      stopped = reader;
      kill(reader, SIGSTOP);
      ++stops;
    } else if (what < 7) {
      kill(reader, SIGKILL);
      waitpid(reader, nullptr, 0);
      ++kills;
      reader = Fork([&, n = seed + 100 + ++children] { Read(n); });
    } else if (what == 7) {
      kill(writer, SIGKILL);
      waitpid(writer, nullptr, 0);
      ++kills;
      writer = Fork([&, n = seed + 100 + ++children] { Write(n); });
    }
  }
  if (stopped != 0) kill(stopped, SIGCONT);
  shared_->stop = true;
  int status = 0;
  readers.push_back(writer);
  for (const pid_t pid : readers) {
    waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "process " << pid << " ended by " << status;
  }
  EXPECT_EQ(shared_->wrong, 0) << shared_->what;
  EXPECT_GT(shared_->commits, 100u);
  EXPECT_GT(shared_->passes, 20u);
  EXPECT_GT(shared_->refused, 0u) << "the store was never full";
  EXPECT_GT(shared_->aborted, 0u) << "no state was given up";
  std::cout << shared_->commits << " commits, " << shared_->in_place << " in place, " << shared_->refused
            << " refused, " << shared_->revoked << " leases revoked; " << shared_->refreshes
            << " states read, " << shared_->passes << " times, " << shared_->aborted << " given up; " << kills
            << " kills, " << stops << " stops" << std::endl;
  absl::StatusOr<FsckResult> found = Fsck(path_, {.data = true});
  ASSERT_TRUE(IsOk(found));
  EXPECT_EQ(found->findings_total, 0u) << (found->findings.empty() ? "" : found->findings[0].what);
}

}  // namespace
}  // namespace untorn
