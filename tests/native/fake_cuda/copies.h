// Copies between host and device memory, and what a program may do wrong around them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "state.h"

namespace fake_cuda {

// `height` rows of `width_nbytes`, `pitch` bytes apart on either side.
struct CopySide {
    std::uint64_t address = 0;
    std::size_t pitch = 0;
    bool on_device = false;
};

struct Copy {
    CopySide source;
    CopySide target;
    std::size_t width_nbytes = 0;
    std::size_t height = 1;

    // From the first byte of a side to its last one.
    std::size_t extent_nbytes(const CopySide &side) const {
        return (height - 1) * side.pitch + width_nbytes;
    }
    std::size_t nbytes() const { return height * width_nbytes; }
};

// Puts the copy on the stream. With host memory that is not registered it is done on return. One
// with host memory that is registered fills its target with poison until it is done, and
// remembers a digest of its source, which nobody may change until then.
CUresult enqueue_copy(const Call &call, const Copy &copy, sucrose::cuda::CUstream stream);

} // namespace fake_cuda
