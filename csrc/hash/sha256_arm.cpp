// SHA-256 by the cryptographic extensions of ARMv8: each pair of `sha256h` and `sha256h2` does four
// rounds, `sha256su0` and `sha256su1` make the next four words of the message schedule (Arm
// Architecture Reference Manual for A-profile, SHA256H and following).
#include "hash/sha256_kernel.h"

#include <arm_neon.h>
#include <sys/auxv.h>

#define SUCROSE_SHA __attribute__((target("+crypto")))

namespace sucrose::sha256_kernel {
namespace {

constexpr std::size_t block_nbytes = 64;
constexpr unsigned long hwcap_sha2 = 1UL << 6;

} // namespace

bool has_instructions() noexcept {
    return (getauxval(AT_HWCAP) & hwcap_sha2) != 0;
}

SUCROSE_SHA void compress_by_instructions(State &state, const std::byte *blocks,
                                          std::size_t count) noexcept {
    uint32x4_t abcd = vld1q_u32(state.data());
    uint32x4_t efgh = vld1q_u32(state.data() + 4);
    for (; count > 0; --count, blocks += block_nbytes) {
        const uint32x4_t abcd_before = abcd;
        const uint32x4_t efgh_before = efgh;
        uint32x4_t w[4];
        for (int i = 0; i < 4; ++i) {
            const auto *bytes = reinterpret_cast<const std::uint8_t *>(blocks + 16 * i);
            w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(bytes))); // they are big-endian
        }
#pragma GCC unroll 16
        for (int group = 0; group < 16; ++group) {
            uint32x4_t &words = w[group % 4];
            const uint32x4_t sums =
                vaddq_u32(words, vld1q_u32(&round_constants[static_cast<std::size_t>(4 * group)]));
            const uint32x4_t abcd_of_group = abcd;
            abcd = vsha256hq_u32(abcd, efgh, sums);
            efgh = vsha256h2q_u32(efgh, abcd_of_group, sums);
            if (group < 12) { // the words of four groups later
                const uint32x4_t older = vsha256su0q_u32(words, w[(group + 1) % 4]);
                words = vsha256su1q_u32(older, w[(group + 2) % 4], w[(group + 3) % 4]);
            }
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(state.data(), abcd);
    vst1q_u32(state.data() + 4, efgh);
}

} // namespace sucrose::sha256_kernel
