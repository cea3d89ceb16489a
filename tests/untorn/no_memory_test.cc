// A process that can get no more memory is not ended by the store: calls that need memory give an error, what was begun ends,
// and once there is memory again the store goes on (promises 3 and 7). Each case runs in a process of its own, with a limit of
// its address space.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kPage = 4096;
constexpr int kPages = 8000;

// The address space of this process, in bytes.
uint64_t SpaceBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmSize:")) return std::strtoull(line.c_str() + 7, nullptr, 10) << 10;
  }
  return 0;
}

// The process may get so much more.
void LimitTo(uint64_t more_bytes) {
  const uint64_t bytes = SpaceBytes() + more_bytes;
  const rlimit limit{bytes, bytes};
  if (setrlimit(RLIMIT_AS, &limit) != 0) std::abort();
}

// All memory that the process can get, as a program in C++ takes it.
class AllMemory {
 public:
  AllMemory() {
    for (size_t bytes = 64 << 10; bytes >= 16; bytes /= 2) {
      try {
        while (true) {
          char* piece = new char[bytes];
          std::memcpy(piece, &first_, sizeof(first_));
          first_ = piece;
        }
      } catch (const std::bad_alloc&) {
      }
    }
  }
  ~AllMemory() {
    while (first_ != nullptr) {
      char* next;
      std::memcpy(&next, first_, sizeof(next));
      delete[] first_;
      first_ = next;
    }
  }

 private:
  char* first_ = nullptr;
};

// The same, but for what is left of less than 64 KiB, in few steps.
class AllSpace {
 public:
  AllSpace() {
    for (size_t bytes = 16 * kMiB; bytes >= 64 << 10;) {
      void* piece = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (piece == MAP_FAILED || count_ == pieces_.size())
        bytes /= 2;
      else
        pieces_[count_++] = {piece, bytes};
    }
  }
  ~AllSpace() {
    while (count_ > 0) {
      --count_;
      munmap(pieces_[count_].first, pieces_[count_].second);
    }
  }

 private:
  std::array<std::pair<void*, size_t>, 100> pieces_;
  size_t count_ = 0;
};

int failures = 0;

void Expect(bool condition, const std::string& what) {
  if (condition) return;
  std::cerr << what << std::endl;
  ++failures;
}
template <typename Result>
void ExpectOk(const Result& result, const std::string& what) {
  Expect(ToStatus(result).ok(), absl::StrCat(what, ": ", ToStatus(result).ToString()));
}
// Says whether the call had no memory. Any other error is a failure.
bool HadNoMemory(const absl::Status& status, const char* what) {
  if (status.ok()) return false;
  if (!absl::IsResourceExhausted(status) || !absl::StrContains(status.message(), "memory")) {
    std::cerr << what << ": " << status << std::endl;
    ++failures;
  }
  return true;
}

std::vector<std::byte> PageOf(uint64_t number) { return Stamped(number + 1, kPage); }

void Fill(Store& store) {
  const Object object = *store.CreateObject("a");
  for (int i = 0; i < kPages; ++i) ExpectOk(object.Write(i * kPage, PageOf(i)), "write");
  ExpectOk(store.Close(), "close");
}

