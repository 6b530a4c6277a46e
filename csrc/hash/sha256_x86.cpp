// SHA-256 by the SHA extensions of x86-64, after S. Gulley et al., "Intel SHA Extensions", Intel,
// 2013.
//
// 1. `sha256rnds2` does two rounds on a state that lies in two registers as (a, b, e, f) and
//    (c, d, g, h), highest lane first; the two change places with every call.
// 2. The message schedule is kept as four registers of four words. The four words that come next
//    need the last sixteen: `sha256msg1` adds sigma0, a shift over two registers brings w[t - 7],
//    and `sha256msg2` adds sigma1, of which two belong to the words that it makes itself.
#include "hash/sha256_kernel.h"

#include <cpuid.h>
#include <immintrin.h>

#define SUCROSE_SHA __attribute__((target("sha,sse4.1,ssse3")))

namespace sucrose::sha256_kernel {
namespace {

constexpr std::size_t block_nbytes = 64;

SUCROSE_SHA inline __m128i load(const void *data) noexcept {
    return _mm_loadu_si128(static_cast<const __m128i *>(data));
}

SUCROSE_SHA inline void store(void *data, __m128i value) noexcept {
    _mm_storeu_si128(static_cast<__m128i *>(data), value);
}

} // namespace

bool has_instructions() noexcept {
    unsigned int eax = 0;
    unsigned int ebx = 0;
    unsigned int ecx = 0;
    unsigned int edx = 0;
    // __builtin_cpu_supports does not know the SHA extensions in all compilers.
    const bool sha = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & bit_SHA) != 0;
    return sha && __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3");
}

SUCROSE_SHA void compress_by_instructions(State &state, const std::byte *blocks,
                                          std::size_t count) noexcept {
    // Words of the message are big-endian.
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);

    const __m128i cdab = _mm_shuffle_epi32(load(state.data()), 0xb1);
    const __m128i efgh = _mm_shuffle_epi32(load(state.data() + 4), 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);

    for (; count > 0; --count, blocks += block_nbytes) {
        const __m128i abef_before = abef;
        const __m128i cdgh_before = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; ++i) {
            w[i] = _mm_shuffle_epi8(load(blocks + 16 * i), swap);
        }
#pragma GCC unroll 16
        for (int group = 0; group < 16; ++group) {
            __m128i &words = w[group % 4];
            const __m128i sums =
                _mm_add_epi32(words, load(&round_constants[static_cast<std::size_t>(4 * group)]));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sums);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sums, 0x0e));
            if (group < 12) { // the words of four groups later
                const __m128i last = w[(group + 3) % 4];
                const __m128i older = _mm_sha256msg1_epu32(words, w[(group + 1) % 4]);
                const __m128i seventh = _mm_alignr_epi8(last, w[(group + 2) % 4], 4);
                words = _mm_sha256msg2_epu32(_mm_add_epi32(older, seventh), last);
            }
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }

    const __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
    const __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    store(state.data(), _mm_blend_epi16(feba, dchg, 0xf0));
    store(state.data() + 4, _mm_alignr_epi8(dchg, feba, 8));
}

} // namespace sucrose::sha256_kernel
