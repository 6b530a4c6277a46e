#include "hash/fingerprint.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "buffer_pool.h"
#include "hash/fingerprint_kernel.h"
#include "kernel_bodies.h"

namespace sucrose {

static_assert(chunk_nbytes == kernel::fingerprint_chunk_nbytes);
static_assert(sizeof(Fingerprint) == sizeof(kernel::FingerprintSums));

namespace {

void add_words(kernel::FingerprintSums &sums, const std::byte *words, std::size_t count) noexcept {
    static const fingerprint_kernel::AddWords chosen = fingerprint_kernel::choose_add_words();
    chosen(sums, words, count);
}

} // namespace

Fingerprint fingerprint_chunk(std::span<const std::byte> chunk) noexcept {
    kernel::FingerprintSums sums = kernel::fingerprint_begin(chunk.size());
    const std::size_t whole_words = chunk.size() / 8;
    add_words(sums, chunk.data(), whole_words);
    if (const std::size_t left = chunk.size() % 8; left != 0) {
        std::uint64_t word = 0;
        std::memcpy(&word, chunk.data() + 8 * whole_words, left);
        kernel::add_word(sums, word, whole_words);
    }
    Fingerprint result;
    std::memcpy(result.data(), sums.lane, result.size());
    return result;
}

std::vector<Fingerprint> fingerprint(std::span<const std::byte> bytes) {
    std::vector<Fingerprint> result;
    result.reserve((bytes.size() + chunk_nbytes - 1) / chunk_nbytes);
    while (!bytes.empty()) {
        const std::size_t nbytes = std::min(bytes.size(), chunk_nbytes);
        result.push_back(fingerprint_chunk(bytes.first(nbytes)));
        bytes = bytes.subspan(nbytes);
    }
    return result;
}

} // namespace sucrose