// Every kind of call without any memory, and again when there is some.
void EveryCall(Store& store) {
  const Object object = *store.OpenObject("a");
  std::vector<std::vector<std::byte>> pages;
  for (int i = 0; i < kPages; ++i) pages.push_back(PageOf(i));
  std::vector<std::byte> out(kPage), large(kMiB);
  int refused = 0;
  using Calls = std::vector<std::pair<const char*, std::function<absl::Status()>>>;
  const auto calls_of = [&](int round) {
    return Calls{
        {"write", [&, round] { return object.Write(round * kPage, pages[round]); }},
        {"durable write",
         [&, round] { return object.Write(round * kPage, pages[round], {.durability = Durability::kSync}); }},
        {"plain write", [&, round] { return object.Write(kPages * kPage, large, {.atomic = false}); }},
        {"read", [&, round] { return object.Read((kPages - 1 - round) * kPage, out).status(); }},
        {"read past the cache",
         [&, round] { return object.Read(round * kPage, large, {.bypass_cache = true}).status(); }},
        {"create", [&, round] { return store.CreateObject(absl::StrCat("object ", round)).status(); }},
        {"open", [&, round] { return store.OpenObject("a").status(); }},
        {"list", [&, round] { return store.List().status(); }},
        {"transaction",
         [&, round] {
           Transaction t = store.Begin();
           for (int i = 0; i < 10; ++i) {
             if (absl::Status s = t.Write(object, (i + round) * kPage, pages[i + round]); !s.ok()) return s;
           }
           return t.Commit();
         }},
        {"truncate", [&, round] { return object.Truncate(kPages * kPage); }},
        {"preallocate", [&, round] { return object.Preallocate(kPages * kPage, kMiB); }},
        {"sync", [&, round] { return store.Sync(); }},
        {"checkpoint", [&, round] { return store.Checkpoint(); }},
    };
  };
  std::vector<Calls> rounds;
  for (int round = 0; round < 20; ++round) rounds.push_back(calls_of(round));
  LimitTo(16 * kMiB);
  {
    const AllMemory all;
    for (const auto& calls : rounds) {
      for (const auto& [name, call] : calls) refused += HadNoMemory(call(), name);
    }
  }
  Expect(refused > 0, "no call noticed that there is no memory");
  std::cout << refused << " calls refused" << std::endl;
  for (const auto& [name, call] : rounds[0]) ExpectOk(call(), name);
  for (int i = 0; i < kPages; ++i) {
    ExpectOk(object.Read(i * kPage, out), "read");
    Expect(out == pages[i], absl::StrCat("page ", i, " has other content"));
  }
}

// Four threads write and read while a fifth takes all memory, again and again.
void UnderLoad(Store& store) {
  const Object object = *store.OpenObject("a");
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> done = 0, refused = 0;
  std::vector<std::thread> threads;
  std::vector<std::vector<std::vector<std::byte>>> pages(4);
  for (int t = 0; t < 4; ++t) {
    for (int i = 0; i < 2; ++i) pages[t].emplace_back(kPage);
  }
  // What each thread has written last to each of its pages: the number is in the page.
  std::vector<std::vector<uint64_t>> written(4, std::vector<uint64_t>(kPages / 4));
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 rng(t);
      std::vector<std::byte>&page = pages[t][0], &out = pages[t][1];
      for (uint64_t n = 1; !stop; ++n) {
        const uint64_t slot = rng() % (kPages / 4), at = (t * (kPages / 4) + slot) * kPage;
        std::memset(page.data(), static_cast<int>(n % 251), kPage);
        std::memcpy(page.data(), &n, sizeof(n));
        const absl::Status s =
            object.Write(at, page, {.durability = n % 4 == 0 ? Durability::kSync : Durability::kBuffered});
        if (s.ok()) written[t][slot] = n;
        refused += HadNoMemory(s, "write");
        refused += HadNoMemory(object.Read(rng() % kPages * kPage, out).status(), "read");
        ++done;
      }
    });
  }
  LimitTo(24 * kMiB);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (std::chrono::steady_clock::now() < end) {
    {
      const AllSpace all;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  std::cout << done << " rounds, " << refused << " calls refused" << std::endl;
  Expect(refused > 0, "no call noticed that there is no memory");
  ExpectOk(store.Sync(), "sync");
  std::vector<std::byte> out(kPage), expected(kPage);
  for (int t = 0; t < 4; ++t) {
    for (uint64_t slot = 0; slot < kPages / 4; ++slot) {
      const uint64_t n = written[t][slot], page = t * (kPages / 4) + slot;
      ExpectOk(object.Read(page * kPage, out), "read");
      if (n == 0) {
        expected = PageOf(page);
      } else {
        std::memset(expected.data(), static_cast<int>(n % 251), kPage);
        std::memcpy(expected.data(), &n, sizeof(n));
      }
      Expect(out == expected, absl::StrCat("page ", page, " is not that of write ", n));
    }
  }
}

int Child(const std::string& what, const std::string& path) {
  if (what == "open") {
    // More and more, until the store can be opened.
    LimitTo(std::strtoull(std::getenv("UNTORN_NO_MEMORY_LIMIT"), nullptr, 10));
    const auto store = Store::Open(path, {.cache_bytes = 4 * kMiB});
    return store.ok() ? 0 : absl::IsResourceExhausted(store.status()) ? 1 : 2;
  }
  auto store = Store::Open(path, {.cache_bytes = 64 * kMiB});
  if (!store.ok()) return 1;
  if (what == "fill") Fill(**store);
  // In a thread, whose stack is there already.
  if (what == "every") std::thread([&] { EveryCall(**store); }).join();
  if (what == "load") UnderLoad(**store);
  if (what == "log") {
    // Is killed with a log that is long.
    Object object = *(*store)->CreateObject("a");
    std::mt19937_64 rng(1);
    for (int i = 0; i < 30'000; ++i) ExpectOk(object.Write(rng() % 100'000 * kPage, PageOf(i)), "write");
    ExpectOk((*store)->Sync(), "sync");
    _exit(failures > 0);
  }
  if (what != "fill") ExpectOk((*store)->Close(), "close");
  return failures > 0;
}

class NoMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 512 * kMiB, .force = true})));
  }
  void TearDown() override { unlink(path_.c_str()); }

  // What a child has returned; a signal counts as 128 and its number.
  int Run(const char* what, uint64_t limit = 0) {
    const pid_t child = fork();
    if (child == 0) {
      setenv("UNTORN_NO_MEMORY_TEST", what, 1);
      setenv("UNTORN_NO_MEMORY_PATH", path_.c_str(), 1);
      setenv("UNTORN_NO_MEMORY_LIMIT", absl::StrCat(limit).c_str(), 1);
      execl("/proc/self/exe", "no_memory_test", static_cast<char*>(nullptr));
      _exit(99);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  void ExpectSound() {
    const auto fsck = Fsck(path_, {.data = true});
    ASSERT_TRUE(IsOk(fsck));
    for (const Finding& finding : fsck->findings) ADD_FAILURE() << finding.what;
  }

  const std::string path_ = testing::TempDir() + "/no_memory_" + std::to_string(getpid());
};

TEST_F(NoMemoryTest, EveryCallGivesAnErrorOrSucceedsAndTheStoreGoesOnAfterwards) {
  ASSERT_EQ(Run("fill"), 0);
  EXPECT_EQ(Run("every"), 0);
  ExpectSound();
}

TEST_F(NoMemoryTest, ThreadsUnderLoadGoOnWhileOthersTakeAllMemory) {
  ASSERT_EQ(Run("fill"), 0);
  EXPECT_EQ(Run("load"), 0);
  ExpectSound();
}

TEST_F(NoMemoryTest, OpeningWithTooLittleMemoryIsAnErrorAndWithEnoughAllIsThere) {
  ASSERT_EQ(Run("log"), 0);
  int refused = 0, opened = 0;
  for (uint64_t limit = kMiB; opened < 3; limit += limit / 4) {
    const int result = Run("open", limit);
    ASSERT_LE(result, 1) << "with " << limit << " bytes more";
    (result == 0 ? opened : refused) += 1;
    ASSERT_LT(limit, 1024 * kMiB);
  }
  EXPECT_GT(refused, 3);
  ExpectSound();
}

}  // namespace
}  // namespace untorn

int main(int argc, char** argv) {
  if (const char* what = std::getenv("UNTORN_NO_MEMORY_TEST"))
    return untorn::Child(what, std::getenv("UNTORN_NO_MEMORY_PATH"));
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
