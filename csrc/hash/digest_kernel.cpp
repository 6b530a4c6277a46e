// Compiled once for each instruction set, each time with another SUCROSE_DIGEST_NAMESPACE and the
// compiler's flags for it. Everything else in here has internal linkage, so that no code for a
// newer processor can be picked by the linker for an older one.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdint>
#include <cstring>

#include "hash/digest_kernel.h"

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace sucrose::SUCROSE_DIGEST_NAMESPACE {

namespace {

#define SUCROSE_STRINGIFY_(x) #x
#define SUCROSE_STRINGIFY(x) SUCROSE_STRINGIFY_(x)

void reset(void *state) noexcept {
    XXH3_128bits_reset(static_cast<XXH3_state_t *>(state));
}

void update(void *state, const std::byte *data, std::size_t nbytes) noexcept {
    XXH3_128bits_update(static_cast<XXH3_state_t *>(state), data, nbytes);
}

void finish(const void *state, std::byte *digest) noexcept {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical,
                             XXH3_128bits_digest(static_cast<const XXH3_state_t *>(state)));
    std::memcpy(digest, canonical.digest, sizeof canonical.digest);
}

#ifdef __SSE2__

#ifdef __AVX2__
using Vector = __m256i;
inline Vector load(const std::byte *p) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
}
inline void stream(std::byte *p, Vector v) noexcept {
    _mm256_stream_si256(reinterpret_cast<__m256i *>(p), v);
}
#else
using Vector = __m128i;
inline Vector load(const std::byte *p) noexcept {
    return _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
}
inline void stream(std::byte *p, Vector v) noexcept {
    _mm_stream_si128(reinterpret_cast<__m128i *>(p), v);
}
#endif

constexpr std::size_t line_nbytes = 64;
constexpr std::size_t vectors_per_line = line_nbytes / sizeof(Vector);

void stream_copy(std::byte *destination, const std::byte *source, std::size_t nbytes) noexcept {
    const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(destination) % line_nbytes;
    const std::size_t head = misaligned == 0 ? 0 : line_nbytes - misaligned;
    if (nbytes < head + line_nbytes) {
        std::memcpy(destination, source, nbytes);
        return;
    }
    std::memcpy(destination, source, head);
    std::size_t at = head;
    for (; at + line_nbytes <= nbytes; at += line_nbytes) {
        Vector line[vectors_per_line];
        for (std::size_t i = 0; i < vectors_per_line; ++i) {
            line[i] = load(source + at + i * sizeof(Vector));
        }
        for (std::size_t i = 0; i < vectors_per_line; ++i) {
            stream(destination + at + i * sizeof(Vector), line[i]);
        }
    }
    _mm_sfence();
    std::memcpy(destination + at, source + at, nbytes - at);
}

#else

void stream_copy(std::byte *destination, const std::byte *source, std::size_t nbytes) noexcept {
    std::memcpy(destination, source, nbytes);
}

#endif

} // namespace

extern const DigestKernel digest_kernel = {
    SUCROSE_STRINGIFY(SUCROSE_DIGEST_NAMESPACE),
    sizeof(XXH3_state_t),
    reset,
    update,
    finish,
    stream_copy,
};

} // namespace sucrose::SUCROSE_DIGEST_NAMESPACE
