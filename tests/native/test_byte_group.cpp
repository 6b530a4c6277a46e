#include <doctest/doctest.h>

#include <cstddef>
#include <random>
#include <vector>

#include "codec/byte_group.h"
#include "error.h"

namespace {

std::vector<std::byte> random_bytes(std::size_t nbytes, std::mt19937 &random) {
    std::vector<std::byte> bytes(nbytes);
    for (std::byte &b : bytes) {
        b = static_cast<std::byte>(random());
    }
    return bytes;
}

// Byte k of every item, for all k, and then what is no whole item.
std::vector<std::byte> grouped(const std::vector<std::byte> &bytes, std::size_t itemsize) {
    const std::size_t whole = bytes.size() / itemsize * itemsize;
    std::vector<std::byte> result;
    for (std::size_t k = 0; k < itemsize; ++k) {
        for (std::size_t at = k; at < whole; at += itemsize) {
            result.push_back(bytes[at]);
        }
    }
    for (std::size_t at = whole; at < bytes.size(); ++at) {
        result.push_back(bytes[at]);
    }
    return result;
}

} // namespace

TEST_CASE("bytes are grouped by their place in the item, and a merge restores them") {
    std::mt19937 random(1);
    std::vector<std::size_t> sizes(200);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        sizes[i] = i;
    }
    for (std::size_t i = 0; i < 20; ++i) { // around where items of 8 bytes are cut into blocks
        sizes.push_back(8 * 1024 - 10 + i);
        sizes.push_back(3 * 8 * 1024 - 10 + i);
    }
    for (const std::size_t nbytes : sizes) {
        const std::vector<std::byte> bytes = random_bytes(nbytes, random);
        for (const std::size_t itemsize : {2U, 4U, 8U}) {
            CAPTURE(nbytes);
            CAPTURE(itemsize);
            std::vector<std::byte> found(nbytes);
            sucrose::split_bytes(bytes, itemsize, found.data());
            REQUIRE(found == grouped(bytes, itemsize));
            std::vector<std::byte> merged(nbytes);
            sucrose::merge_bytes(found, itemsize, merged.data());
            REQUIRE(merged == bytes);
        }
    }
}

TEST_CASE("sequences may begin at any address") {
    std::mt19937 random(2);
    constexpr std::size_t nbytes = 4099;
    for (std::size_t shift = 0; shift < 17; ++shift) {
        const std::vector<std::byte> memory = random_bytes(nbytes + shift, random);
        const std::vector<std::byte> bytes(memory.begin() + static_cast<std::ptrdiff_t>(shift),
                                           memory.end());
        for (const std::size_t itemsize : {2U, 4U, 8U}) {
            std::vector<std::byte> found(nbytes + shift);
            sucrose::split_bytes({memory.data() + shift, nbytes}, itemsize, found.data() + shift);
            found.erase(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(shift));
            REQUIRE(found == grouped(bytes, itemsize));
        }
    }
}

TEST_CASE("items of other sizes are refused") {
    std::vector<std::byte> bytes(12);
    for (const std::size_t itemsize : {0U, 1U, 3U, 16U}) {
        CHECK_THROWS_AS(sucrose::split_bytes(bytes, itemsize, bytes.data()), sucrose::Error);
        CHECK_THROWS_AS(sucrose::merge_bytes(bytes, itemsize, bytes.data()), sucrose::Error);
    }
}
