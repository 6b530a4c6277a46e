// What the parts of crc32 share: arithmetic modulo the CRC polynomial and the update functions.
// An update works on the bare register, without the inversions before and after.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sucrose::crc32_kernel {

// Reflected: bit 31 is the coefficient of x^0, bit 0 that of x^31. The term x^32 is implied.
inline constexpr std::uint32_t polynomial = 0xedb88320;

constexpr std::uint32_t times_x(std::uint32_t a) noexcept {
    return (a & 1) != 0 ? (a >> 1) ^ polynomial : a >> 1;
}

constexpr std::uint32_t multiply(std::uint32_t a, std::uint32_t b) noexcept {
    std::uint32_t product = 0;
    for (; a != 0; a <<= 1) {
        if ((a & 0x80000000) != 0) {
            product ^= b;
        }
        b = times_x(b);
    }
    return product;
}

// Element k is x to the power of 2^k, modulo the polynomial.
inline constexpr std::array<std::uint32_t, 64> squares_of_x = [] {
    std::array<std::uint32_t, 64> squares{0x40000000};
    for (std::size_t k = 1; k < squares.size(); ++k) {
        squares[k] = multiply(squares[k - 1], squares[k - 1]);
    }
    return squares;
}();

// x to the power of `exponent`, modulo the polynomial.
constexpr std::uint32_t power_of_x(std::uint64_t exponent) noexcept {
    std::uint32_t result = 0x80000000;
    for (std::size_t k = 0; exponent != 0; ++k, exponent >>= 1) {
        if ((exponent & 1) != 0) {
            result = multiply(result, squares_of_x[k]);
        }
    }
    return result;
}

// Appends `nbytes` zero bytes to the message whose register is `state`.
constexpr std::uint32_t append_zeros(std::uint32_t state, std::uint64_t nbytes) noexcept {
    // x is a generator: its powers repeat after 2^32 - 1, which also keeps the product in range.
    return multiply(state, power_of_x(8 * (nbytes % 0xffffffff)));
}

std::uint32_t update_by_tables(std::uint32_t state, std::span<const std::byte> data) noexcept;

// Defined once per architecture: crc32_pclmul.cpp, crc32_arm.cpp.
bool has_instructions() noexcept;
std::uint32_t update_by_instructions(std::uint32_t state, std::span<const std::byte> data) noexcept;

} // namespace sucrose::crc32_kernel
