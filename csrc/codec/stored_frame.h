// zstd frames whose blocks are raw: bytes that do not compress, in a file that every zstd decoder
// reads, at the price of a copy.
//
//   magic number   28 B5 2F FD
//   descriptor     single segment, content size in 4 bytes, no checksum, no dictionary
//   content size   4 bytes
//   blocks         of 128 KiB, the last one shorter: a header of 3 bytes, and the bytes
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sucrose {

// The largest that zstd allows.
inline constexpr std::size_t frame_block_nbytes = 128 << 10;
inline constexpr std::size_t frame_header_nbytes = 9;
inline constexpr std::size_t block_header_nbytes = 3;

// Of a frame with `nbytes` bytes of content, at most 4 GiB; without content it has one empty block.
constexpr std::size_t stored_frame_nbytes(std::size_t nbytes) noexcept {
    const std::size_t blocks =
        nbytes == 0 ? 1 : (nbytes + frame_block_nbytes - 1) / frame_block_nbytes;
    return frame_header_nbytes + blocks * block_header_nbytes + nbytes;
}

std::array<std::byte, frame_header_nbytes> stored_frame_header(std::uint32_t content_nbytes);
std::array<std::byte, block_header_nbytes> raw_block_header(std::size_t nbytes, bool last);

} // namespace sucrose
