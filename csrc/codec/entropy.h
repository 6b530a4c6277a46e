// Tells bytes that compress from those that do not, by a look at some of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sucrose {

// Of items of `itemsize` bytes (1 to 8) the planes, as bits, whose bytes one by one carry so much
// less than 8 bits that coding them pays. Bit 0 is the plane of the first bytes. Repeated strings
// are not looked for.
std::uint32_t compressible_planes(std::span<const std::byte> items, std::size_t itemsize) noexcept;

} // namespace sucrose
