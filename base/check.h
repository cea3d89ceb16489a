// What is done about a bug of our own: say where, and stop.
#ifndef UNTORN_BASE_CHECK_H_
#define UNTORN_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define UNTORN_CHECK(cond, message)                                                               \
  do {                                                                                            \
    if (!(cond)) [[unlikely]] {                                                                   \
      std::fprintf(stderr, "%s:%d: check failed: %s (%s)\n", __FILE__, __LINE__, message, #cond); \
      std::abort();                                                                               \
    }                                                                                             \
  } while (false)

#endif  // UNTORN_BASE_CHECK_H_
