// The results that the fake returns, beside those that the core knows by name.
#pragma once

#include "cuda/cuda_driver.h"

namespace fake_cuda {

using sucrose::cuda::CUresult;

inline constexpr CUresult error_invalid_value = 1;
inline constexpr CUresult error_not_initialized = 3;
inline constexpr CUresult error_no_device = 100;
inline constexpr CUresult error_invalid_device = 101;
inline constexpr CUresult error_invalid_context = 201;
inline constexpr CUresult error_invalid_handle = 400;
inline constexpr CUresult error_not_found = 500;
inline constexpr CUresult error_context_is_destroyed = 709;
inline constexpr CUresult error_host_memory_already_registered = 712;
inline constexpr CUresult error_host_memory_not_registered = 713;

} // namespace fake_cuda
