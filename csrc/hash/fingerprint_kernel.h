// The inner loop of a fingerprint, by the widest instructions that this processor has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernel_bodies.h"

namespace sucrose::fingerprint_kernel {

// Adds `count` words from a chunk's beginning. Inlined into a function per instruction set, for
// each of which the compiler makes vectors of its own.
[[gnu::always_inline]] inline void add_words_inline(kernel::FingerprintSums &sums,
                                                    const std::byte *words,
                                                    std::size_t count) noexcept {
    kernel::FingerprintSums local = sums; // `words` might be the sums, as far as a compiler knows
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t word;
        std::memcpy(&word, words + 8 * i, sizeof word);
        kernel::add_word(local, word, i);
    }
    sums = local;
}

using AddWords = void (*)(kernel::FingerprintSums &sums, const std::byte *words,
                          std::size_t count) noexcept;

// Defined once per architecture: fingerprint_x86.cpp, fingerprint_arm.cpp.
AddWords choose_add_words() noexcept;

} // namespace sucrose::fingerprint_kernel
