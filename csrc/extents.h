// A file as a sequence of pieces of memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cuda/cuda_driver.h"
#include "strided.h"

namespace sucrose {

// Where one stretch of the file lies in memory.
struct Extent {
    std::uint64_t offset; // in the file
    std::uint64_t nbytes;
    std::uint64_t address;
    std::int32_t layout = -1; // index of its StridedLayout, or -1 where it is contiguous
    std::int32_t device = -1; // ordinal of the CUDA device that has it, or -1 for host memory

    bool on_host() const noexcept { return device < 0; }
    std::byte *host() const noexcept { return reinterpret_cast<std::byte *>(address); }
    DeviceAddress on_device() const noexcept { return DeviceAddress{address}; }
};

// Bytes [begin, begin + nbytes) of a tensor in device memory, counted in row-major order.
struct DevicePart {
    std::int32_t device;
    DeviceAddress tensor;        // of the element (0, ..., 0)
    const StridedLayout *layout; // nullptr where it is contiguous
    std::uint64_t begin;
    std::size_t nbytes;
    std::size_t offset; // in the block of host or device memory that they are copied to or from
};

// Extents in file order, without overlaps. Immutable once built, so that threads may share it. The
// memory belongs to the caller, who keeps it alive.
class ExtentList {
public:
    // Throws Error where the extent begins before the end of the last one, or wraps around.
    void append(std::uint64_t offset, std::uint64_t nbytes, std::uint64_t address);
    // Gives extent `index` a layout. Throws Error where their sizes differ.
    void set_layout(std::size_t index, StridedLayout layout);
    // Says that extent `index` lies in the memory of the CUDA device `device`.
    void set_device(std::size_t index, std::int32_t device);

    bool empty() const noexcept { return extents_.empty(); }
    // Ordinals of the devices that extents lie on, ascending.
    std::span<const std::int32_t> devices() const noexcept { return devices_; }
    // End of the last extent.
    std::uint64_t end() const noexcept;

    // Index of the first extent that ends after `offset`.
    std::size_t first_after(std::uint64_t offset) const noexcept;
    std::span<const Extent> all() const noexcept { return extents_; }

    // Copies those of the file's bytes [offset, offset + nbytes), all of which must be covered,
    // that lie in host memory to their place in `destination`; past the cache where it is to be
    // `streaming`, for bytes that are not read again soon.
    void gather(std::uint64_t offset, std::size_t nbytes, std::byte *destination,
                bool streaming = false) const noexcept;
    // Copies `source`, the file's bytes from `offset`, to where extents in host memory want them.
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
            if (from < to) { // an extent of no bytes may have no address either
                visit(i, source.subspan(from - offset, to - from));
            }
        }
    }
    // Those of the file's bytes [offset, offset + nbytes) that lie on devices.
    std::vector<DevicePart> device_parts(std::uint64_t offset, std::uint64_t nbytes) const;
    // The same file with what lies on devices[i] packed without gaps, in file order, into device
    // memory at targets[i].
    ExtentList packed_on_devices(std::span<const DeviceAddress> targets) const;
    // What has to be copied for that, to which offsets from the target.
    std::vector<DevicePart> packed_parts(std::int32_t device) const;
    std::uint64_t nbytes_on(std::int32_t device) const noexcept;
    // Whether host memory has any of [offset, offset + nbytes).
    bool any_on_host(std::uint64_t offset, std::uint64_t nbytes) const noexcept;
    // The host memory behind [offset, offset + nbytes) where it is one contiguous piece, or
    // nullptr.
    std::byte *contiguous(std::uint64_t offset, std::size_t nbytes) const noexcept;

private:
    std::vector<Extent> extents_;
    std::vector<StridedLayout> layouts_;
    std::vector<std::int32_t> devices_;
};

} // namespace sucrose
