#include "extents.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "digest.h"
#include "error.h"

namespace sucrose {

namespace {

// Below this a copy past the cache costs more than it saves.
constexpr std::size_t stream_copy_min_nbytes = 32 << 10;

} // namespace

void ExtentList::append(std::uint64_t offset, std::uint64_t nbytes, std::uint64_t address) {
    if (offset < end() || nbytes > std::numeric_limits<std::uint64_t>::max() - offset) {
        throw Error("extents must be in file order and must not overlap");
    }
    extents_.push_back({offset, nbytes, reinterpret_cast<std::byte *>(address)});
}

void ExtentList::set_layout(std::size_t index, StridedLayout layout) {
    if (index >= extents_.size() || extents_[index].nbytes != layout.nbytes()) {
        throw Error("a strided layout does not have the size of its extent");
    }
    extents_[index].layout = static_cast<std::int32_t>(layouts_.size());
    layouts_.push_back(std::move(layout));
}

std::uint64_t ExtentList::end() const noexcept {
    return extents_.empty() ? 0 : extents_.back().offset + extents_.back().nbytes;
}

std::size_t ExtentList::first_after(std::uint64_t offset) const noexcept {
    const auto found =
        std::partition_point(extents_.begin(), extents_.end(), [offset](const Extent &extent) {
            return extent.offset + extent.nbytes <= offset;
        });
    return static_cast<std::size_t>(found - extents_.begin());
}

void ExtentList::gather(std::uint64_t offset, std::size_t nbytes,
                        std::byte *destination) const noexcept {
    for (std::size_t i = first_after(offset); nbytes > 0; ++i) {
        const Extent &extent = extents_[i];
        if (extent.nbytes == 0) { // it may have no address either
            continue;
        }
        const std::size_t begin = offset - extent.offset;
        const std::size_t n = std::min<std::uint64_t>(nbytes, extent.nbytes - begin);
        if (extent.layout < 0) {
            std::memcpy(destination, extent.address + begin, n);
        } else {
            layouts_[static_cast<std::size_t>(extent.layout)].gather(extent.address, begin, n,
                                                                     destination);
        }
        destination += n;
        offset += n;
        nbytes -= n;
    }
}

void ExtentList::scatter(std::uint64_t offset, std::span<const std::byte> source) const noexcept {
    for_each_part(offset, source, [&](std::size_t index, std::span<const std::byte> part) {
        const Extent &extent = extents_[index];
        const std::uint64_t from = offset + static_cast<std::uint64_t>(part.data() - source.data());
        const std::size_t begin = from - extent.offset;
        if (extent.layout >= 0) {
            layouts_[static_cast<std::size_t>(extent.layout)].scatter(extent.address, begin,
                                                                      part.size(), part.data());
        } else if (part.size() >= stream_copy_min_nbytes) {
            stream_copy(extent.address + begin, part.data(), part.size());
        } else {
            std::memcpy(extent.address + begin, part.data(), part.size());
        }
    });
}

std::byte *ExtentList::contiguous(std::uint64_t offset, std::size_t nbytes) const noexcept {
    const std::size_t i = first_after(offset);
    if (i == extents_.size()) {
        return nullptr;
    }
    const Extent &extent = extents_[i];
    if (extent.layout >= 0 || extent.offset > offset ||
        extent.offset + extent.nbytes < offset + nbytes) {
        return nullptr;
    }
    return extent.address + (offset - extent.offset);
}

} // namespace sucrose
