// KVATTEND_CHECK(condition): stops the process where a programmer broke a contract.
//
// Never for what comes from outside (requests, files, devices): that is an absl::Status.
#ifndef KVATTEND_KERNELS_BASE_CHECK_H_
#define KVATTEND_KERNELS_BASE_CHECK_H_

namespace kvattend::internal {

// Prints "file:line: check failed: condition" to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);

}  // namespace kvattend::internal

// Checked in every build type; evaluates the condition once.
#define KVATTEND_CHECK(condition) \
  (static_cast<bool>(condition)   \
       ? static_cast<void>(0)     \
       : ::kvattend::internal::CheckFailed(__FILE__, __LINE__, #condition))

#endif  // KVATTEND_KERNELS_BASE_CHECK_H_
