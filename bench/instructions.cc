#include "bench/instructions.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "bench/pages.h"
#include "untorn/store.h"

namespace untorn::bench {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 1024;
constexpr int kTransactionPages = 64;

struct Operation {
  const char* name;
  const char* what;
  int bar;  // the instructions that the operation may take
  // How often the two runs do the operation. The difference between the runs must span several checkpoints
  // where the operation causes any.
  int fewer = 512, more = 2560;
};
constexpr Operation kOperations[] = {
    {"write", "4 KiB buffered atomic write, dirty already", 2300},
    {"first-write", "4 KiB buffered atomic write, clean before; with its writeback, in batches of 256",
     10000},
    {"read", "4 KiB cached read", 1300},
    {"commit", "4 KiB durable write by copy-on-write, with its share of the checkpoint", 20000},
    {"transaction", "a page of a durable transaction of 64 random pages, with its share of the checkpoint",
     10000, 4096, 36864},
};

absl::StatusOr<uint64_t> Collected(const char* operation, int times, const std::string& directory) {
  std::array<char, 4096> self{};
  if (readlink("/proc/self/exe", self.data(), self.size() - 1) < 0)
    return absl::ErrnoToStatus(errno, "/proc/self/exe");
  const std::string command =
      absl::StrCat("valgrind --tool=callgrind --callgrind-out-file=/dev/null '", self.data(),
                   "' --repeat=", operation, ":", times, " --dir='", directory, "' 2>&1");
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return absl::ErrnoToStatus(errno, "valgrind");
  std::string output;
  for (std::array<char, 4096> part; fgets(part.data(), part.size(), pipe) != nullptr;) output += part.data();
  if (pclose(pipe) != 0) return absl::InternalError(absl::StrCat("valgrind failed:\n", output));
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(output, '\n'))) {
    const std::vector<std::string> parts = absl::StrSplit(line, "Collected :");
    uint64_t count = 0;
    if (parts.size() == 2 && absl::SimpleAtoi(parts[1], &count)) return count;
  }
  return absl::InternalError(absl::StrCat("valgrind told no count:\n", output));
}

// Writes `pages` random pages in durable transactions of kTransactionPages each.
absl::Status WriteInTransactions(Store& store, const Object& object, std::span<const std::byte> page,
                                 int pages, std::mt19937_64& rng) {
  for (int done = 0; done < pages; done += kTransactionPages) {
    Transaction transaction = store.Begin();
    for (int i = 0; i < kTransactionPages; ++i) {
      RETURN_IF_ERROR(transaction.Write(object, rng() % kPages * kPage, page));
    }
    RETURN_IF_ERROR(transaction.Commit());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Repeat(const std::string& what, const std::string& directory) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(what, ':');
  int times = 0;
  if (!absl::SimpleAtoi(parts.second, &times))
    return absl::InvalidArgumentError(absl::StrCat("--repeat=", what));
  std::filesystem::create_directories(directory);
  const std::string path = directory + "/instructions";
  RETURN_IF_ERROR(Store::Create(path, {.size_bytes = 64 << 20, .force = true}));
  // Valgrind does not see that io_uring fills its ring.
  auto store = Store::Open(path, {.use_io_uring = false});
  if (!store.ok()) return store.status();
  auto object = (*store)->CreateObject("pages");
  if (!object.ok()) return object.status();
  AlignedBuffer page = RandomBytes(kPage, 1);
  std::mt19937_64 rng(1);
  const auto write = [&](uint64_t n, Durability durability) {
    return object->Write(n * kPage, page.span(), {.durability = durability});
  };
  for (uint64_t n = 0; n < kPages; ++n) {
    RETURN_IF_ERROR(write(n, Durability::kBuffered));
  }
  RETURN_IF_ERROR((*store)->Sync());
  if (parts.first == "write") {
    for (uint64_t n = 0; n < kPages; ++n) {
      RETURN_IF_ERROR(write(n, Durability::kBuffered));
    }
  }
  if (parts.first == "transaction") {
    RETURN_IF_ERROR(WriteInTransactions(**store, *object, page.span(), times, rng));
    times = 0;
  }
  // Which operation it is does not cost each of them anything.
  std::function<absl::Status(int)> operation = [&](int) { return write(rng() % kPages, Durability::kSync); };
  if (parts.first == "write") {
    operation = [&](int) { return write(rng() % kPages, Durability::kBuffered); };
  } else if (parts.first == "first-write") {
    operation = [&](int i) {
      const absl::Status s = write(i % kPages, Durability::kBuffered);
      return s.ok() && i % 256 == 255 ? (*store)->Sync() : s;
    };
  } else if (parts.first == "read") {
    operation = [&](int) { return object->Read(rng() % kPages * kPage, page.span()).status(); };
  }
  for (int i = 0; i < times; ++i) {
    RETURN_IF_ERROR(operation(i));
  }
  // The store is not closed, because the count would include the checkpoint of closing.
  std::fflush(nullptr);
  _exit(0);
}

absl::Status CountInstructions(const std::string& directory) {
  // Valgrind counts the whole process, with all its threads. The difference of two runs leaves out what both
  // do once.
  for (const Operation& operation : kOperations) {
    ASSIGN_OR_RETURN(const uint64_t fewer, Collected(operation.name, operation.fewer, directory));
    ASSIGN_OR_RETURN(const uint64_t more, Collected(operation.name, operation.more, directory));
    const double each =
        (static_cast<double>(more) - static_cast<double>(fewer)) / (operation.more - operation.fewer);
    std::printf("%7.0f  %s  at most %5d  %s\n", each, each <= operation.bar ? "met    " : "NOT MET",
                operation.bar, operation.what);
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
