#include "cuda/cuda_kernels.h"

#include <algorithm>
#include <utility>

#include "error.h"
#include "kernel_bodies.h"

namespace sucrose {

using namespace cuda;

namespace {

constexpr std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) noexcept {
    return (a + b - 1) / b;
}

} // namespace

std::unique_ptr<CudaKernels> CudaKernels::load(std::shared_ptr<const CudaDriver> driver,
                                               std::string &why_not,
                                               std::span<const std::byte> image) {
    if (image.empty()) {
        why_not = "this build has no kernels: it was made without nvcc";
        return nullptr;
    }
    std::unique_ptr<CudaKernels> kernels(new CudaKernels(std::move(driver)));
    try {
        const CudaDriver &cuda = *kernels->driver_;
        cuda.check(cuda->cuModuleLoadData(&kernels->module_, image.data()), "cuModuleLoadData");
        kernels->gather_ = kernels->find("sucrose_gather");
        kernels->scatter_ = kernels->find("sucrose_scatter");
        kernels->split_bytes_ = kernels->find("sucrose_split_bytes");
        kernels->merge_bytes_ = kernels->find("sucrose_merge_bytes");
        kernels->fingerprint_begin_ = kernels->find("sucrose_fingerprint_begin");
        kernels->fingerprint_ = kernels->find("sucrose_fingerprint");
    } catch (const CudaFailure &failure) {
        why_not = failure.what();
        return nullptr;
    }
    return kernels;
}

CudaKernels::~CudaKernels() {
    if (module_ != nullptr) {
        // Refused where the process is ending and the driver is gone; then so is the module.
        (*driver_)->cuModuleUnload(module_);
    }
}

CUfunction CudaKernels::find(const char *name) const {
    CUfunction kernel = nullptr;
    driver_->check((*driver_)->cuModuleGetFunction(&kernel, module_, name), "cuModuleGetFunction");
    return kernel;
}

// `parameters` have exactly the types of the kernel's; DeviceAddress stands for pointers.
template <typename... Parameters>
void CudaKernels::launch(CUfunction kernel, std::uint64_t blocks, CUstream stream,
                         Parameters... parameters) const {
    if (blocks == 0) {
        return;
    }
    void *addresses[] = {&parameters...};
    driver_->check((*driver_)->cuLaunchKernel(kernel, static_cast<unsigned>(blocks), 1, 1,
                                              kernel_threads, 1, 1, 0, stream, addresses, nullptr),
                   "cuLaunchKernel");
}

void CudaKernels::gather(DeviceAddress block, DeviceAddress pieces, std::uint32_t piece_count,
                         DeviceAddress layouts, CUstream stream) const {
    launch(gather_, piece_count, stream, block, pieces, layouts);
}

void CudaKernels::scatter(DeviceAddress block, DeviceAddress pieces, std::uint32_t piece_count,
                          DeviceAddress layouts, CUstream stream) const {
    launch(scatter_, piece_count, stream, block, pieces, layouts);
}

void CudaKernels::split_bytes(DeviceAddress source, DeviceAddress target, std::uint64_t nbytes,
                              std::uint32_t itemsize, CUstream stream) const {
    regroup(split_bytes_, source, target, nbytes, itemsize, stream);
}

void CudaKernels::merge_bytes(DeviceAddress source, DeviceAddress target, std::uint64_t nbytes,
                              std::uint32_t itemsize, CUstream stream) const {
    regroup(merge_bytes_, source, target, nbytes, itemsize, stream);
}

void CudaKernels::regroup(CUfunction kernel, DeviceAddress source, DeviceAddress target,
                          std::uint64_t nbytes, std::uint32_t itemsize, CUstream stream) const {
    if (itemsize != 2 && itemsize != 4 && itemsize != 8) {
        throw Error("byte groups are of items of 2, 4 or 8 bytes, not " + std::to_string(itemsize));
    }
    constexpr std::uint64_t max_blocks = 4096; // more than run at once on any device
    const std::uint64_t groups = ceil_div(nbytes, std::uint64_t{kernel::group_size} * itemsize);
    launch(kernel, std::min(max_blocks, ceil_div(groups, kernel_threads)), stream, target, source,
           nbytes, itemsize);
}

void CudaKernels::fingerprint(DeviceAddress source, std::uint64_t nbytes, DeviceAddress results,
                              CUstream stream) const {
    const std::uint64_t chunks = ceil_div(nbytes, kernel::fingerprint_chunk_nbytes);
    launch(fingerprint_begin_, ceil_div(chunks, kernel_threads), stream, results, nbytes);
    launch(fingerprint_, ceil_div(nbytes, kernel::fingerprint_share_nbytes), stream, results,
           source, nbytes);
}

} // namespace sucrose
