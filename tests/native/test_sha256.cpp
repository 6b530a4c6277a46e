#include "hash/sha256.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "error.h"
#include "hash/digest.h"
#include "hash/sha256_kernel.h"

namespace {

using sucrose::Sha256;

std::string hex_of(std::span<const std::byte> bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string hex;
    for (const std::byte byte : bytes) {
        hex.push_back(digits[std::to_integer<std::size_t>(byte >> 4)]);
        hex.push_back(digits[std::to_integer<std::size_t>(byte & std::byte{15})]);
    }
    return hex;
}

std::string sha256(std::span<const std::byte> data) {
    Sha256 running;
    running.update(data);
    return hex_of(running.finish());
}

std::string sha256(std::string_view text) {
    return sha256(std::as_bytes(std::span(text)));
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

// The examples of FIPS 180-2, appendix B, which NIST publishes for FIPS 180-4 as well.
TEST_CASE("sha256 has the published values") {
    CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(sha256("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
                 "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu") ==
          "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    CHECK(sha256(std::string(1'000'000, 'a')) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("sha256 does not depend on how the data is cut") {
    const auto bytes = random_bytes(1000);
    const std::string expected = sha256(bytes);
    for (std::size_t step = 1; step <= 200; ++step) {
        Sha256 running;
        for (std::size_t at = 0; at < bytes.size(); at += step) {
            running.update(std::span(bytes).subspan(at, std::min(step, bytes.size() - at)));
        }
        CAPTURE(step);
        REQUIRE(hex_of(running.finish()) == expected);
        REQUIRE(hex_of(running.finish()) == expected);
    }
}

TEST_CASE("a running sha256 can be looked at and continued") {
    const auto bytes = random_bytes(300);
    for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
        Sha256 running;
        running.update(std::span(bytes).first(cut));
        REQUIRE(hex_of(running.finish()) == sha256(std::span(bytes).first(cut)));
        running.update(std::span(bytes).subspan(cut));
        REQUIRE(hex_of(running.finish()) == sha256(bytes));
    }
}

TEST_CASE("the processor's instructions for sha256 do what the portable code does") {
    if (!sucrose::sha256_kernel::has_instructions()) {
        CHECK(sucrose::sha256_kernel_name() == "portable");
        return;
    }
    CHECK(sucrose::sha256_kernel_name() == "instructions");
    const auto bytes = random_bytes(64 * 40 + 7);
    for (std::size_t start = 0; start < 7; ++start) { // unaligned, too
        for (std::size_t blocks = 0; blocks <= 40; ++blocks) {
            sucrose::sha256_kernel::State fast{1, 2, 3, 4, 5, 6, 7, 0xffffffff};
            sucrose::sha256_kernel::State portable = fast;
            sucrose::sha256_kernel::compress_by_instructions(fast, bytes.data() + start, blocks);
            sucrose::sha256_kernel::compress_portably(portable, bytes.data() + start, blocks);
            CAPTURE(blocks);
            REQUIRE(fast == portable);
        }
    }
}

TEST_CASE("digests of both kinds have their names, and are cut to 128 bits") {
    const auto bytes = random_bytes(100'000);
    const auto sha = sucrose::digest(bytes, sucrose::parse_digest_kind("sha256-128"));
    CHECK(hex_of(sha) == sha256(bytes).substr(0, 32));
    CHECK(sucrose::digest(bytes, sucrose::parse_digest_kind("xxh3-128")) == sucrose::digest(bytes));
    CHECK(sucrose::digest(bytes) != sha);
    CHECK_THROWS_AS(sucrose::parse_digest_kind("sha256"), sucrose::Error);
}
