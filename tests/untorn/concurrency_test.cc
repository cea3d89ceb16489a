// Many threads on one store: what each sees is whole, what each was promised is kept, and what they leave is
// sound. Bounded by numbers of operations, not by time: no clock decides anything here.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/untorn/numbered_slots.h"
#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn {
namespace {

class ConcurrencyTest : public testing::TestWithParam<WritePolicy> {
 protected:
  ConcurrencyTest() : seed_(TestSeed(1)) {
    TestStoreOptions options;
    options.size_bytes = 64 << 20;
    options.seed = seed_;
    options.background = true;
    options.open.policy = GetParam();
    options.atomic = HardwareUnit(4096, 64 << 10);
    store_ = std::make_unique<TestStore>(options);
  }

  void Start(int number, std::function<void(std::mt19937_64&)> work) {
    threads_.emplace_back([seed = seed_ * 1000 + number, work = std::move(work)] {
      std::mt19937_64 rng(seed);
      work(rng);
    });
  }
  void Join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  Store& store() { return **store_; }

  const uint64_t seed_;
  std::unique_ptr<TestStore> store_;
  std::vector<std::thread> threads_;
};

// Promise 3: between leaving the cache and being sent, data is in neither place. Sync waits for it all the
// same.
TEST(BackgroundWritebackTest, SyncCoversWhatIsBeingSentByTheBackground) {
  TestStoreOptions options;
  options.size_bytes = 128 << 20;
  options.background = true;
  options.open.cache_bytes = 16 << 20;
  TestStore store(options);
  ASSERT_TRUE(store.is_open());
  auto object = store->CreateObject("a", Durability::kSync);
  ASSERT_TRUE(IsOk(object));
  const std::vector<std::byte> data(2 << 20, std::byte{1});
  for (int i = 0; i < 30; ++i) {
    for (uint64_t part : {0, 4}) {
      ASSERT_TRUE(IsOk(object->Write(static_cast<uint64_t>(i % 8) * (8 << 20) + part * (1 << 20), data)));
    }
    ASSERT_TRUE(IsOk(store->Sync()));
    ASSERT_EQ(store->stats().cache_dirty, 0u) << "round " << i;
  }
}

// Promises 3 and 7: space reserved beside data that is being sent does not hide the data.
TEST(BackgroundWritebackTest, PreallocateKeepsWhatIsBeingSentByTheBackground) {
  TestStoreOptions options;
  options.size_bytes = 128 << 20;
  options.background = true;
  options.open.cache_bytes = 16 << 20;
  TestStore store(options);
  ASSERT_TRUE(store.is_open());
  const std::vector<std::byte> data(2 << 20, std::byte{1});
  for (int i = 0; i < 15; ++i) {
    auto object = store->CreateObject("o", Durability::kSync);
    ASSERT_TRUE(IsOk(object));
    for (uint64_t part : {0, 4}) {
      ASSERT_TRUE(IsOk(object->Write(part * (1 << 20), data, {.bypass_cache = true})));
    }
    ASSERT_TRUE(IsOk(object->Preallocate(0, 8 << 20)));
    ASSERT_TRUE(IsOk(store->Sync()));
    std::vector<std::byte> seen(data.size());
    ASSERT_TRUE(IsOk(object->Read(0, seen)));
    ASSERT_TRUE(seen == data) << "round " << i;
    ASSERT_TRUE(IsOk(store->Remove("o", Durability::kSync)));
  }
}

// Promise 2, and 1, 3 and 6 at the end.
TEST_P(ConcurrencyTest, WritesAreSeenWholeAndDurableOnesSurviveAPowerCut) {
  ASSERT_TRUE(store_->is_open());
  std::mt19937_64 rng(seed_);
  const std::vector<Slot> slots = MakeSlots(rng);
  auto created = store().CreateObject("slots", Durability::kSync);
  ASSERT_TRUE(IsOk(created));
  Object object = *created;
  for (const Slot& slot : slots) ASSERT_TRUE(IsOk(object.Write(slot.offset, Numbered(1, slot.length))));
  ASSERT_TRUE(IsOk(store().Sync()));
  std::vector<std::atomic<uint64_t>> durable(slots.size());  // the highest number known durable
  std::atomic<int> writers = 0;
  constexpr int kWriters = 4;

  for (int t = 0; t < kWriters; ++t) {
    ++writers;
    // Slot i belongs to writer i % kWriters, so that its numbers grow.
    Start(t, [&, t](std::mt19937_64& rng) {
      std::vector<uint64_t> written(slots.size());
      for (uint64_t number = 2; number < 250; ++number) {
        const size_t i = rng() % (slots.size() / kWriters) * kWriters + t;
        const bool sync = rng() % 3 == 0;
        const auto durability = sync ? Durability::kSync : Durability::kBuffered;
        switch (rng() % 6) {
          case 0: {
            const size_t j = rng() % (slots.size() / kWriters) * kWriters + t;
            Transaction transaction = store().Begin();
            EXPECT_TRUE(IsOk(transaction.Write(object, slots[i].offset, Numbered(number, slots[i].length))));
            EXPECT_TRUE(IsOk(transaction.Write(object, slots[j].offset, Numbered(number, slots[j].length))));
            EXPECT_TRUE(IsOk(transaction.Commit(durability)));
            written[j] = number;
            if (sync) durable[j] = number;
            break;
          }
          case 1: {
            std::atomic<int> done = 0;
            object.WriteAsync(slots[i].offset, Numbered(number, slots[i].length), {.durability = durability},
                              [&done](absl::Status status) {
                                EXPECT_TRUE(IsOk(status));
                                done.store(1);
                                done.notify_one();
                              });
            done.wait(0);
            break;
          }
          default:
            EXPECT_TRUE(IsOk(object.Write(slots[i].offset, Numbered(number, slots[i].length),
                                          {.durability = durability, .bypass_cache = rng() % 4 == 0})));
        }
        written[i] = number;
        if (sync) durable[i] = number;
        if (rng() % 20 == 0) {
          EXPECT_TRUE(IsOk(object.SyncRange(slots[i].offset, slots[i].length)));
          durable[i] = number;
        }
        if (rng() % 60 == 0) {
          EXPECT_TRUE(IsOk(store().Sync()));
          for (size_t k = t; k < slots.size(); k += kWriters)
            durable[k] = std::max<uint64_t>(durable[k], written[k]);
        }
        if (rng() % 40 == 0) {
          EXPECT_TRUE(IsOk(store().Barrier()));
        }
      }
      --writers;
    });
  }
  for (int t = 0; t < 2; ++t) {
    Start(100 + t, [&](std::mt19937_64& rng) {
      std::vector<std::byte> buffer;
      std::vector<uint64_t> seen(slots.size());
      while (writers > 0) {
        const size_t i = rng() % slots.size();
        buffer.resize(slots[i].length);
        auto read = object.Read(slots[i].offset, buffer, {.bypass_cache = rng() % 2 == 0});
        EXPECT_TRUE(IsOk(read));
        const uint64_t number = NumberIn(buffer);
        EXPECT_GE(number, seen[i]);  // and it never goes back
        seen[i] = number;
      }
    });
  }
  Start(200, [&](std::mt19937_64&) {
    while (writers > 0) {
      const Stats stats = store().stats();
      EXPECT_LE(stats.lsn_durable, stats.lsn_last);
      EXPECT_TRUE(IsOk(store().List()));
      EXPECT_TRUE(IsOk(object.Size()));
      EXPECT_TRUE(IsOk(store().Checkpoint()));
    }
  });
  Join();

  object = Object();
  *created = Object();
  store_->CrashAndOpen(seed_ % 3 * 500);
  object = *store().OpenObject("slots");
  for (size_t i = 0; i < slots.size(); ++i) {
    const uint64_t number = NumberIn(ReadAll(object, slots[i].offset, slots[i].length));
    EXPECT_GE(number, durable[i]) << "slot " << i;
  }
  object = Object();
  EXPECT_TRUE(IsOk(store_->Close()));
}

// Promise 6: one transaction writes all ranges of one object; a read over several of them sees one number.
TEST_P(ConcurrencyTest, TransactionsAreSeenWhole) {
  ASSERT_TRUE(store_->is_open());
  constexpr uint64_t kPiece = 24 << 10, kPieces = 5;
  auto created = store().CreateObject("a");
  ASSERT_TRUE(IsOk(created));
  const Object object = *created;
  ASSERT_TRUE(IsOk(object.Write(0, Numbered(1, kPiece * kPieces))));
  std::atomic<int> writers = 3;
  std::atomic<uint64_t> next = 2;
  for (int t = 0; t < 3; ++t) {
    Start(t, [&](std::mt19937_64& rng) {
      for (int i = 0; i < 60; ++i) {
        const uint64_t number = next++;
        Transaction transaction = store().Begin();
        for (uint64_t piece = 0; piece < kPieces; ++piece) {
          const uint64_t at = (piece + number) % kPieces * kPiece;
          EXPECT_TRUE(IsOk(transaction.Write(object, at, Numbered(number, kPiece))));
        }
        if (rng() % 8 == 0) {
          transaction.Abandon();
        } else {
          EXPECT_TRUE(IsOk(transaction.Commit(rng() % 3 == 0 ? Durability::kSync : Durability::kBuffered)));
        }
      }
      --writers;
    });
  }
  for (int t = 0; t < 2; ++t) {
    Start(100 + t, [&](std::mt19937_64& rng) {
      std::vector<std::byte> buffer(kPiece * kPieces);
      while (writers > 0) {
        EXPECT_TRUE(IsOk(object.Read(0, buffer, {.bypass_cache = rng() % 2 == 0})));
        NumberIn(buffer);
      }
    });
  }
  Join();
  NumberIn(ReadAll(object, 0, kPiece * kPieces));
}

// Promise 4: writes of several threads that overlap leave one of them in every block they share, now and
// after a cut.
TEST_P(ConcurrencyTest, OverlappingWritersLeaveOneWinner) {
  ASSERT_TRUE(store_->is_open());
  constexpr uint64_t kLength = 40000;
  auto created = store().CreateObject("a", Durability::kSync);
  ASSERT_TRUE(IsOk(created));
  Object object = *created;
  ASSERT_TRUE(IsOk(object.Write(8, Numbered(1, kLength))));
  std::atomic<int> writers = 4;
  std::atomic<uint64_t> next = 2;
  for (int t = 0; t < 4; ++t) {
    Start(t, [&](std::mt19937_64& rng) {
      for (int i = 0; i < 80; ++i) {
        EXPECT_TRUE(
            IsOk(object.Write(8, Numbered(next++, kLength),
                              {.durability = rng() % 4 ? Durability::kBuffered : Durability::kSync})));
        NumberIn(ReadAll(object, 8, kLength));
      }
      --writers;
    });
  }
  Join();
  const uint64_t winner = NumberIn(ReadAll(object, 8, kLength));
  EXPECT_TRUE(IsOk(object.Sync()));
  object = Object();
  *created = Object();
  store_->CrashAndOpen(0);
  EXPECT_EQ(NumberIn(ReadAll(*store().OpenObject("a"), 8, kLength)), winner);
}

TEST_P(ConcurrencyTest, ObjectsComeAndGoUnderUse) {
  ASSERT_TRUE(store_->is_open());
  std::atomic<int> workers = 4;
  for (int t = 0; t < 4; ++t) {
    Start(t, [&](std::mt19937_64& rng) {
      std::vector<std::byte> buffer(20000);
      for (int i = 0; i < 150; ++i) {
        const std::string name = "object " + std::to_string(rng() % 4);
        auto object = rng() % 3 == 0 ? store().CreateObject(name) : store().OpenObject(name);
        if (!object.ok()) continue;
        const auto durability = rng() % 4 == 0 ? Durability::kSync : Durability::kBuffered;
        absl::Status status;
        switch (rng() % 6) {
          case 0:
            status = store().Remove(name, durability);
            break;
          case 1:
            status = store().Rename(name, "object " + std::to_string(rng() % 4), durability);
            break;
          case 2:
            status = object->Truncate(rng() % 20000, durability);
            break;
          case 3:
            status = object->PunchHole(rng() % 20000, 1 + rng() % 8000, durability);
            break;
          default:
            status = object->Write(0, Numbered(i + 1, 20000), {.durability = durability});
        }
        const bool expected = status.ok() || status.code() == absl::StatusCode::kNotFound ||
                              status.code() == absl::StatusCode::kAlreadyExists;
        EXPECT_TRUE(expected) << status;
        auto read = object->Read(0, buffer);
        EXPECT_TRUE(read.ok() || read.status().code() == absl::StatusCode::kNotFound) << read.status();
      }
      --workers;
    });
  }
  Start(100, [&](std::mt19937_64&) {
    while (workers > 0) {
      auto list = store().List();
      EXPECT_TRUE(IsOk(list));
      EXPECT_LE(list->size(), 4u);
      store().stats();
    }
  });
  Join();
  EXPECT_TRUE(IsOk(store_->Close()));
}

// The power goes while all are at work: whatever was reported durable is there, and nothing is torn.
TEST_P(ConcurrencyTest, PowerCutUnderLoadLosesNothingDurable) {
  ASSERT_TRUE(store_->is_open());
  std::mt19937_64 rng(seed_);
  const std::vector<Slot> slots = MakeSlots(rng);
  std::vector<uint64_t> durable(slots.size(), 1);
  auto created = store().CreateObject("slots", Durability::kSync);
  ASSERT_TRUE(IsOk(created));
  for (const Slot& slot : slots) ASSERT_TRUE(IsOk(created->Write(slot.offset, Numbered(1, slot.length))));
  ASSERT_TRUE(IsOk(store().Sync()));
  *created = Object();
  for (int round = 1; round <= 6; ++round) {
    Object object = *store().OpenObject("slots");
    store_->device().CutAfter(1 + rng() % 2000);
    for (int t = 0; t < 4; ++t) {
      Start(round * 10 + t, [&, t](std::mt19937_64& rng) {
        for (uint64_t number = round * 1000000;; ++number) {  // until the power is gone
          const size_t i = rng() % (slots.size() / 4) * 4 + t;
          const bool sync = rng() % 2 == 0;
          const absl::Status status =
              object.Write(slots[i].offset, Numbered(number, slots[i].length),
                           {.durability = sync ? Durability::kSync : Durability::kBuffered});
          if (status.ok() && sync) durable[i] = number;
          if (!status.ok()) break;
        }
      });
    }
    Join();
    object = Object();
    store_->CrashAndOpen(rng() % 1001);
    ASSERT_TRUE(store_->is_open());
    object = *store().OpenObject("slots");
    for (size_t i = 0; i < slots.size(); ++i) {
      const uint64_t number = NumberIn(ReadAll(object, slots[i].offset, slots[i].length));
      EXPECT_GE(number, durable[i]) << "round " << round << " slot " << i;
      durable[i] = number;
    }
  }
  EXPECT_TRUE(IsOk(store_->Close()));
}

// On a real file, with whatever engine there is.
TEST_P(ConcurrencyTest, RealFileServesManyThreads) {
  const std::string path = testing::TempDir() + "/concurrency_" + std::to_string(getpid());
  ASSERT_TRUE(IsOk(Store::Create(path, {.size_bytes = 64 << 20, .force = true})));
  OpenOptions open;
  open.policy = GetParam() == WritePolicy::kHardwareOnly ? WritePolicy::kAutomatic : GetParam();
  open.cache_bytes = 4 << 20;
  auto store = Store::Open(path, open);
  ASSERT_TRUE(IsOk(store));
  std::cout << (*store)->info().engine << " " << (*store)->info().engine_reason << std::endl;
  auto created = (*store)->CreateObject("a");
  ASSERT_TRUE(IsOk(created));
  const Object object = *created;
  std::array<uint64_t, 4> last{};
  for (int t = 0; t < 4; ++t) {
    Start(t, [&, t](std::mt19937_64& rng) {
      for (uint64_t number = 1; number <= 100; ++number) {
        EXPECT_TRUE(
            IsOk(object.Write(t * 50000, Numbered(number, 48000),
                              {.durability = rng() % 4 ? Durability::kBuffered : Durability::kSync})));
        EXPECT_EQ(NumberIn(ReadAll(object, t * 50000, 48000)), number);
        last[t] = number;
      }
    });
  }
  Join();
  ASSERT_TRUE(IsOk((*store)->Close()));
  auto fsck = Fsck(path);
  ASSERT_TRUE(IsOk(fsck));
  EXPECT_EQ(fsck->findings_total, 0u);
  store = Store::Open(path, open);
  ASSERT_TRUE(IsOk(store));
  for (int t = 0; t < 4; ++t) {
    EXPECT_EQ(NumberIn(ReadAll(*(*store)->OpenObject("a"), t * 50000, 48000)), last[t]);
  }
  unlink(path.c_str());
}

// Destruction waits for what is under way, and every completion is told once.
TEST_P(ConcurrencyTest, DestructionWaitsForAsynchronousWrites) {
  ASSERT_TRUE(store_->is_open());
  std::atomic<int> done = 0;
  constexpr int kWrites = 200;
  {
    auto object = store().CreateObject("a");
    ASSERT_TRUE(IsOk(object));
    for (int i = 0; i < kWrites; ++i) {
      object->WriteAsync(i * 5000, Numbered(i + 1, 4800),
                         {.durability = i % 2 ? Durability::kSync : Durability::kBuffered},
                         [&done](absl::Status status) {
                           EXPECT_TRUE(IsOk(status));
                           ++done;
                         });
    }
  }
  EXPECT_TRUE(IsOk(store_->Close()));
  EXPECT_EQ(done, kWrites);
  ASSERT_TRUE(IsOk(store_->Open()));
  for (int i = 0; i < kWrites; ++i) {
    EXPECT_EQ(NumberIn(ReadAll(*store().OpenObject("a"), i * 5000, 4800)), static_cast<uint64_t>(i + 1));
  }
}

// A name that others change meanwhile is no damage to a transaction.
TEST_P(ConcurrencyTest, NameThatOthersChangeIsNoDamage) {
  ASSERT_TRUE(store_->is_open());
  ASSERT_TRUE(IsOk(store().CreateObject("a")));
  std::atomic<bool> stop = false;
  std::thread other([&] {
    while (!stop) {
      EXPECT_TRUE(IsOk(store().Rename("a", "b", Durability::kBuffered)));
      EXPECT_TRUE(IsOk(store().Rename("b", "a", Durability::kBuffered)));
    }
  });
  for (int i = 0; i < 2000; ++i) {
    Transaction transaction = store().Begin();
    const absl::Status status = i % 2 ? transaction.Remove("a") : transaction.Rename("a", "c");
    EXPECT_TRUE(status.ok() || absl::IsNotFound(status)) << status;
  }
  stop = true;
  other.join();
  EXPECT_TRUE(IsOk(store().Begin().Remove("a")));
}

INSTANTIATE_TEST_SUITE_P(Policies, ConcurrencyTest,
                         testing::Values(WritePolicy::kAutomatic, WritePolicy::kAlwaysCow),
                         [](const testing::TestParamInfo<WritePolicy>& info) {
                           return info.param == WritePolicy::kAutomatic ? "Automatic" : "AlwaysCow";
                         });

}  // namespace
}  // namespace untorn
