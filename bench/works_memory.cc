// What stays in memory: untorn's buffered writes and cached reads beside memcpy, which is the limit, and the kernel's
// page cache.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "bench/pages.h"
#include "bench/works.h"
#include "untorn/store.h"

namespace untorn::bench {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kSetBytes = 256 << 20;
constexpr uint64_t kPages = kSetBytes / kPage;
// One measurement ends well before the second after which writeback begins.
constexpr int kOperations = 100000;
constexpr int kSources = 64;

double PerSecond(std::chrono::steady_clock::time_point start, int operations) {
  return operations / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Pages to write from, and the versions of what is written to one place.
struct Source {
  AlignedBuffer pages = RandomBytes(kSources * kPage, 1);
  std::vector<uint64_t> order;  // of all pages once, at random
  std::vector<uint32_t> versions = std::vector<uint32_t>(kPages, 0);
  std::mt19937_64 rng{1};
  uint64_t next = 0;

  Source() {
    for (uint64_t i = 0; i < kPages; ++i) order.push_back(i);
    std::shuffle(order.begin(), order.end(), rng);
  }
  std::span<const std::byte> Next(uint64_t page) {
    std::byte* data = pages.data() + next++ % kSources * kPage;
    Stamp(data, kPage, page, ++versions[page]);
    return {data, kPage};
  }
};

// Writes pages by `write`: every one of them once (the first time since it was clean), then at random. Returns how many
// a second, of both.
template <typename Write>
absl::StatusOr<std::pair<double, double>> MeasureWrites(Source& source, Write write) {
  auto start = std::chrono::steady_clock::now();
  for (uint64_t page : source.order) {
    if (absl::Status s = write(page, source.Next(page)); !s.ok()) return s;
  }
  const double first = PerSecond(start, kPages);
  start = std::chrono::steady_clock::now();
  for (int i = 0; i < kOperations; ++i) {
    const uint64_t page = source.rng() % kPages;
    if (absl::Status s = write(page, source.Next(page)); !s.ok()) return s;
  }
  return std::pair(first, PerSecond(start, kOperations));
}

template <typename Read>
absl::StatusOr<double> MeasureReads(Source& source, Read read) {
  AlignedBuffer into = RandomBytes(kSources * kPage, 2);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kOperations; ++i) {
    const uint64_t page = source.rng() % kPages;
    if (absl::Status s = read(page, into.data() + i % kSources * kPage); !s.ok()) return s;
  }
  return PerSecond(start, kOperations);
}

template <typename Read>
absl::Status CheckAll(const Source& source, Read read) {
  AlignedBuffer page(kPage);
  for (uint64_t n = 0; n < kPages; ++n) {
    absl::Status s = read(n, page.data());
    if (s.ok()) s = CheckStamp(page.data(), kPage, n, source.versions[n]);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status ErrnoStatus(const std::string& what, ssize_t n) {
  if (n == static_cast<ssize_t>(kPage)) return absl::OkStatus();
  return n < 0 ? absl::ErrnoToStatus(errno, what) : absl::InternalError(absl::StrCat(what, ": cut short"));
}

}  // namespace

absl::Status MemoryWorks(const Setting& setting, Results* results) {
  const std::string path = setting.directory + "/memory", file_path = setting.directory + "/page-cache";
  if (absl::Status s = Store::Create(path, {.size_bytes = 1 << 30, .force = true}); !s.ok()) return s;
  // All of the set may be dirty without writeback being due.
  auto store = Store::Open(path, {.cache_bytes = uint64_t{2} << 30});
  if (!store.ok()) return store.status();
  auto object = (*store)->CreateObject("pages");
  if (!object.ok()) return object.status();
  const int fd = open(file_path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return absl::ErrnoToStatus(errno, file_path);
  const absl::Cleanup close_file = [&] { close(fd); };
  AlignedBuffer memory = RandomBytes(kSetBytes, 3);

  const auto untorn_write = [&](uint64_t page, std::span<const std::byte> data) {
    return object->Write(page * kPage, data);
  };
  const auto untorn_read = [&](uint64_t page, std::byte* out) {
    return object->Read(page * kPage, std::span(out, kPage)).status();
  };
  const auto file_write = [&](uint64_t page, std::span<const std::byte> data) {
    return ErrnoStatus("pwrite", pwrite(fd, data.data(), kPage, page * kPage));
  };
  const auto file_read = [&](uint64_t page, std::byte* out) {
    return ErrnoStatus("pread", pread(fd, out, kPage, page * kPage));
  };
  const auto memory_write = [&](uint64_t page, std::span<const std::byte> data) {
    std::memcpy(memory.data() + page * kPage, data.data(), kPage);
    return absl::OkStatus();
  };
  const auto memory_read = [&](uint64_t page, std::byte* out) {
    std::memcpy(out, memory.data() + page * kPage, kPage);
    return absl::OkStatus();
  };

  Source untorn_source, file_source, memory_source;
  // Everything has been there before.
  for (uint64_t page = 0; page < kPages; ++page) {
    if (absl::Status s = untorn_write(page, untorn_source.Next(page)); !s.ok()) return s;
    if (absl::Status s = file_write(page, file_source.Next(page)); !s.ok()) return s;
  }
  if (absl::Status s = (*store)->Sync(); !s.ok()) return s;
  if (fdatasync(fd) != 0) return absl::ErrnoToStatus(errno, file_path);
  // Round by round; of untorn, the page cache, memory.
  Series first[3] = {{"untorn", {}}, {"page cache", {}}, {"memcpy", {}}}, again[3], reads[3];
  std::copy(first, first + 3, again);
  std::copy(first, first + 3, reads);
  for (int round = 0; round < setting.pace.rounds; ++round) {
    const auto note = [&](int i, absl::StatusOr<std::pair<double, double>> writes,
                          absl::StatusOr<double> read) -> absl::Status {
      if (!writes.ok()) return writes.status();
      if (!read.ok()) return read.status();
      first[i].per_second.push_back(writes->first);
      again[i].per_second.push_back(writes->second);
      reads[i].per_second.push_back(*read);
      return absl::OkStatus();
    };
    auto writes = MeasureWrites(untorn_source, untorn_write);
    if (absl::Status s = note(0, writes, MeasureReads(untorn_source, untorn_read)); !s.ok()) return s;
    if (absl::Status s = (*store)->Sync(); !s.ok()) return s;
    writes = MeasureWrites(file_source, file_write);
    if (absl::Status s = note(1, writes, MeasureReads(file_source, file_read)); !s.ok()) return s;
    if (fdatasync(fd) != 0) return absl::ErrnoToStatus(errno, file_path);
    writes = MeasureWrites(memory_source, memory_write);
    if (absl::Status s = note(2, writes, MeasureReads(memory_source, memory_read)); !s.ok()) return s;
  }
  if (absl::Status s = CheckAll(untorn_source, untorn_read); !s.ok()) return s;
  if (absl::Status s = CheckAll(file_source, file_read); !s.ok()) return s;
  if (absl::Status s = CheckAll(memory_source, memory_read); !s.ok()) return s;

  const std::pair<const char*, Series*> works[] = {{"4 KiB buffered atomic write, clean before", first},
                                                   {"4 KiB buffered atomic write, dirty already", again},
                                                   {"4 KiB cached read", reads}};
  const auto time_of = [](const std::string& work) { return "time of a " + work; };
  for (const auto& [work, series] : works) {
    const std::vector<Series> all(series, series + 3);
    AddRatio(time_of(work), all, "memcpy", "untorn", results);
    std::swap(results->ratios.back().subject, results->ratios.back().against);
    AddRatio(work, all, "untorn", "page cache", results);
    for (const Series& s : all) results->figures.push_back({work, s.subject, "", MedianOf(s.per_second)});
  }
  results->bars.push_back({time_of(works[1].first), "untorn", "memcpy", {}, 2.5});
  results->bars.push_back({works[1].first, "untorn", "page cache", 2.5, {}});
  results->bars.push_back({time_of(works[2].first), "untorn", "memcpy", {}, 2});
  return absl::OkStatus();
}

}  // namespace untorn::bench
