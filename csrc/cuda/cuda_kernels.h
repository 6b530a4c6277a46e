// The core's kernels on one CUDA device. What they compute is in kernel_bodies.h; the same bytes
// come from StridedLayout, byte_group.h and fingerprint.h on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "cuda/cuda_driver.h"

namespace sucrose {

// The compiled kernels, for cuModuleLoadData; empty in a build without nvcc.
std::span<const std::byte> embedded_kernels() noexcept;

// Thread-safe. Every function enqueues on `stream` and returns; memory that it names must stay
// until the stream is there. Throws CudaFailure where the driver refuses.
class CudaKernels {
public:
    // nullptr, and the reason in `why_not`, where `image` is empty or the driver does not take it.
    // The device's context must be current, here and in all calls.
    static std::unique_ptr<CudaKernels> load(std::shared_ptr<const CudaDriver> driver,
                                             std::string &why_not,
                                             std::span<const std::byte> image = embedded_kernels());
    CudaKernels(const CudaKernels &) = delete;
    CudaKernels &operator=(const CudaKernels &) = delete;
    ~CudaKernels();

    // Fills `block` from `piece_count` KernelPieces, which lie at `pieces` on the device and index
    // the KernelLayouts at `layouts`. Pieces are of at most kernel_piece_nbytes.
    void gather(DeviceAddress block, DeviceAddress pieces, std::uint32_t piece_count,
                DeviceAddress layouts, cuda::CUstream stream) const;
    // The reverse. Elements must not share memory.
    void scatter(DeviceAddress block, DeviceAddress pieces, std::uint32_t piece_count,
                 DeviceAddress layouts, cuda::CUstream stream) const;

    // See byte_group.h. Throws Error for an item size other than 2, 4 and 8.
    void split_bytes(DeviceAddress source, DeviceAddress target, std::uint64_t nbytes,
                     std::uint32_t itemsize, cuda::CUstream stream) const;
    void merge_bytes(DeviceAddress source, DeviceAddress target, std::uint64_t nbytes,
                     std::uint32_t itemsize, cuda::CUstream stream) const;

    // See fingerprint.h. Writes 16 bytes per chunk to `results`, which is aligned to 8 and needs no
    // preparation. Fastest where `source` is aligned to 16.
    void fingerprint(DeviceAddress source, std::uint64_t nbytes, DeviceAddress results,
                     cuda::CUstream stream) const;

private:
    explicit CudaKernels(std::shared_ptr<const CudaDriver> driver) : driver_(std::move(driver)) {}

    cuda::CUfunction find(const char *name) const;
    template <typename... Parameters>
    void launch(cuda::CUfunction kernel, std::uint64_t blocks, cuda::CUstream stream,
                Parameters... parameters) const;
    void regroup(cuda::CUfunction kernel, DeviceAddress source, DeviceAddress target,
                 std::uint64_t nbytes, std::uint32_t itemsize, cuda::CUstream stream) const;

    std::shared_ptr<const CudaDriver> driver_;
    cuda::CUmodule module_ = nullptr;
    cuda::CUfunction gather_ = nullptr;
    cuda::CUfunction scatter_ = nullptr;
    cuda::CUfunction split_bytes_ = nullptr;
    cuda::CUfunction merge_bytes_ = nullptr;
    cuda::CUfunction fingerprint_begin_ = nullptr;
    cuda::CUfunction fingerprint_ = nullptr;
};

} // namespace sucrose
