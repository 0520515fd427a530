# Targets that look at sources: format, format-check, tidy.
find_program(CLANG_FORMAT clang-format)
find_program(RUN_CLANG_TIDY run-clang-tidy)

set(folders kernels server client tests)
set(patterns)
foreach(folder ${folders})
  foreach(extension h cc cuh cu)
    list(APPEND patterns ${CMAKE_SOURCE_DIR}/${folder}/*.${extension})
  endforeach()
endforeach()
file(GLOB_RECURSE KVATTEND_SOURCES CONFIGURE_DEPENDS ${patterns})

if(CLANG_FORMAT)
  add_custom_target(format COMMAND ${CLANG_FORMAT} -i ${KVATTEND_SOURCES} VERBATIM)
  add_custom_target(format-check
    COMMAND ${CLANG_FORMAT} --dry-run -Werror ${KVATTEND_SOURCES} VERBATIM)
endif()
if(RUN_CLANG_TIDY)
  list(JOIN folders "|" alternatives)
  add_custom_target(tidy
    COMMAND ${RUN_CLANG_TIDY} -quiet -p ${CMAKE_BINARY_DIR}
            "^${CMAKE_SOURCE_DIR}/(${alternatives})/" VERBATIM USES_TERMINAL)
endif()
