// Compares the hand-declared interface of the CUDA driver with the real one. Compiled only where
// cuda.h is found; has no code.
#include <cuda.h>

#include <cstddef>
#include <type_traits>

#include "cuda/cuda_driver.h"

namespace {

namespace ours = sucrose::cuda;

// Two types that a caller and a callee pass in the same way.
template <typename A, typename B>
constexpr bool
    alike = std::is_pointer_v<A> == std::is_pointer_v<B> &&
            sizeof(A) == sizeof(B) && std::is_floating_point_v<A> == std::is_floating_point_v<B>;

template <typename A, typename B> struct Compare { static constexpr bool equal = false; };
template <typename RA, typename... A, typename RB, typename... B>
requires(sizeof...(A) == sizeof...(B)) struct Compare<RA (*)(A...), RB (*)(B...)> {
    static constexpr bool equal = alike<RA, RB> && (alike<A, B> && ...);
};

#define SUCROSE_COMPARE(name, parameters)                                                          \
    static_assert(Compare<decltype(ours::Functions::name), decltype(&::name)>::equal, #name);
SUCROSE_CUDA_FUNCTIONS(SUCROSE_COMPARE)
#undef SUCROSE_COMPARE

static_assert(sizeof(ours::Memcpy2D) == sizeof(CUDA_MEMCPY2D));
static_assert(offsetof(ours::Memcpy2D, src_memory_type) == offsetof(CUDA_MEMCPY2D, srcMemoryType));
static_assert(offsetof(ours::Memcpy2D, src_host) == offsetof(CUDA_MEMCPY2D, srcHost));
static_assert(offsetof(ours::Memcpy2D, src_device) == offsetof(CUDA_MEMCPY2D, srcDevice));
static_assert(offsetof(ours::Memcpy2D, src_pitch) == offsetof(CUDA_MEMCPY2D, srcPitch));
static_assert(offsetof(ours::Memcpy2D, dst_memory_type) == offsetof(CUDA_MEMCPY2D, dstMemoryType));
static_assert(offsetof(ours::Memcpy2D, dst_host) == offsetof(CUDA_MEMCPY2D, dstHost));
static_assert(offsetof(ours::Memcpy2D, dst_device) == offsetof(CUDA_MEMCPY2D, dstDevice));
static_assert(offsetof(ours::Memcpy2D, dst_pitch) == offsetof(CUDA_MEMCPY2D, dstPitch));
static_assert(offsetof(ours::Memcpy2D, width_nbytes) == offsetof(CUDA_MEMCPY2D, WidthInBytes));
static_assert(offsetof(ours::Memcpy2D, height) == offsetof(CUDA_MEMCPY2D, Height));

static_assert(ours::success == CUDA_SUCCESS);
static_assert(ours::error_out_of_memory == CUDA_ERROR_OUT_OF_MEMORY);
static_assert(ours::error_deinitialized == CUDA_ERROR_DEINITIALIZED);
static_assert(ours::error_not_ready == CUDA_ERROR_NOT_READY);
static_assert(ours::error_not_supported == CUDA_ERROR_NOT_SUPPORTED);
static_assert(ours::stream_non_blocking == CU_STREAM_NON_BLOCKING);
static_assert(ours::event_blocking_sync == CU_EVENT_BLOCKING_SYNC);
static_assert(ours::event_disable_timing == CU_EVENT_DISABLE_TIMING);
static_assert(ours::host_register_portable == CU_MEMHOSTREGISTER_PORTABLE);
static_assert(ours::memory_type_host == CU_MEMORYTYPE_HOST);
static_assert(ours::error_stream_capture_unsupported == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
static_assert(ours::stream_capture_mode_relaxed == CU_STREAM_CAPTURE_MODE_RELAXED);
static_assert(ours::stream_capture_status_none == CU_STREAM_CAPTURE_STATUS_NONE);
static_assert(sizeof(CUstreamCaptureMode) == sizeof(int));
static_assert(sizeof(CUstreamCaptureStatus) == sizeof(int));
static_assert(ours::memory_type_device == CU_MEMORYTYPE_DEVICE);

} // namespace
