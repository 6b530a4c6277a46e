#include <doctest/doctest.h>

#include <cstddef>
#include <cstring>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "buffer_pool.h"
#include "hash/fingerprint.h"

namespace {

using sucrose::chunk_nbytes;
using sucrose::fingerprint;
using sucrose::fingerprint_chunk;

std::vector<std::byte> random_bytes(std::size_t nbytes, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::byte> bytes(nbytes);
    for (std::byte &b : bytes) {
        b = static_cast<std::byte>(random());
    }
    return bytes;
}

void swap_words(std::vector<std::byte> &bytes, std::size_t a, std::size_t b) {
    for (std::size_t i = 0; i < 8; ++i) {
        std::swap(bytes[8 * a + i], bytes[8 * b + i]);
    }
}

} // namespace

TEST_CASE("every chunk has a fingerprint of its own bytes and of nothing else") {
    const std::vector<std::byte> bytes = random_bytes(2 * chunk_nbytes + 100, 1);
    const auto found = fingerprint(bytes);
    REQUIRE(found.size() == 3);
    CHECK(found[0] == fingerprint_chunk({bytes.data(), chunk_nbytes}));
    CHECK(found[1] == fingerprint_chunk({bytes.data() + chunk_nbytes, chunk_nbytes}));
    CHECK(found[2] == fingerprint_chunk({bytes.data() + 2 * chunk_nbytes, 100}));
    CHECK(fingerprint({}).empty());
}

TEST_CASE("every flipped bit of a chunk changes both halves of its fingerprint") {
    std::vector<std::byte> bytes = random_bytes(203, 2);
    const auto before = fingerprint_chunk(bytes);
    std::set<sucrose::Fingerprint> seen{before};
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
        bytes[bit / 8] ^= std::byte{1} << (bit % 8);
        const auto after = fingerprint_chunk(bytes);
        bytes[bit / 8] ^= std::byte{1} << (bit % 8);
        CHECK(std::memcmp(before.data(), after.data(), 8) != 0);
        CHECK(std::memcmp(before.data() + 8, after.data() + 8, 8) != 0);
        CHECK(seen.insert(after).second);
    }
}

TEST_CASE("words that change places change the fingerprint") {
    std::vector<std::byte> bytes = random_bytes(800, 3);
    std::set<sucrose::Fingerprint> seen{fingerprint_chunk(bytes)};
    for (std::size_t a = 0; a < 100; ++a) {
        for (std::size_t b = 0; b < a; ++b) {
            swap_words(bytes, a, b);
            CHECK(seen.insert(fingerprint_chunk(bytes)).second);
            swap_words(bytes, a, b);
        }
    }
}

// A sum in which equal changes could cancel would not see the sign of two numbers change.
TEST_CASE("pairs of numbers whose signs change give a fingerprint of their own") {
    for (const std::size_t itemsize : {2U, 4U, 8U}) {
        std::vector<std::byte> bytes = random_bytes(1600, 4);
        std::set<sucrose::Fingerprint> seen{fingerprint_chunk(bytes)};
        for (std::size_t a = 0; a < 1600 / itemsize; ++a) {
            for (std::size_t b = 0; b < a && b < 100; ++b) {
                bytes[a * itemsize + itemsize - 1] ^= std::byte{0x80};
                bytes[b * itemsize + itemsize - 1] ^= std::byte{0x80};
                REQUIRE(seen.insert(fingerprint_chunk(bytes)).second);
                bytes[a * itemsize + itemsize - 1] ^= std::byte{0x80};
                bytes[b * itemsize + itemsize - 1] ^= std::byte{0x80};
            }
        }
    }
}

TEST_CASE("chunks of zeros differ by their lengths alone") {
    const std::vector<std::byte> zeros(chunk_nbytes);
    std::set<sucrose::Fingerprint> seen;
    for (std::size_t nbytes = 0; nbytes < 1000; ++nbytes) {
        CHECK(seen.insert(fingerprint_chunk({zeros.data(), nbytes})).second);
    }
    CHECK(seen.insert(fingerprint_chunk(zeros)).second);
    CHECK(seen.insert(fingerprint_chunk({zeros.data(), chunk_nbytes - 1})).second);
}

// Worked out by another implementation. Programs may keep fingerprints, so they must stay the same.
TEST_CASE("a known chunk has its known fingerprint") {
    std::vector<std::byte> bytes(12);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<std::byte>(i + 1);
    }
    constexpr unsigned char expected[] = {0xE8, 0x7F, 0x04, 0xC9, 0xFE, 0x24, 0x0F, 0xEB,
                                          0x05, 0xDD, 0x17, 0x13, 0xAC, 0x03, 0x46, 0x23};
    CHECK(std::memcmp(fingerprint_chunk(bytes).data(), expected, sizeof expected) == 0);
}
