// CRC-32 by the CRC instructions of ARMv8. One instruction takes three cycles but a new one may
// start in each, so long data is cut in three and the parts are computed side by side.
#include "hash/crc32_kernel.h"

#include <arm_acle.h>
#include <cstring>
#include <sys/auxv.h>

#define SUCROSE_CRC __attribute__((target("+crc")))

namespace sucrose::crc32_kernel {
namespace {

// Below this, putting the three parts together costs more than it saves.
constexpr std::size_t three_way_nbytes = 16384;

constexpr unsigned long hwcap_crc32 = 1UL << 7;

inline std::uint64_t word_at(const std::byte *data) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, data, sizeof word);
    return word;
}

SUCROSE_CRC std::uint32_t one_way(std::uint32_t state, std::span<const std::byte> data) noexcept {
    for (; data.size() >= 8; data = data.subspan(8)) {
        state = __crc32d(state, word_at(data.data()));
    }
    for (const std::byte byte : data) {
        state = __crc32b(state, std::to_integer<std::uint8_t>(byte));
    }
    return state;
}

} // namespace

bool has_instructions() noexcept {
    return (getauxval(AT_HWCAP) & hwcap_crc32) != 0;
}

SUCROSE_CRC std::uint32_t update_by_instructions(std::uint32_t state,
                                                 std::span<const std::byte> data) noexcept {
    if (data.size() >= three_way_nbytes) {
        const std::size_t part = data.size() / 24 * 8;
        const std::byte *const first = data.data();
        std::uint32_t second_state = 0;
        std::uint32_t third_state = 0;
        for (std::size_t at = 0; at < part; at += 8) {
            state = __crc32d(state, word_at(first + at));
            second_state = __crc32d(second_state, word_at(first + part + at));
            third_state = __crc32d(third_state, word_at(first + 2 * part + at));
        }
        state = append_zeros(state, part) ^ second_state;
        state = append_zeros(state, part) ^ third_state;
        data = data.subspan(3 * part);
    }
    return one_way(state, data);
}

} // namespace sucrose::crc32_kernel
