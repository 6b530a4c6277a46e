// CRC-32 by carry-less multiplication (x86-64), after V. Gopal et al., "Fast CRC Computation for
// Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009.
//
// 1. The message is a polynomial; only its remainder matters. 128 bits that lie D bits before the
//    end of what follows may be replaced by their product with x^D, which is shorter.
// 2. Four accumulators of 128 bits step over 64 bytes at a time: each is folded by D = 512 and the
//    next 16 bytes of its lane are added.
// 3. The four are folded into one (D = 128), and the 16 bytes that remain have the same remainder
//    as all the bytes before them: the tables finish the job.
#include "hash/crc32_kernel.h"

#include <array>
#include <immintrin.h>

#define SUCROSE_PCLMUL __attribute__((target("pclmul,sse4.1")))

namespace sucrose::crc32_kernel {
namespace {

constexpr std::size_t lane_nbytes = sizeof(__m128i);
constexpr std::size_t stride_nbytes = 4 * lane_nbytes;

// What folds 128 bits by a distance. In reflected order the low half holds the higher powers; the
// product of two reflected 64-bit numbers lies one bit low, hence the shift.
struct Factors {
    std::uint64_t low;
    std::uint64_t high;
};

constexpr Factors factors_of(std::uint64_t distance) noexcept {
    return {.low = std::uint64_t{power_of_x(distance + 32)} << 1,
            .high = std::uint64_t{power_of_x(distance - 32)} << 1};
}

constexpr Factors by_stride = factors_of(8 * stride_nbytes);
constexpr Factors by_lane = factors_of(8 * lane_nbytes);

SUCROSE_PCLMUL inline __m128i load(const std::byte *data) noexcept {
    return _mm_loadu_si128(reinterpret_cast<const __m128i *>(data));
}

SUCROSE_PCLMUL inline __m128i fold(__m128i value, Factors by, __m128i next) noexcept {
    const __m128i factors =
        _mm_set_epi64x(static_cast<long long>(by.high), static_cast<long long>(by.low));
    const __m128i low = _mm_clmulepi64_si128(value, factors, 0x00);
    const __m128i high = _mm_clmulepi64_si128(value, factors, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

} // namespace

bool has_instructions() noexcept {
    return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

SUCROSE_PCLMUL std::uint32_t update_by_instructions(std::uint32_t state,
                                                    std::span<const std::byte> data) noexcept {
    if (data.size() < stride_nbytes) {
        return update_by_tables(state, data);
    }
    const std::byte *next = data.data();
    const std::byte *const end = next + data.size();
    __m128i a = _mm_xor_si128(load(next), _mm_cvtsi32_si128(static_cast<int>(state)));
    __m128i b = load(next + lane_nbytes);
    __m128i c = load(next + 2 * lane_nbytes);
    __m128i d = load(next + 3 * lane_nbytes);
    next += stride_nbytes;

    for (; static_cast<std::size_t>(end - next) >= stride_nbytes; next += stride_nbytes) {
        a = fold(a, by_stride, load(next));
        b = fold(b, by_stride, load(next + lane_nbytes));
        c = fold(c, by_stride, load(next + 2 * lane_nbytes));
        d = fold(d, by_stride, load(next + 3 * lane_nbytes));
    }

    __m128i rest = fold(fold(fold(a, by_lane, b), by_lane, c), by_lane, d);
    for (; static_cast<std::size_t>(end - next) >= lane_nbytes; next += lane_nbytes) {
        rest = fold(rest, by_lane, load(next));
    }

    std::array<std::byte, lane_nbytes> remainder;
    _mm_storeu_si128(reinterpret_cast<__m128i *>(remainder.data()), rest);
    return update_by_tables(update_by_tables(0, remainder), {next, end});
}

} // namespace sucrose::crc32_kernel
