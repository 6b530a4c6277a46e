// Tensors whose elements do not lie side by side, as a sequence of bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sucrose {

// Layout of one strided tensor. Its bytes are its elements in row-major order. Immutable.
class StridedLayout {
public:
    // `strides` in bytes, one for each dimension; may be zero or negative. Throws Error where the
    // ranks differ or `itemsize` is zero.
    StridedLayout(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                  std::size_t itemsize);

    std::size_t nbytes() const noexcept { return nbytes_; }

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

    template <typename Visit>
    void for_each_row(std::size_t begin, std::size_t nbytes, Visit visit) const noexcept;

    // The tensor is an array of rows, addressed by `outer_`; a row is `row_size_` runs of
    // `run_nbytes_` contiguous bytes, `row_stride_` apart.
    std::vector<Dimension> outer_; // slowest first
    std::size_t row_size_ = 1;
    std::int64_t row_stride_ = 0;
    std::size_t run_nbytes_;
    std::size_t nbytes_;
};

} // namespace sucrose
