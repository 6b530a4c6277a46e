// Fingerprints on aarch64, whose vectors of Neon multiply no 64 bits: one word after another.
#include "hash/fingerprint_kernel.h"

namespace sucrose::fingerprint_kernel {
namespace {

void add_words(kernel::FingerprintSums &sums, const std::byte *words, std::size_t count) noexcept {
    add_words_inline(sums, words, count);
}

} // namespace

AddWords choose_add_words() noexcept {
    return add_words;
}

} // namespace sucrose::fingerprint_kernel
