// A file as a sequence of pieces of host memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "strided.h"

namespace sucrose {

// Where one stretch of the file lies in memory.
struct Extent {
    std::uint64_t offset; // in the file
    std::uint64_t nbytes;
    std::byte *address;
    std::int32_t layout = -1; // index of its StridedLayout, or -1 where it is contiguous
};

// Extents in file order, without overlaps. Immutable once built, so that threads may share it. The
// memory belongs to the caller, who keeps it alive.
class ExtentList {
public:
    // Throws Error where the extent begins before the end of the last one, or wraps around.
    void append(std::uint64_t offset, std::uint64_t nbytes, std::uint64_t address);
    // Gives extent `index` a layout. Throws Error where their sizes differ.
    void set_layout(std::size_t index, StridedLayout layout);

    bool empty() const noexcept { return extents_.empty(); }
    // End of the last extent.
    std::uint64_t end() const noexcept;

    // Index of the first extent that ends after `offset`.
    std::size_t first_after(std::uint64_t offset) const noexcept;
    std::span<const Extent> all() const noexcept { return extents_; }

    // Copies the file's bytes [offset, offset + nbytes), all of which must be covered, to
    // `destination`.
    void gather(std::uint64_t offset, std::size_t nbytes, std::byte *destination) const noexcept;
    // Copies `source`, the file's bytes from `offset`, to where extents want them.
    void scatter(std::uint64_t offset, std::span<const std::byte> source) const noexcept;
    // Calls visit(index of the extent, bytes) for each extent that `source`, the file's bytes from
    // `offset`, has bytes of; in file order.
    template <typename Visit>
    void for_each_part(std::uint64_t offset, std::span<const std::byte> source, Visit visit) const {
        const std::uint64_t end = offset + source.size();
        for (std::size_t i = first_after(offset); i < extents_.size() && extents_[i].offset < end;
             ++i) {
            const std::uint64_t from = std::max(offset, extents_[i].offset);
            const std::uint64_t to = std::min(end, extents_[i].offset + extents_[i].nbytes);
            visit(i, source.subspan(from - offset, to - from));
        }
    }
    // The memory behind [offset, offset + nbytes) where that is one contiguous piece, or nullptr.
    std::byte *contiguous(std::uint64_t offset, std::size_t nbytes) const noexcept;

private:
    std::vector<Extent> extents_;
    std::vector<StridedLayout> layouts_;
};

} // namespace sucrose
