#include "hash/sha256.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "hash/sha256_kernel.h"

namespace sucrose {

namespace sha256_kernel {
namespace {

static_assert(std::endian::native == std::endian::little);

std::uint32_t word_at(const std::byte *data) noexcept {
    std::uint32_t word = 0;
    std::memcpy(&word, data, sizeof word);
    return __builtin_bswap32(word);
}

// Names of functions and variables are those of FIPS 180-4, 4.1.2 and 6.2.2.
std::uint32_t ch(std::uint32_t x, std::uint32_t y, std::uint32_t z) noexcept {
    return (x & y) ^ (~x & z);
}

std::uint32_t maj(std::uint32_t x, std::uint32_t y, std::uint32_t z) noexcept {
    return (x & y) ^ (x & z) ^ (y & z);
}

std::uint32_t big_sigma0(std::uint32_t x) noexcept {
    return std::rotr(x, 2) ^ std::rotr(x, 13) ^ std::rotr(x, 22);
}

std::uint32_t big_sigma1(std::uint32_t x) noexcept {
    return std::rotr(x, 6) ^ std::rotr(x, 11) ^ std::rotr(x, 25);
}

std::uint32_t sigma0(std::uint32_t x) noexcept {
    return std::rotr(x, 7) ^ std::rotr(x, 18) ^ (x >> 3);
}

std::uint32_t sigma1(std::uint32_t x) noexcept {
    return std::rotr(x, 17) ^ std::rotr(x, 19) ^ (x >> 10);
}

} // namespace

void compress_portably(State &state, const std::byte *blocks, std::size_t count) noexcept {
    for (; count > 0; --count, blocks += Sha256::block_nbytes) {
        std::array<std::uint32_t, 64> w;
        for (std::size_t t = 0; t < 16; ++t) {
            w[t] = word_at(blocks + 4 * t);
        }
        for (std::size_t t = 16; t < 64; ++t) {
            w[t] = sigma1(w[t - 2]) + w[t - 7] + sigma0(w[t - 15]) + w[t - 16];
        }
        auto [a, b, c, d, e, f, g, h] = state;
        for (std::size_t t = 0; t < 64; ++t) {
            const std::uint32_t t1 = h + big_sigma1(e) + ch(e, f, g) + round_constants[t] + w[t];
            const std::uint32_t t2 = big_sigma0(a) + maj(a, b, c);
            h = g;
            g = f;
            f = e;
            e = d + t1;
            d = c;
            c = b;
            b = a;
            a = t1 + t2;
        }
        const State worked{a, b, c, d, e, f, g, h};
        for (std::size_t i = 0; i < state.size(); ++i) {
            state[i] += worked[i];
        }
    }
}

} // namespace sha256_kernel

namespace {

bool by_instructions() noexcept {
    static const bool has = sha256_kernel::has_instructions();
    return has;
}

void compress(sha256_kernel::State &state, const std::byte *blocks, std::size_t count) noexcept {
    if (by_instructions()) {
        sha256_kernel::compress_by_instructions(state, blocks, count);
    } else {
        sha256_kernel::compress_portably(state, blocks, count);
    }
}

void store_big_endian(std::byte *target, std::uint64_t value, std::size_t nbytes) noexcept {
    for (std::size_t i = 0; i < nbytes; ++i) {
        target[i] = static_cast<std::byte>((value >> (8 * (nbytes - 1 - i))) & 0xff);
    }
}

} // namespace

void Sha256::update(std::span<const std::byte> data) noexcept {
    const std::size_t held = nbytes_ % block_nbytes;
    nbytes_ += data.size();
    if (held > 0) {
        const std::size_t n = std::min(data.size(), block_nbytes - held);
        std::copy_n(data.begin(), n, rest_.begin() + static_cast<std::ptrdiff_t>(held));
        data = data.subspan(n);
        if (held + n < block_nbytes) {
            return;
        }
        compress(state_, rest_.data(), 1);
    }
    const std::size_t whole = data.size() / block_nbytes;
    compress(state_, data.data(), whole);
    data = data.subspan(whole * block_nbytes);
    std::copy(data.begin(), data.end(), rest_.begin());
}

// FIPS 180-4, 5.1.1: a one bit, zeros, and the length in bits fill the last block or two.
std::array<std::byte, Sha256::hash_nbytes> Sha256::finish() const noexcept {
    constexpr std::size_t length_nbytes = 8;
    const std::size_t held = nbytes_ % block_nbytes;
    std::array<std::byte, 2 * block_nbytes> end{};
    std::copy_n(rest_.begin(), held, end.begin());
    end[held] = std::byte{0x80};
    const std::size_t blocks = held + 1 + length_nbytes > block_nbytes ? 2 : 1;
    store_big_endian(end.data() + blocks * block_nbytes - length_nbytes, 8 * nbytes_,
                     length_nbytes);
    sha256_kernel::State state = state_;
    compress(state, end.data(), blocks);
    std::array<std::byte, hash_nbytes> hash;
    for (std::size_t i = 0; i < state.size(); ++i) {
        store_big_endian(hash.data() + 4 * i, state[i], 4);
    }
    return hash;
}

std::string_view sha256_kernel_name() noexcept {
    return by_instructions() ? "instructions" : "portable";
}

} // namespace sucrose
