#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>
#include <algorithm>
#include <string>
#include <cstring>
#include <unistd.h>
#include "base/aligned_buffer.h"
#include "untorn/store.h"
using namespace untorn;
// t PATH PAGES KIB SECONDS SETMIB
int main(int, char** argv) {
  std::string path = argv[1]; int pages = atoi(argv[2]); uint64_t pb = atoi(argv[3]) << 10; double secs = atof(argv[4]); uint64_t set = (uint64_t)atoi(argv[5]) << 20;
  (void)Store::Create(path, {.size_bytes = 4 * set + (64 << 20), .force = true, .prepare = true});
  auto store = Store::Open(path, {.policy = WritePolicy::kAlwaysCow, .cache_bytes = 256 << 20});
  auto obj = *(*store)->CreateObject("o");
  AlignedBuffer buf(64 * pb); for (size_t i = 0; i < buf.size(); ++i) buf.data()[i] = std::byte(rand());
  uint64_t n = set / pb;
  for (uint64_t i = 0; i < n; i += 16) { if (!obj.Write(i * pb, {buf.data(), 16 * pb}, {.durability = Durability::kSync}).ok()) return 1; }
  std::mt19937_64 rng(1);
  std::vector<double> lat; auto t0 = std::chrono::steady_clock::now();
  auto s0 = (*store)->stats();
  double stage = 0, commit = 0;
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - t0).count() < secs) {
    auto a = std::chrono::steady_clock::now();
    if (pages == 1) { (void)obj.Write(rng() % n * pb, {buf.data(), pb}, {.durability = Durability::kSync}); }
    else {
      Transaction tx = (*store)->Begin();
      for (int i = 0; i < pages; ++i) (void)tx.Write(obj, rng() % n * pb, {buf.data() + i * pb, pb});
      auto b = std::chrono::steady_clock::now();
      stage += std::chrono::duration<double>(b - a).count();
      if (!tx.Commit(Durability::kSync).ok()) return 2;
      commit += std::chrono::duration<double>(std::chrono::steady_clock::now() - b).count();
    }
    lat.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - a).count() * 1e6);
  }
  auto s1 = (*store)->stats();
  std::sort(lat.begin(), lat.end());
  size_t k = lat.size();
  std::printf("%zu ops, %.0f/s, p50 %.1f p90 %.1f p99 %.1f; stage %.1f commit %.1f; lanes %.3f checkpoints %lu writes/op %.2f flush/op %.2f KiB/op %.1f\n", k, k / secs, lat[k/2], lat[k*9/10], lat[k*99/100], stage/k*1e6, commit/k*1e6, double(s1.commits_in_lanes - s0.commits_in_lanes)/(s1.commits - s0.commits), (unsigned long)(s1.checkpoints - s0.checkpoints), double(s1.device_writes - s0.device_writes)/k, double(s1.flushes-s0.flushes)/k, double(s1.device_bytes_written-s0.device_bytes_written)/k/1024);
  std::fflush(nullptr); _exit(0);
}
