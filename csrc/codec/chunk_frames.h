// The encoded bytes of one chunk.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "buffer_pool.h"

namespace sucrose {

// They take the place of the raw ones in the chunk's slot, and so need no memory of their own. A
// chunk that does not compress has a few bytes more than the slot: these go to the spill. Not
// thread-safe.
class ChunkFrames {
public:
    // `slot` has room for `chunk_nbytes` bytes.
    explicit ChunkFrames(std::byte *slot) noexcept : slot_(slot) {}

    std::size_t nbytes() const noexcept { return nbytes_; }
    // What is left of the slot.
    std::span<std::byte> room() noexcept;
    // Counts bytes that were written to `room()`.
    void grow(std::size_t nbytes) noexcept { nbytes_ += nbytes; }
    void append(std::span<const std::byte> bytes) noexcept;
    // A stored frame with `content`, which does not lie in the slot.
    void append_stored(std::span<const std::byte> content) noexcept;
    // Makes a stored frame of the `raw_nbytes` bytes at the beginning of the slot, in place,
    // instead of whatever there is.
    void store_in_place(std::size_t raw_nbytes) noexcept;

    // Copies the last bytes.
    void copy_tail(std::span<std::byte> target) const noexcept;
    // Puts less than a block of bytes before all others.
    void prepend(std::span<const std::byte> head) noexcept;
    // Zeros up to the end of the block; they do not count.
    void pad_to_block() noexcept;

    std::byte *slot() noexcept { return slot_; }
    // The bytes from `chunk_nbytes` on; aligned for direct I/O.
    std::byte *spill() noexcept { return spill_.data(); }

private:
    // Room for what `prepend` pushes out of the slot and for the headers of a stored chunk.
    static constexpr std::size_t spill_nbytes = 2 * block_nbytes;

    void put(std::size_t at, std::span<const std::byte> bytes) noexcept;
    void move_up(std::size_t from, std::size_t nbytes, std::size_t to) noexcept;

    std::byte *slot_;
    std::size_t nbytes_ = 0;
    alignas(block_nbytes) std::array<std::byte, spill_nbytes> spill_;
};

} // namespace sucrose
