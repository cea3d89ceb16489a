// How often a randomized test does its work: all of its rounds, or a share of them in a build that a sanitizer
// makes many times slower.
#ifndef UNTORN_TESTS_ROUNDS_H_
#define UNTORN_TESTS_ROUNDS_H_

namespace untorn {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int kRoundsDivisor = 5;
#else
inline constexpr int kRoundsDivisor = 1;
#endif

constexpr int Rounds(int all) { return (all + kRoundsDivisor - 1) / kRoundsDivisor; }

}  // namespace untorn

#endif  // UNTORN_TESTS_ROUNDS_H_
