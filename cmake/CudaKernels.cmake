# Compiles csrc/cuda/kernels.cu where nvcc is found and works, and has the image embedded in a target.
#
# Nothing else of CUDA's is needed or linked. The image holds machine code for the architectures below as far as this
# nvcc knows them, and PTX of the oldest, which the driver compiles for every other device.

find_program(NVCC nvcc
  HINTS ENV CUDA_HOME ENV CUDA_PATH
  PATHS /usr/local/cuda
  PATH_SUFFIXES bin
  DOC "NVIDIA's compiler, for the kernels")
mark_as_advanced(NVCC)

set(SUCROSE_KERNEL_ARCHITECTURES 80 90 100)
set(SUCROSE_KERNEL_PTX 75)
# Not compressed, as drivers older than this nvcc may not know how.
# No host code comes from nvcc, so the version of the host compiler does not matter as long as its headers are understood.
set(SUCROSE_NVCC_FLAGS -fatbin -no-compress -std=c++17 -O3 -ccbin "${CMAKE_CXX_COMPILER}" -allow-unsupported-compiler)

# Sets `flags` to the -gencode options that `nvcc` takes.
function(_kernel_architectures flags)
  execute_process(COMMAND "${NVCC}" --list-gpu-arch OUTPUT_VARIABLE listed ERROR_QUIET)
  string(REGEX MATCHALL "compute_[0-9]+" known "${listed}")
  list(TRANSFORM known REPLACE "compute_" "")
  set(options)
  foreach(architecture IN LISTS SUCROSE_KERNEL_ARCHITECTURES)
    if(architecture IN_LIST known)
      list(APPEND options -gencode "arch=compute_${architecture},code=sm_${architecture}")
    endif()
  endforeach()
  if(known AND NOT SUCROSE_KERNEL_PTX IN_LIST known)
    list(SORT known COMPARE NATURAL)
    list(GET known 0 SUCROSE_KERNEL_PTX)
  endif()
  list(APPEND options -gencode "arch=compute_${SUCROSE_KERNEL_PTX},code=compute_${SUCROSE_KERNEL_PTX}")
  set(${flags} ${options} PARENT_SCOPE)
endfunction()

# Sets `works` to whether nvcc gets along with the host compiler's headers.
function(_nvcc_works works)
  set(probe "${CMAKE_CURRENT_BINARY_DIR}/nvcc_probe")
  file(WRITE "${probe}.cu" "#include <cstddef>\n#include <cstdint>\n#include <cstring>\n__global__ void probe() {}\n")
  execute_process(COMMAND "${NVCC}" ${SUCROSE_NVCC_FLAGS} -o "${probe}.fatbin" "${probe}.cu"
    RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
  if(result EQUAL 0)
    set(${works} TRUE PARENT_SCOPE)
  else()
    message(STATUS "${NVCC} does not compile with ${CMAKE_CXX_COMPILER}: no CUDA kernels")
    set(${works} FALSE PARENT_SCOPE)
  endif()
endfunction()

# Adds the kernels to `target`, or what stands in for them.
function(add_cuda_kernels target)
  set(works FALSE)
  if(SUCROSE_WITH_KERNELS AND NVCC)
    _nvcc_works(works)
  endif()
  if(NOT works)
    target_sources(${target} PRIVATE csrc/cuda/kernels_stub.cpp)
    return()
  endif()
  _kernel_architectures(architectures)
  set(source "${CMAKE_CURRENT_SOURCE_DIR}/csrc/cuda/kernels.cu")
  set(image "${CMAKE_CURRENT_BINARY_DIR}/kernels.fatbin")
  add_custom_command(OUTPUT "${image}"
    COMMAND "${NVCC}" ${SUCROSE_NVCC_FLAGS} ${architectures} -I "${CMAKE_CURRENT_SOURCE_DIR}/csrc" -o "${image}" "${source}"
    DEPENDS "${source}" "${CMAKE_CURRENT_SOURCE_DIR}/csrc/kernel_bodies.h"
    COMMENT "Compiling CUDA kernels" VERBATIM)
  target_sources(${target} PRIVATE csrc/cuda/kernels_embedded.cpp)
  set_source_files_properties(csrc/cuda/kernels_embedded.cpp PROPERTIES
    COMPILE_DEFINITIONS "SUCROSE_KERNELS_IMAGE=\"${image}\"" OBJECT_DEPENDS "${image}")
  list(FILTER architectures INCLUDE REGEX "^arch=")
  list(JOIN architectures " " architectures)
  message(STATUS "CUDA kernels: ${NVCC}, ${architectures}")
endfunction()
