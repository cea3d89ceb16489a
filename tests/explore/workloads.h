// What is explored: stores to begin with, every short sequence of an alphabet of steps, situations that take
// more steps than that, and long random ones.
#ifndef UNTORN_TESTS_EXPLORE_WORKLOADS_H_
#define UNTORN_TESTS_EXPLORE_WORKLOADS_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/explore/explorer.h"
#include "tests/explore/step.h"

namespace untorn {

// Each holds an object "a" of 64 KiB and one "b" of 20000 bytes.
//   clean  killed behind a checkpoint, so that all mappings are settled; "a" is open; a hardware unit of 16 KiB
//   tail   killed with records in the log, the last ones unsettled; a stated unit of 64 KiB
//   wrap   one block is left before the end of the log's ring; no unit
//   full   hardly any space left; a hardware unit of 16 KiB
//   tight  some 170 KiB left, so that what is freed is soon used again; "a" is open; a hardware unit of 16 KiB
//   lanes  as clean; sequences begin when two commits have gone to lanes
const std::vector<ExploreBase>& ExploreBases();
// One of these, or one that a scenario has for itself:
//   leaves  the tree has several leaves
// The first returns nullptr if there is none of that name.
const ExploreBase* FindExploreBase(const std::string& name);
const ExploreBase& ExploreBaseNamed(const std::string& name);

// Every call there is, each in a form or two that meets the others' ranges and names.
const std::vector<Step>& Alphabet();

// Sequence number `index` of all those of `length` steps of the alphabet.
std::vector<Step> SequenceOf(uint64_t index, int length);
uint64_t SequencesOf(int length);

// Situations that need more than three steps, or completions in a controlled order.
struct Scenario {
  const char* name;
  const char* base;
  const char* steps;
  const char* next_writes = "";  // of recovered stores; "": some of the explorer's own
};
const std::vector<Scenario>& Scenarios();

// A long sequence of random calls with random ranges.
std::vector<Step> RandomSteps(uint64_t seed, size_t count);

}  // namespace untorn

#endif  // UNTORN_TESTS_EXPLORE_WORKLOADS_H_
