// The functions that the fake exports: those that the core looks up, with the core's declarations.
#pragma once

#include "cuda/cuda_driver.h"
#include "fake_cuda.h"

namespace sucrose::cuda {

extern "C" {
#define FAKE_CUDA_DECLARE(name, parameters) FAKE_CUDA_EXPORT CUresult name parameters;
SUCROSE_CUDA_FUNCTIONS(FAKE_CUDA_DECLARE)
#undef FAKE_CUDA_DECLARE
}

} // namespace sucrose::cuda
