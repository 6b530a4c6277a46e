// Fingerprints on x86-64. Of four multiplications per word, AVX-512 does eight at once, AVX2
// puts each together from three of 32 bits.
#include "hash/fingerprint_kernel.h"

namespace sucrose::fingerprint_kernel {
namespace {

[[gnu::target("avx512f,avx512dq,prefer-vector-width=512")]] void
add_words_avx512(kernel::FingerprintSums &sums, const std::byte *words,
                 std::size_t count) noexcept {
    add_words_inline(sums, words, count);
}

[[gnu::target("avx2")]] void add_words_avx2(kernel::FingerprintSums &sums, const std::byte *words,
                                            std::size_t count) noexcept {
    add_words_inline(sums, words, count);
}

void add_words_baseline(kernel::FingerprintSums &sums, const std::byte *words,
                        std::size_t count) noexcept {
    add_words_inline(sums, words, count);
}

} // namespace

AddWords choose_add_words() noexcept {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) {
        return add_words_avx512;
    }
    return __builtin_cpu_supports("avx2") ? add_words_avx2 : add_words_baseline;
}

} // namespace sucrose::fingerprint_kernel
