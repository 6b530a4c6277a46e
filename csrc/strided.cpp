#include "strided.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace sucrose {

namespace {

// Copies `count` runs of a size that the compiler knows.
template <std::size_t RunNbytes>
void copy_runs(std::byte *destination, std::int64_t destination_stride, const std::byte *source,
               std::int64_t source_stride, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        std::memcpy(destination, source, RunNbytes);
        destination += destination_stride;
        source += source_stride;
    }
}

void copy_runs(std::byte *destination, std::int64_t destination_stride, const std::byte *source,
               std::int64_t source_stride, std::size_t run_nbytes, std::size_t count) noexcept {
    switch (run_nbytes) {
    case 1:
        return copy_runs<1>(destination, destination_stride, source, source_stride, count);
    case 2:
        return copy_runs<2>(destination, destination_stride, source, source_stride, count);
    case 4:
        return copy_runs<4>(destination, destination_stride, source, source_stride, count);
    case 8:
        return copy_runs<8>(destination, destination_stride, source, source_stride, count);
    case 16:
        return copy_runs<16>(destination, destination_stride, source, source_stride, count);
    default:
        for (std::size_t i = 0; i < count; ++i) {
            std::memcpy(destination, source, run_nbytes);
            destination += destination_stride;
            source += source_stride;
        }
    }
}

} // namespace

StridedLayout::StridedLayout(std::span<const std::int64_t> shape,
                             std::span<const std::int64_t> strides, std::size_t itemsize)
    : run_nbytes_(itemsize), nbytes_(itemsize) {
    if (shape.size() != strides.size() || itemsize == 0) {
        throw Error("a strided layout needs as many strides as dimensions, and an item size");
    }
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (shape[i] < 0) {
            throw Error("a strided layout has a negative size");
        }
        const auto size = static_cast<std::size_t>(shape[i]);
        nbytes_ *= size;
        if (size == 1) {
            continue;
        }
        // A dimension whose steps continue those of the one before it is part of it.
        if (!outer_.empty() &&
            outer_.back().stride == strides[i] * static_cast<std::int64_t>(size)) {
            outer_.back() = {outer_.back().size * size, strides[i]};
        } else {
            outer_.push_back({size, strides[i]});
        }
    }
    if (!outer_.empty() && outer_.back().stride == static_cast<std::int64_t>(itemsize)) {
        run_nbytes_ *= outer_.back().size;
        outer_.pop_back();
    }
    if (!outer_.empty()) {
        row_size_ = outer_.back().size;
        row_stride_ = outer_.back().stride;
        outer_.pop_back();
    }
}

// Calls visit(offset of the row in memory, first byte within the row, number of bytes) for every
// row that [begin, begin + nbytes) touches.
template <typename Visit>
void StridedLayout::for_each_row(std::size_t begin, std::size_t nbytes,
                                 Visit visit) const noexcept {
    const std::size_t row_nbytes = row_size_ * run_nbytes_;
    std::size_t row = begin / row_nbytes;
    std::size_t within = begin % row_nbytes;
    while (nbytes > 0) {
        std::int64_t offset = 0;
        std::size_t remaining = row;
        for (std::size_t i = outer_.size(); i > 0; --i) {
            const Dimension &dimension = outer_[i - 1];
            offset += static_cast<std::int64_t>(remaining % dimension.size) * dimension.stride;
            remaining /= dimension.size;
        }
        const std::size_t n = std::min(nbytes, row_nbytes - within);
        visit(offset, within, n);
        nbytes -= n;
        within = 0;
        ++row;
    }
}

void StridedLayout::gather(const std::byte *tensor, std::size_t begin, std::size_t nbytes,
                           std::byte *destination) const noexcept {
    for_each_row(begin, nbytes, [&](std::int64_t row, std::size_t within, std::size_t n) noexcept {
        const auto run = static_cast<std::int64_t>(run_nbytes_);
        const std::byte *source =
            tensor + row + static_cast<std::int64_t>(within / run_nbytes_) * row_stride_;
        if (const std::size_t skip = within % run_nbytes_; skip != 0) { // cut by a chunk's edge
            const std::size_t part = std::min(n, run_nbytes_ - skip);
            std::memcpy(destination, source + skip, part);
            destination += part;
            source += row_stride_;
            n -= part;
        }
        const std::size_t count = n / run_nbytes_;
        copy_runs(destination, run, source, row_stride_, run_nbytes_, count);
        destination += count * run_nbytes_;
        source += static_cast<std::int64_t>(count) * row_stride_;
        if (const std::size_t rest = n % run_nbytes_; rest != 0) {
            std::memcpy(destination, source, rest);
            destination += rest;
        }
    });
}

void StridedLayout::scatter(std::byte *tensor, std::size_t begin, std::size_t nbytes,
                            const std::byte *source) const noexcept {
    for_each_row(begin, nbytes, [&](std::int64_t row, std::size_t within, std::size_t n) noexcept {
        const auto run = static_cast<std::int64_t>(run_nbytes_);
        std::byte *destination =
            tensor + row + static_cast<std::int64_t>(within / run_nbytes_) * row_stride_;
        if (const std::size_t skip = within % run_nbytes_; skip != 0) {
            const std::size_t part = std::min(n, run_nbytes_ - skip);
            std::memcpy(destination + skip, source, part);
            source += part;
            destination += row_stride_;
            n -= part;
        }
        const std::size_t count = n / run_nbytes_;
        copy_runs(destination, row_stride_, source, run, run_nbytes_, count);
        source += count * run_nbytes_;
        destination += static_cast<std::int64_t>(count) * row_stride_;
        if (const std::size_t rest = n % run_nbytes_; rest != 0) {
            std::memcpy(destination, source, rest);
            source += rest;
        }
    });
}

} // namespace sucrose
