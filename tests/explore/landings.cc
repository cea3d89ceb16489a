#include "tests/explore/landings.h"

#include <algorithm>
#include <utility>

namespace untorn {
namespace {

using Landing = SimulatedDisk::Landing;
using Unflushed = SimulatedDisk::Unflushed;

constexpr uint64_t kSectorsMax = 20;  // of a write whose patterns are all tried

Landing Whole() { return {.lands = true, .sectors = {}, .shorn = false}; }
Landing Shorn(uint64_t sectors) {
  return {.lands = true, .sectors = std::vector<bool>(sectors), .shorn = true};
}

template <typename Lands>
Landing Torn(uint64_t sectors, Lands lands) {
  Landing landing = Whole();
  landing.sectors.resize(sectors);
  for (uint64_t s = 0; s < sectors; ++s) landing.sectors[s] = lands(s);
  return landing;
}

// In how many ways the write can land; `max` + 1 if in more.
uint64_t WaysOf(const Unflushed& write, uint64_t max) {
  if (!write.may_tear) return 2;
  return write.sectors > kSectorsMax ? max + 1 : std::min(max + 1, (uint64_t{1} << write.sectors) + 1);
}

Landing Way(const Unflushed& write, uint64_t way) {
  if (way == 0) return {};
  const uint64_t all = uint64_t{1} << write.sectors;
  if (!write.may_tear || way == all - 1) return Whole();
  if (way == all) return Shorn(write.sectors);
  return Torn(write.sectors, [way](uint64_t s) { return (way >> s & 1) != 0; });
}

Landing RandomTear(uint64_t sectors, std::mt19937_64& rng) {
  // Half of them between blocks, which is where what belongs to different objects meets.
  const uint64_t unit = rng() % 2 == 0 ? 1 : 8;
  if (unit == 8 && rng() % 2 == 0) {
    const uint64_t pattern = rng();
    return Torn(sectors, [pattern](uint64_t s) { return (pattern >> (s / 8 % 64) & 1) != 0; });
  }
  const uint64_t kind = rng() % 3, at = rng() % (sectors / unit + 1) * unit;
  return Torn(sectors, [&](uint64_t s) { return kind == 0 ? s < at : kind == 1 ? s >= at : rng() % 2 == 0; });
}

std::vector<Landings> All(std::span<const Unflushed> writes, size_t max) {
  std::vector<Landings> all = {Landings()};
  for (const Unflushed& write : writes) {
    std::vector<Landings> longer;
    for (const Landings& before : all) {
      for (uint64_t way = 0; way < WaysOf(write, max); ++way) {
        longer.push_back(before);
        longer.back().push_back(Way(write, way));
      }
    }
    all = std::move(longer);
  }
  return all;
}

}  // namespace

std::vector<Landings> EnumerateLandings(std::span<const Unflushed> writes, size_t max, std::mt19937_64& rng) {
  const size_t n = writes.size();
  uint64_t ways = 1;
  for (const Unflushed& write : writes) ways = std::min<uint64_t>(max + 1, ways * WaysOf(write, max));
  if (ways <= max) return All(writes, max);

  const Landings none(n), all(n, Whole());
  std::vector<Landings> chosen = {none, all, none};
  for (size_t i = 0; i < n; ++i) {
    if (writes[i].may_tear) chosen[2][i] = Shorn(writes[i].sectors);
  }
  if (n < 20 && (uint64_t{1} << n) <= max) {
    for (uint64_t subset = 1; subset + 1 < uint64_t{1} << n; ++subset) {
      Landings& landings = chosen.emplace_back(none);
      for (size_t i = 0; i < n; ++i) {
        if ((subset >> i & 1) != 0) landings[i] = Whole();
      }
    }
  } else {
    for (size_t i = 0; i < n; ++i) {
      chosen.emplace_back(none)[i] = Whole();
      chosen.emplace_back(all)[i] = Landing();
    }
  }
  const size_t kept = chosen.size();
  for (size_t i = 0; i < n; ++i) {
    const uint64_t sectors = writes[i].sectors;
    if (!writes[i].may_tear) continue;
    for (const Landings& others : n == 1 ? std::vector<Landings>{none} : std::vector<Landings>{none, all}) {
      chosen.emplace_back(others)[i] = Torn(sectors, [](uint64_t s) { return s == 0; });
      chosen.emplace_back(others)[i] = Torn(sectors, [&](uint64_t s) { return s + 1 < sectors; });
      chosen.emplace_back(others)[i] = Torn(sectors, [](uint64_t s) { return s % 2 == 1; });
      chosen.emplace_back(others)[i] = Torn(sectors, [&](uint64_t s) { return s < sectors / 2; });
      chosen.emplace_back(others)[i] = Torn(sectors, [&](uint64_t s) { return s >= sectors / 2; });
      chosen.emplace_back(others)[i] = Shorn(sectors);
    }
  }
  if (chosen.size() > max) {
    std::shuffle(chosen.begin() + kept, chosen.end(), rng);
    chosen.resize(std::max(max, kept));
  }
  while (chosen.size() < max) {
    Landings& landings = chosen.emplace_back(n);
    for (size_t i = 0; i < n; ++i) {
      if (rng() % 2 == 0) continue;
      landings[i] = writes[i].may_tear && rng() % 2 == 0 ? RandomTear(writes[i].sectors, rng) : Whole();
      landings[i].shorn = !landings[i].sectors.empty() && rng() % 4 == 0;
    }
  }
  return chosen;
}

}  // namespace untorn
