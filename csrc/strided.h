// Tensors whose elements do not lie side by side, as a sequence of bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sucrose {

struct KernelLayout;

// Layout of one strided tensor. Its bytes are its elements in row-major order. Immutable.
class StridedLayout {
public:
    // `strides` in bytes, one for each dimension; may be zero or negative. Throws Error where the
    // ranks differ or `itemsize` is zero.
    StridedLayout(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                  std::size_t itemsize);

    std::size_t nbytes() const noexcept { return nbytes_; }

    // `count` stretches of `nbytes` contiguous bytes each, the first `offset` bytes from the
    // tensor's address, `stride` bytes apart.
    struct Runs {
        std::int64_t offset;
        std::size_t nbytes;
        std::size_t count;
        std::int64_t stride;
    };
    // Calls visit(Runs) for what bytes [begin, begin + nbytes) of the tensor consist of, in order.
    template <typename Visit>
    void for_each_runs(std::size_t begin, std::size_t nbytes, Visit visit) const;

    // The same for the device's kernels. False where it has more dimensions than they take, or runs
    // of 4 GiB and more.
    bool describe(KernelLayout &layout) const noexcept;

    // Copies bytes [begin, begin + nbytes) of the tensor at `tensor` to `destination`.
    void gather(const std::byte *tensor, std::size_t begin, std::size_t nbytes,
                std::byte *destination) const noexcept;
    // The reverse. Elements must not share memory.
    void scatter(std::byte *tensor, std::size_t begin, std::size_t nbytes,
                 const std::byte *source) const noexcept;

private:
    struct Dimension {
        std::size_t size;
        std::int64_t stride;
    };

    // From the tensor's address, in bytes.
    std::int64_t offset_of_row(std::size_t row) const noexcept;

    // The tensor is an array of rows, addressed by `outer_`; a row is `row_size_` runs of
    // `run_nbytes_` contiguous bytes, `row_stride_` apart.
    std::vector<Dimension> outer_; // slowest first
    std::size_t row_size_ = 1;
    std::int64_t row_stride_ = 0;
    std::size_t run_nbytes_;
    std::size_t nbytes_;
};

inline std::int64_t StridedLayout::offset_of_row(std::size_t row) const noexcept {
    std::int64_t offset = 0;
    for (std::size_t i = outer_.size(); i > 0; --i) {
        const Dimension &dimension = outer_[i - 1];
        offset += static_cast<std::int64_t>(row % dimension.size) * dimension.stride;
        row /= dimension.size;
    }
    return offset;
}

template <typename Visit>
void StridedLayout::for_each_runs(std::size_t begin, std::size_t nbytes, Visit visit) const {
    const std::size_t row_nbytes = row_size_ * run_nbytes_;
    std::size_t within = begin % row_nbytes;
    for (std::size_t row = begin / row_nbytes; nbytes > 0; ++row) {
        std::size_t left = std::min(nbytes, row_nbytes - within); // of this row
        nbytes -= left;
        std::int64_t at =
            offset_of_row(row) + static_cast<std::int64_t>(within / run_nbytes_) * row_stride_;
        if (const std::size_t skip = within % run_nbytes_; skip != 0) { // cut by a chunk's edge
            const std::size_t n = std::min(left, run_nbytes_ - skip);
            visit(Runs{at + static_cast<std::int64_t>(skip), n, 1, row_stride_});
            left -= n;
            at += row_stride_;
        }
        if (const std::size_t count = left / run_nbytes_; count != 0) {
            visit(Runs{at, run_nbytes_, count, row_stride_});
            left -= count * run_nbytes_;
            at += static_cast<std::int64_t>(count) * row_stride_;
        }
        if (left != 0) {
            visit(Runs{at, left, 1, row_stride_});
        }
        within = 0;
    }
}

} // namespace sucrose
