// What a power cut may leave of the writes that no flush covers: all ways where they are few, otherwise the
// extremes and a sample.
#ifndef UNTORN_TESTS_EXPLORE_LANDINGS_H_
#define UNTORN_TESTS_EXPLORE_LANDINGS_H_

#include <cstddef>
#include <random>
#include <span>
#include <vector>

#include "sim/simulated_disk.h"

namespace untorn {

using Landings = std::vector<SimulatedDisk::Landing>;  // one for each write

// All combinations of nothing, everything, every pattern of torn sectors, and nothing with the sectors
// unreadable, if there are at most `max`.
// Otherwise
//  - nothing at all; everything; every write that may tear unreadable; each write alone; everything but each write;
//  - all subsets of whole writes, if there are at most `max`;
//  - each write that may tear torn after its first sector, before its last, and in every other one, and in either half, with all
//    others there and with none there; the same with it unreadable;
//  - samples of subsets with torn writes among them, by `rng`, up to `max` in all.
// Those of the first two lines are always included.
std::vector<Landings> EnumerateLandings(std::span<const SimulatedDisk::Unflushed> writes, size_t max,
                                        std::mt19937_64& rng);

}  // namespace untorn

#endif  // UNTORN_TESTS_EXPLORE_LANDINGS_H_
