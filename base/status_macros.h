// Passing an error on to the caller.
#ifndef UNTORN_BASE_STATUS_MACROS_H_
#define UNTORN_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns the error of `expr`, an absl::Status, from the enclosing function.
#define RETURN_IF_ERROR(expr)                                    \
  if (absl::Status status_ = (expr); !status_.ok()) [[unlikely]] \
  return status_

// `target = value of expr`, an absl::StatusOr; returns the error from the enclosing function instead, if there is one.
#define ASSIGN_OR_RETURN(target, expr) \
  UNTORN_ASSIGN_OR_RETURN_(UNTORN_CONCATENATE_(status_or_, __LINE__), target, expr)

#define UNTORN_CONCATENATE_(a, b) UNTORN_CONCATENATE_NOW_(a, b)
#define UNTORN_CONCATENATE_NOW_(a, b) a##b
#define UNTORN_ASSIGN_OR_RETURN_(result, target, expr) \
  auto result = (expr);                                \
  if (!result.ok()) [[unlikely]]                       \
    return result.status();                            \
  target = *std::move(result)

#endif  // UNTORN_BASE_STATUS_MACROS_H_
