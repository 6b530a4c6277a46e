// The functions that digest_kernel.cpp implements once per instruction set.
#pragma once

#include <cstddef>

namespace sucrose {

struct DigestKernel {
    const char *name;
    std::size_t state_nbytes;
    void (*reset)(void *state) noexcept;
    void (*update)(void *state, const std::byte *data, std::size_t nbytes) noexcept;
    void (*finish)(const void *state, std::byte *digest) noexcept;
    void (*stream_copy)(std::byte *destination, const std::byte *source,
                        std::size_t nbytes) noexcept;
};

namespace baseline {
extern const DigestKernel digest_kernel;
}
namespace avx2 {
extern const DigestKernel digest_kernel;
}
namespace avx512 {
extern const DigestKernel digest_kernel;
}

} // namespace sucrose
