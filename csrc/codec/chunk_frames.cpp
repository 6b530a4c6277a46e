#include "codec/chunk_frames.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "codec/stored_frame.h"

namespace sucrose {

std::span<std::byte> ChunkFrames::room() noexcept {
    const std::size_t used = std::min(nbytes_, chunk_nbytes);
    return {slot_ + used, chunk_nbytes - used};
}

void ChunkFrames::append(std::span<const std::byte> bytes) noexcept {
    put(nbytes_, bytes);
    nbytes_ += bytes.size();
}

void ChunkFrames::append_stored(std::span<const std::byte> content) noexcept {
    append(stored_frame_header(static_cast<std::uint32_t>(content.size())));
    for (;;) {
        const std::size_t n = std::min(frame_block_nbytes, content.size());
        const bool last = n == content.size();
        append(raw_block_header(n, last));
        append(content.first(n));
        content = content.subspan(n);
        if (last) {
            return;
        }
    }
}

// From the last block to the first, since each moves towards the end.
void ChunkFrames::store_in_place(std::size_t raw_nbytes) noexcept {
    const std::size_t blocks =
        std::max<std::size_t>(1, (raw_nbytes + frame_block_nbytes - 1) / frame_block_nbytes);
    for (std::size_t i = blocks; i > 0; --i) {
        const std::size_t from = (i - 1) * frame_block_nbytes;
        const std::size_t n = std::min(frame_block_nbytes, raw_nbytes - from);
        const std::size_t to = frame_header_nbytes + i * block_header_nbytes + from;
        move_up(from, n, to);
        put(to - block_header_nbytes, raw_block_header(n, i == blocks));
    }
    put(0, stored_frame_header(static_cast<std::uint32_t>(raw_nbytes)));
    nbytes_ = stored_frame_nbytes(raw_nbytes);
}

void ChunkFrames::copy_tail(std::span<std::byte> target) const noexcept {
    const std::size_t from = nbytes_ - target.size();
    const std::size_t in_slot =
        from >= chunk_nbytes ? 0 : std::min(target.size(), chunk_nbytes - from);
    if (in_slot != 0) {
        std::memcpy(target.data(), slot_ + from, in_slot);
    }
    if (in_slot != target.size()) {
        std::memcpy(target.data() + in_slot, spill_.data() + (from + in_slot - chunk_nbytes),
                    target.size() - in_slot);
    }
}

void ChunkFrames::prepend(std::span<const std::byte> head) noexcept {
    if (head.empty()) {
        return;
    }
    if (nbytes_ > chunk_nbytes) {
        std::memmove(spill_.data() + head.size(), spill_.data(), nbytes_ - chunk_nbytes);
    }
    move_up(0, std::min(nbytes_, chunk_nbytes), head.size());
    put(0, head);
    nbytes_ += head.size();
}

void ChunkFrames::pad_to_block() noexcept {
    constexpr std::array<std::byte, block_nbytes> zeros{};
    put(nbytes_, {zeros.data(), (block_nbytes - nbytes_ % block_nbytes) % block_nbytes});
}

void ChunkFrames::put(std::size_t at, std::span<const std::byte> bytes) noexcept {
    const std::size_t in_slot = at >= chunk_nbytes ? 0 : std::min(bytes.size(), chunk_nbytes - at);
    if (in_slot != 0) {
        std::memcpy(slot_ + at, bytes.data(), in_slot);
    }
    if (in_slot != bytes.size()) {
        std::memcpy(spill_.data() + (at + in_slot - chunk_nbytes), bytes.data() + in_slot,
                    bytes.size() - in_slot);
    }
}

// Of bytes in the slot; their new place may reach into the spill.
void ChunkFrames::move_up(std::size_t from, std::size_t nbytes, std::size_t to) noexcept {
    const std::size_t stays = to >= chunk_nbytes ? 0 : std::min(nbytes, chunk_nbytes - to);
    if (stays != nbytes) {
        put(to + stays, {slot_ + from + stays, nbytes - stays});
    }
    std::memmove(slot_ + to, slot_ + from, stays);
}

} // namespace sucrose
