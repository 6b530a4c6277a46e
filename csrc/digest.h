// XXH3-128 of chunks, and copies that keep the cache for it.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace sucrose {

// In the canonical (big-endian) order of xxHash.
using Digest = std::array<std::byte, 16>;

// One running digest. Not thread-safe.
class Digester {
public:
    Digester() noexcept;
    void update(std::span<const std::byte> data) noexcept;
    Digest finish() const noexcept;

private:
    alignas(64) std::array<std::byte, 640> state_; // an XXH3_state_t of the chosen kernel
};

Digest digest(std::span<const std::byte> data) noexcept;
std::string to_hex(const Digest &digest);

// memcpy past the cache, for destinations that nobody reads soon.
void stream_copy(std::byte *destination, const std::byte *source, std::size_t nbytes) noexcept;

// Instruction set that was chosen for this processor.
std::string_view digest_kernel_name() noexcept;

} // namespace sucrose
