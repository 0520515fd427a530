// Early returns for functions that return absl::Status or absl::StatusOr.
#ifndef KVATTEND_KERNELS_BASE_STATUS_MACROS_H_
#define KVATTEND_KERNELS_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns the status of `expression` from the enclosing function unless it is OK.
#define KVATTEND_RETURN_IF_ERROR(expression)                                \
  do {                                                                      \
    if (absl::Status kvattend_status = (expression); !kvattend_status.ok()) \
      return kvattend_status;                                               \
  } while (false)

// KVATTEND_ASSIGN_OR_RETURN(auto block, pool.Allocate()): assigns the value of an absl::StatusOr,
// or returns its status. Several statements, so not the body of an `if` without braces. A
// declaration with a comma outside parentheses needs a type alias.
#define KVATTEND_ASSIGN_OR_RETURN(declaration, expression)                                      \
  KVATTEND_ASSIGN_OR_RETURN_IMPL_(KVATTEND_CONCAT_(kvattend_status_or_, __LINE__), declaration, \
                                  expression)

#define KVATTEND_ASSIGN_OR_RETURN_IMPL_(status_or, declaration, expression) \
  auto status_or = (expression);                                            \
  if (!status_or.ok()) return std::move(status_or).status();                \
  declaration = *std::move(status_or)

#define KVATTEND_CONCAT_(a, b) KVATTEND_CONCAT_IMPL_(a, b)
#define KVATTEND_CONCAT_IMPL_(a, b) a##b

#endif  // KVATTEND_KERNELS_BASE_STATUS_MACROS_H_
