#include "hash/crc32.h"
#include "hash/crc32_kernel.h"

#include <cstring>
#include <doctest/doctest.h>
#include <random>
#include <string_view>
#include <vector>

namespace {

// The definition, one bit at a time.
std::uint32_t bitwise_crc32(std::uint32_t crc, std::span<const std::byte> data) {
    crc = ~crc;
    for (const std::byte byte : data) {
        crc ^= std::to_integer<std::uint32_t>(byte);
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xedb88320U : crc >> 1;
        }
    }
    return ~crc;
}

std::vector<std::byte> random_bytes(std::size_t nbytes) {
    std::mt19937 random(17);
    std::vector<std::byte> bytes(nbytes);
    for (std::byte &byte : bytes) {
        byte = static_cast<std::byte>(random() & 0xff);
    }
    return bytes;
}

} // namespace

TEST_CASE("crc32 has the check value of the CRC catalogue") {
    constexpr std::string_view digits = "123456789";
    CHECK(sucrose::crc32(0, std::as_bytes(std::span(digits))) == 0xcbf43926U);
    CHECK(sucrose::crc32(0, {}) == 0);
}

TEST_CASE("crc32 follows the definition at every length and alignment") {
    const auto bytes = random_bytes(400);
    for (std::size_t start = 0; start < 17; ++start) {
        for (std::size_t nbytes = 0; nbytes <= 300; ++nbytes) {
            const auto data = std::span(bytes).subspan(start, nbytes);
            CAPTURE(start);
            CAPTURE(nbytes);
            REQUIRE(sucrose::crc32(0, data) == bitwise_crc32(0, data));
        }
    }
}

TEST_CASE("crc32 follows the definition over long data, and continues where it stopped") {
    const auto bytes = random_bytes(1'000'003);
    const std::uint32_t expected = bitwise_crc32(0, bytes);
    CHECK(sucrose::crc32(0, bytes) == expected);
    for (const std::size_t cut : {1U, 63U, 64U, 16384U, 65537U, 1'000'002U}) {
        const std::uint32_t first = sucrose::crc32(0, std::span(bytes).first(cut));
        CHECK(sucrose::crc32(first, std::span(bytes).subspan(cut)) == expected);
    }
}

TEST_CASE("the tables and the instructions agree") {
    namespace kernel = sucrose::crc32_kernel;
    const auto bytes = random_bytes(70'001);
    CHECK(~kernel::update_by_tables(~0U, bytes) == bitwise_crc32(0, bytes));
    if (kernel::has_instructions()) {
        CHECK(~kernel::update_by_instructions(~0U, bytes) == bitwise_crc32(0, bytes));
    }
}

TEST_CASE("crc32_combine gives the CRC of both pieces together") {
    const auto bytes = random_bytes(5000);
    const std::uint32_t expected = sucrose::crc32(0, bytes);
    for (std::size_t cut = 0; cut <= bytes.size(); cut += 7) {
        const auto first = std::span(bytes).first(cut);
        const auto second = std::span(bytes).subspan(cut);
        REQUIRE(sucrose::crc32_combine(sucrose::crc32(0, first), sucrose::crc32(0, second),
                                       second.size()) == expected);
    }
}

TEST_CASE("crc32_combine is associative where lengths exceed 32 bits") {
    constexpr std::uint64_t long_nbytes = (std::uint64_t{5} << 32) + 3;
    constexpr std::uint64_t huge_nbytes = std::uint64_t{1} << 62;
    const std::uint32_t a = 0x12345678;
    const std::uint32_t b = 0x9abcdef0;
    const std::uint32_t c = 0x0badcafe;
    const auto left =
        sucrose::crc32_combine(sucrose::crc32_combine(a, b, long_nbytes), c, huge_nbytes);
    const auto right = sucrose::crc32_combine(a, sucrose::crc32_combine(b, c, huge_nbytes),
                                              long_nbytes + huge_nbytes);
    CHECK(left == right);
}
