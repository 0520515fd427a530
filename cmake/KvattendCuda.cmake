# The CUDA backend is built where nvcc is found, and left out elsewhere. The runtime is linked
# statically: a binary starts without a driver.

option(KVATTEND_CUDA "Build the CUDA backend if nvcc is found" ON)
set(KVATTEND_CUDA_ARCHS "80-real;89-real;90a-real;90-virtual" CACHE STRING
    "GPU architectures; sm_90a code does not run on newer GPUs, for which compute_90 PTX is kept")

set(KVATTEND_HAS_CUDA OFF)
if(KVATTEND_CUDA AND NOT KVATTEND_SANITIZE)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES ${KVATTEND_CUDA_ARCHS})
    enable_language(CUDA)
    # CMake 3.25 does not know this flag of newer compilers.
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
    if(CCACHE_PROGRAM)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
    endif()
    find_package(CUDAToolkit REQUIRED)
    set(KVATTEND_HAS_CUDA ON)
  endif()
endif()
message(STATUS "CUDA backend: ${KVATTEND_HAS_CUDA}")

# As kvattend_library, with .cu files among the sources.
function(kvattend_cuda_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS;PUBLIC_DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SRCS})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:${KVATTEND_WARNINGS}>
    "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Werror>")
  target_link_libraries(${name} PUBLIC ${ARG_PUBLIC_DEPS} CUDA::cudart_static PRIVATE ${ARG_DEPS})
endfunction()
