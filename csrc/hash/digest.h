// Digests of chunks, and copies that keep the cache for them.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "hash/sha256.h"

namespace sucrose {

enum class DigestKind {
    xxh3_128,   // finds damage
    sha256_128, // SHA-256 cut to 128 bits: withstands a forger as well, at a fraction of the speed
};

// "xxh3-128" or "sha256-128"; throws Error for anything else.
DigestKind parse_digest_kind(std::string_view name);

// XXH3 in the canonical (big-endian) order of xxHash.
using Digest = std::array<std::byte, 16>;

// One running digest. Not thread-safe.
class Digester {
public:
    explicit Digester(DigestKind kind = DigestKind::xxh3_128) noexcept;
    void update(std::span<const std::byte> data) noexcept;
    Digest finish() const noexcept;

private:
    DigestKind kind_;
    alignas(64) std::array<std::byte, 640> state_; // an XXH3_state_t of the chosen kernel
    Sha256 sha256_;
};

Digest digest(std::span<const std::byte> data, DigestKind kind = DigestKind::xxh3_128) noexcept;
std::string to_hex(const Digest &digest);

// memcpy past the cache, for destinations that nobody reads soon.
void stream_copy(std::byte *destination, const std::byte *source, std::size_t nbytes) noexcept;

// Instruction set that was chosen for this processor.
std::string_view digest_kernel_name() noexcept;

} // namespace sucrose
