// Ranges that are only ever written whole, with one number in every word, so that a mix of two writes shows.
#ifndef UNTORN_TESTS_UNTORN_NUMBERED_SLOTS_H_
#define UNTORN_TESTS_UNTORN_NUMBERED_SLOTS_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

namespace untorn {

struct Slot {
  uint64_t offset, length;
};

inline std::vector<std::byte> Numbered(uint64_t number, uint64_t length) {
  std::vector<std::byte> data(length);
  for (uint64_t at = 0; at < length; at += 8) std::memcpy(data.data() + at, &number, 8);
  return data;
}

// The number a slot holds; fails the test if it holds several.
inline uint64_t NumberIn(std::span<const std::byte> data) {
  uint64_t first = 0;
  std::memcpy(&first, data.data(), 8);
  for (size_t at = 8; at < data.size(); at += 8) {
    uint64_t number = 0;
    std::memcpy(&number, data.data() + at, 8);
    if (number == first) continue;
    ADD_FAILURE() << "a mix of writes " << first << " and " << number << " at byte " << at;
    break;
  }
  return first;
}

// Slots of all sizes, aligned and odd, that share blocks with their neighbours.
inline std::vector<Slot> MakeSlots(std::mt19937_64& rng) {
  std::vector<Slot> slots;
  uint64_t at = 0;
  for (int i = 0; i < 24; ++i) {
    if (i % 3 == 0) {
      const uint64_t page = 4096u << rng() % 5;
      at = (at + page - 1) / page * page;
      slots.push_back({at, page});
    } else {
      slots.push_back({at, 8 * (1 + rng() % 4000)});
    }
    at += slots.back().length;
  }
  return slots;
}

}  // namespace untorn

#endif  // UNTORN_TESTS_UNTORN_NUMBERED_SLOTS_H_
