// Takes the place of kernels_embedded.cpp in builds without nvcc.
#include "cuda/cuda_kernels.h"

namespace sucrose {

std::span<const std::byte> embedded_kernels() noexcept {
    return {};
}

} // namespace sucrose
