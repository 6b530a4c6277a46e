// Where the encoded chunks of a file lie, and how they are filtered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sucrose {

// One chunk after another, in order. Immutable. Without chunks: a file that is not encoded.
class ChunkTable {
public:
    ChunkTable() = default;
    // `nbytes` of each encoded chunk; `itemsizes` of their filters: 0 (none), 2, 4 or 8, or no
    // entries at all where no chunk has one. Throws Error where this cannot be the table of a file
    // of `file_nbytes` raw bytes.
    ChunkTable(const std::vector<std::uint64_t> &nbytes, std::vector<std::uint8_t> itemsizes,
               std::uint64_t file_nbytes);

    bool empty() const noexcept { return ends_.empty(); }
    std::uint64_t offset(std::size_t index) const noexcept {
        return index == 0 ? 0 : ends_[index - 1];
    }
    std::size_t nbytes(std::size_t index) const noexcept { return ends_[index] - offset(index); }
    std::size_t itemsize(std::size_t index) const noexcept {
        return itemsizes_.empty() ? 0 : itemsizes_[index];
    }
    std::uint64_t stored_nbytes() const noexcept { return ends_.empty() ? 0 : ends_.back(); }

private:
    std::vector<std::uint64_t> ends_;
    std::vector<std::uint8_t> itemsizes_;
};

// Throws Error where these are not `chunk_count` item sizes of filters, or none at all.
void check_itemsizes(const std::vector<std::uint8_t> &itemsizes, std::size_t chunk_count);

} // namespace sucrose
