// Finds and changes runs of bits in an array of words. Bit i of the array is bit i % 64 of word i / 64.
#ifndef UNTORN_EXTENT_BIT_RUNS_H_
#define UNTORN_EXTENT_BIT_RUNS_H_

#include <algorithm>
#include <bit>
#include <cstdint>

namespace untorn {

// Returns the index of the first bit in [from, limit) whose value is `set`. Returns `limit` if there is no
// such bit.
inline uint64_t FindBit(const uint64_t* words, uint64_t from, uint64_t limit, bool set) {
  while (from < limit) {
    uint64_t word = words[from / 64];
    if (!set) word = ~word;
    word &= ~uint64_t{0} << (from % 64);
    if (word != 0) return std::min<uint64_t>(limit, from / 64 * 64 + std::countr_zero(word));
    from = (from / 64 + 1) * 64;
  }
  return limit;
}

// Returns the index at which the run of clear bits begins that ends before bit `at`. Returns `at` if the bit
// before `at` is set.
inline uint64_t RunStart(const uint64_t* words, uint64_t at) {
  while (at > 0) {
    const uint64_t in_word = (at - 1) % 64 + 1;  // bits of this word below `at`
    const uint64_t word = words[(at - 1) / 64] << (64 - in_word);
    if (word != 0) return at - std::countl_zero(word);
    at -= in_word;
  }
  return 0;
}

// Sets or clears bits [from, to). Returns the number of bits that changed.
inline uint64_t ChangeBits(uint64_t* words, uint64_t from, uint64_t to, bool set) {
  uint64_t changed = 0;
  while (from < to) {
    const uint64_t in_word = std::min<uint64_t>(64 - from % 64, to - from);
    const uint64_t mask = (in_word == 64 ? ~uint64_t{0} : ((uint64_t{1} << in_word) - 1)) << (from % 64);
    uint64_t& word = words[from / 64];
    // Usually all of them change, and counting them one by one costs more.
    const uint64_t changes = set ? mask & ~word : mask & word;
    changed += changes == mask ? in_word : std::popcount(changes);
    word = set ? word | mask : word & ~mask;
    from += in_word;
  }
  return changed;
}

}  // namespace untorn

#endif  // UNTORN_EXTENT_BIT_RUNS_H_
