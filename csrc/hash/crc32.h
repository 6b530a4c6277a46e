// CRC-32 as in zlib, gzip and zip (polynomial 0x04c11db7, bit-reflected), at memory speed.
// Thread-safe: no state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sucrose {

// Continues `crc` (0 at the start) over `data`.
std::uint32_t crc32(std::uint32_t crc, std::span<const std::byte> data) noexcept;

// The CRC of two pieces, one after the other, from the CRC of each. `nbytes2` is the length of
// the second piece. Takes less than a microsecond, whatever the length.
std::uint32_t crc32_combine(std::uint32_t crc1, std::uint32_t crc2, std::uint64_t nbytes2) noexcept;

} // namespace sucrose
