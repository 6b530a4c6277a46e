#include "strided.h"

#include <cstring>
#include <limits>

#include "error.h"
#include "kernel_bodies.h"

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

bool StridedLayout::describe(KernelLayout &layout) const noexcept {
    const std::size_t rank = outer_.size() + 1;
    if (rank > KernelLayout::max_rank || run_nbytes_ > std::numeric_limits<std::uint32_t>::max()) {
        return false;
    }
    layout = {};
    layout.rank = static_cast<std::uint32_t>(rank);
    layout.run_nbytes = static_cast<std::uint32_t>(run_nbytes_);
    for (std::size_t i = 0; i < outer_.size(); ++i) {
        layout.size[i] = outer_[i].size;
        layout.stride[i] = outer_[i].stride;
    }
    layout.size[rank - 1] = row_size_;
    layout.stride[rank - 1] = row_stride_;
    return true;
}

void StridedLayout::gather(const std::byte *tensor, std::size_t begin, std::size_t nbytes,
                           std::byte *destination) const noexcept {
    for_each_runs(begin, nbytes, [&](const Runs &runs) noexcept {
        copy_runs(destination, static_cast<std::int64_t>(runs.nbytes), tensor + runs.offset,
                  runs.stride, runs.nbytes, runs.count);
        destination += runs.nbytes * runs.count;
    });
}

void StridedLayout::scatter(std::byte *tensor, std::size_t begin, std::size_t nbytes,
                            const std::byte *source) const noexcept {
    for_each_runs(begin, nbytes, [&](const Runs &runs) noexcept {
        copy_runs(tensor + runs.offset, runs.stride, source, static_cast<std::int64_t>(runs.nbytes),
                  runs.nbytes, runs.count);
        source += runs.nbytes * runs.count;
    });
}

} // namespace sucrose
