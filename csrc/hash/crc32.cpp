#include "hash/crc32.h"

#include "hash/crc32_kernel.h"

#include <array>
#include <bit>
#include <cstring>

namespace sucrose {

namespace crc32_kernel {
namespace {

static_assert(std::endian::native == std::endian::little);

using Table = std::array<std::uint32_t, 256>;

// tables[k][b]: the register after byte b and k zero bytes, so that eight bytes are eight
// look-ups that do not wait for one another.
constexpr std::array<Table, 8> make_tables() noexcept {
    std::array<Table, 8> tables{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t state = byte;
        for (int bit = 0; bit < 8; ++bit) {
            state = times_x(state);
        }
        tables[0][byte] = state;
    }
    for (std::size_t zeros = 1; zeros < 8; ++zeros) {
        for (std::size_t byte = 0; byte < 256; ++byte) {
            const std::uint32_t state = tables[zeros - 1][byte];
            tables[zeros][byte] = (state >> 8) ^ tables[0][state & 0xff];
        }
    }
    return tables;
}

constexpr std::array<Table, 8> tables = make_tables();

} // namespace

std::uint32_t update_by_tables(std::uint32_t state, std::span<const std::byte> data) noexcept {
    for (; data.size() >= 8; data = data.subspan(8)) {
        std::uint64_t word = 0;
        std::memcpy(&word, data.data(), sizeof word);
        word ^= state;
        state = 0;
        for (std::size_t byte = 0; byte < 8; ++byte) {
            state ^= tables[7 - byte][(word >> (8 * byte)) & 0xff];
        }
    }
    for (const std::byte byte : data) {
        state = (state >> 8) ^ tables[0][(state ^ std::to_integer<std::uint32_t>(byte)) & 0xff];
    }
    return state;
}

} // namespace crc32_kernel

std::uint32_t crc32(std::uint32_t crc, std::span<const std::byte> data) noexcept {
    static const auto update = crc32_kernel::has_instructions()
                                   ? crc32_kernel::update_by_instructions
                                   : crc32_kernel::update_by_tables;
    return ~update(~crc, data);
}

std::uint32_t crc32_combine(std::uint32_t crc1, std::uint32_t crc2,
                            std::uint64_t nbytes2) noexcept {
    // The inversions of both pieces cancel out, see the definition of the CRC in RFC 1952.
    return crc32_kernel::append_zeros(crc1, nbytes2) ^ crc2;
}

} // namespace sucrose
