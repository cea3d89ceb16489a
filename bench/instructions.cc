#include "bench/instructions.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/pages.h"
#include "untorn/store.h"

namespace untorn::bench {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 1024;

struct Operation {
  const char* name;
  const char* what;
};
constexpr Operation kOperations[] = {
    {"write", "4 KiB buffered atomic write, dirty already"},
    {"first-write", "4 KiB buffered atomic write, clean before; with its writeback, in batches of 256"},
    {"read", "4 KiB cached read"},
    {"commit", "4 KiB durable write by copy-on-write"},
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

}  // namespace

absl::Status Repeat(const std::string& what, const std::string& directory) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(what, ':');
  int times = 0;
  if (!absl::SimpleAtoi(parts.second, &times))
    return absl::InvalidArgumentError(absl::StrCat("--repeat=", what));
  std::filesystem::create_directories(directory);
  const std::string path = directory + "/instructions";
  if (absl::Status s = Store::Create(path, {.size_bytes = 64 << 20, .force = true}); !s.ok()) return s;
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
    if (absl::Status s = write(n, Durability::kBuffered); !s.ok()) return s;
  }
  if (absl::Status s = (*store)->Sync(); !s.ok()) return s;
  if (parts.first == "write") {
    for (uint64_t n = 0; n < kPages; ++n) {
      if (absl::Status s = write(n, Durability::kBuffered); !s.ok()) return s;
    }
  }
  for (int i = 0; i < times; ++i) {
    absl::Status s;
    if (parts.first == "write") {
      s = write(rng() % kPages, Durability::kBuffered);
    } else if (parts.first == "first-write") {
      s = write(i % kPages, Durability::kBuffered);
      if (s.ok() && i % 256 == 255) s = (*store)->Sync();
    } else if (parts.first == "read") {
      s = object->Read(rng() % kPages * kPage, page.span()).status();
    } else {
      s = write(rng() % kPages, Durability::kSync);
    }
    if (!s.ok()) return s;
  }
  // Not closed: its checkpoint would be counted.
  std::fflush(nullptr);
  _exit(0);
}

absl::Status CountInstructions(const std::string& directory) {
  constexpr int kFewer = 512, kMore = 2560;
  for (const Operation& operation : kOperations) {
    absl::StatusOr<uint64_t> fewer = Collected(operation.name, kFewer, directory);
    if (!fewer.ok()) return fewer.status();
    absl::StatusOr<uint64_t> more = Collected(operation.name, kMore, directory);
    if (!more.ok()) return more.status();
    std::printf("%7.0f  %s\n", (static_cast<double>(*more) - static_cast<double>(*fewer)) / (kMore - kFewer),
                operation.what);
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
