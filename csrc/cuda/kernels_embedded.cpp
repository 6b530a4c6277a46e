// The image that nvcc made of kernels.cu; SUCROSE_KERNELS_IMAGE is its path.
#include "cuda/cuda_kernels.h"

// The driver reads the image as 64-bit words, so it begins on a boundary of them and more.
asm(".pushsection .rodata\n"
    ".balign 64\n"
    ".global sucrose_kernels_begin\n"
    ".hidden sucrose_kernels_begin\n"
    "sucrose_kernels_begin:\n"
    ".incbin \"" SUCROSE_KERNELS_IMAGE "\"\n"
    ".global sucrose_kernels_end\n"
    ".hidden sucrose_kernels_end\n"
    "sucrose_kernels_end:\n"
    ".byte 0\n"
    ".popsection\n");

extern "C" {
[[gnu::visibility("hidden")]] extern const std::byte sucrose_kernels_begin[];
[[gnu::visibility("hidden")]] extern const std::byte sucrose_kernels_end[];
}

namespace sucrose {

std::span<const std::byte> embedded_kernels() noexcept {
    return {sucrose_kernels_begin, sucrose_kernels_end};
}

} // namespace sucrose
