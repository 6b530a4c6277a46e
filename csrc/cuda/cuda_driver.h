// The CUDA driver, opened at run time: the core neither builds nor links against CUDA.
//
// Types and signatures are declared by hand, with the names of cuda.h; where that header is found,
// cuda_abi_check.cpp compares them with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace sucrose {

// An address in device memory, which host code cannot dereference.
enum class DeviceAddress : std::uint64_t {};

constexpr DeviceAddress operator+(DeviceAddress address, std::uint64_t nbytes) noexcept {
    return DeviceAddress{static_cast<std::uint64_t>(address) + nbytes};
}

namespace cuda {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = DeviceAddress;
using CUcontext = struct Context *;
using CUstream = struct Stream *;
using CUevent = struct Event *;
using CUmodule = struct Module *;
using CUfunction = struct Function *;

inline constexpr CUresult success = 0;
inline constexpr CUresult error_out_of_memory = 2;
inline constexpr CUresult error_deinitialized = 4;
inline constexpr CUresult error_not_ready = 600;
inline constexpr CUresult error_not_supported = 801;
inline constexpr CUresult error_stream_capture_unsupported = 900;
inline constexpr CUresult error_unknown = 999;

inline constexpr unsigned stream_non_blocking = 1;    // CU_STREAM_NON_BLOCKING
inline constexpr unsigned event_blocking_sync = 1;    // CU_EVENT_BLOCKING_SYNC
inline constexpr unsigned event_disable_timing = 2;   // CU_EVENT_DISABLE_TIMING
inline constexpr unsigned host_register_portable = 1; // CU_MEMHOSTREGISTER_PORTABLE
inline constexpr unsigned memory_type_host = 1;       // CU_MEMORYTYPE_HOST
inline constexpr unsigned memory_type_device = 2;     // CU_MEMORYTYPE_DEVICE
inline constexpr int stream_capture_mode_relaxed = 2; // CU_STREAM_CAPTURE_MODE_RELAXED
inline constexpr int stream_capture_status_none = 0;  // CU_STREAM_CAPTURE_STATUS_NONE

// CUDA_MEMCPY2D_v2
struct Memcpy2D {
    std::size_t src_x_nbytes = 0;
    std::size_t src_y = 0;
    unsigned src_memory_type = 0;
    const void *src_host = nullptr;
    CUdeviceptr src_device{};
    void *src_array = nullptr;
    std::size_t src_pitch = 0;
    std::size_t dst_x_nbytes = 0;
    std::size_t dst_y = 0;
    unsigned dst_memory_type = 0;
    void *dst_host = nullptr;
    CUdeviceptr dst_device{};
    void *dst_array = nullptr;
    std::size_t dst_pitch = 0;
    std::size_t width_nbytes = 0;
    std::size_t height = 0;
};

// X(name of the exported function, parameters): all that the core calls.
#define SUCROSE_CUDA_FUNCTIONS(X)                                                                  \
    X(cuInit, (unsigned flags))                                                                    \
    X(cuDriverGetVersion, (int *version))                                                          \
    X(cuGetErrorName, (CUresult result, const char **name))                                        \
    X(cuGetErrorString, (CUresult result, const char **text))                                      \
    X(cuDeviceGetCount, (int *count))                                                              \
    X(cuDeviceGet, (CUdevice * device, int ordinal))                                               \
    X(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                            \
    X(cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                             \
    X(cuCtxPushCurrent_v2, (CUcontext context))                                                    \
    X(cuCtxPopCurrent_v2, (CUcontext * context))                                                   \
    X(cuStreamCreate, (CUstream * stream, unsigned flags))                                         \
    X(cuStreamDestroy_v2, (CUstream stream))                                                       \
    X(cuStreamSynchronize, (CUstream stream))                                                      \
    X(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                         \
    X(cuStreamIsCapturing, (CUstream stream, int *status))                                         \
    X(cuThreadExchangeStreamCaptureMode, (int *mode))                                              \
    X(cuEventCreate, (CUevent * event, unsigned flags))                                            \
    X(cuEventDestroy_v2, (CUevent event))                                                          \
    X(cuEventRecord, (CUevent event, CUstream stream))                                             \
    X(cuEventQuery, (CUevent event))                                                               \
    X(cuEventSynchronize, (CUevent event))                                                         \
    X(cuMemGetInfo_v2, (std::size_t * free, std::size_t * total))                                  \
    X(cuMemAlloc_v2, (CUdeviceptr * address, std::size_t nbytes))                                  \
    X(cuMemFree_v2, (CUdeviceptr address))                                                         \
    X(cuMemAllocAsync, (CUdeviceptr * address, std::size_t nbytes, CUstream stream))               \
    X(cuMemFreeAsync, (CUdeviceptr address, CUstream stream))                                      \
    X(cuMemHostRegister_v2, (void *address, std::size_t nbytes, unsigned flags))                   \
    X(cuMemHostUnregister, (void *address))                                                        \
    X(cuMemcpyDtoHAsync_v2,                                                                        \
      (void *target, CUdeviceptr source, std::size_t nbytes, CUstream stream))                     \
    X(cuMemcpyHtoDAsync_v2,                                                                        \
      (CUdeviceptr target, const void *source, std::size_t nbytes, CUstream stream))               \
    X(cuMemcpyDtoDAsync_v2,                                                                        \
      (CUdeviceptr target, CUdeviceptr source, std::size_t nbytes, CUstream stream))               \
    X(cuMemcpy2DAsync_v2, (const Memcpy2D *copy, CUstream stream))                                 \
    X(cuModuleLoadData, (CUmodule * module, const void *image))                                    \
    X(cuModuleUnload, (CUmodule module))                                                           \
    X(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name))             \
    X(cuLaunchKernel, (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,     \
                       unsigned block_x, unsigned block_y, unsigned block_z,                       \
                       unsigned shared_nbytes, CUstream stream, void **parameters, void **extra))

// The table of them. Pointers have the functions' own names, so that one search finds all uses.
struct Functions {
#define SUCROSE_DECLARE(name, parameters) CUresult(*name) parameters = nullptr;
    SUCROSE_CUDA_FUNCTIONS(SUCROSE_DECLARE)
#undef SUCROSE_DECLARE
};

} // namespace cuda

// The opened driver. Immutable and never closed: a process may end while copies are under way.
class CudaDriver {
public:
    // Opens `library` ("auto" is the system's libcuda.so.1) and initializes it. nullptr, and the
    // reason in `why_not`, where that fails, where there is no device, or where it is "off".
    static std::shared_ptr<const CudaDriver> open(const std::string &library, std::string &why_not);

    int version() const noexcept { return version_; } // 13000 is 13.0
    int device_count() const noexcept { return device_count_; }
    // driver->cuMemAlloc_v2(...)
    const cuda::Functions *operator->() const noexcept { return &functions_; }
    // Throws CudaFailure, which names `call`, where `result` is no success.
    void check(cuda::CUresult result, const char *call) const;

private:
    CudaDriver() = default;

    cuda::Functions functions_;
    int version_ = 0;
    int device_count_ = 0;
};

} // namespace sucrose
