#include "codec/stored_frame.h"

namespace sucrose {

namespace {

constexpr std::array<unsigned, 5> magic_and_descriptor{0x28, 0xB5, 0x2F, 0xFD, 0xA0};

constexpr std::byte byte_of(std::size_t value, unsigned index) noexcept {
    return static_cast<std::byte>(value >> (8 * index) & 0xFF);
}

} // namespace

std::array<std::byte, frame_header_nbytes> stored_frame_header(std::uint32_t content_nbytes) {
    std::array<std::byte, frame_header_nbytes> header{};
    std::size_t at = 0;
    for (const unsigned value : magic_and_descriptor) {
        header[at++] = static_cast<std::byte>(value);
    }
    for (unsigned i = 0; at < header.size(); ++i) {
        header[at++] = byte_of(content_nbytes, i);
    }
    return header;
}

std::array<std::byte, block_header_nbytes> raw_block_header(std::size_t nbytes, bool last) {
    const std::size_t fields = nbytes << 3 | (last ? 1U : 0U); // block type 0: raw
    return {byte_of(fields, 0), byte_of(fields, 1), byte_of(fields, 2)};
}

} // namespace sucrose
