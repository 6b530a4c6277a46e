#include "extents.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "error.h"
#include "hash/digest.h"

namespace sucrose {

namespace {

// Below this a copy past the cache costs more than it saves.
constexpr std::size_t stream_copy_min_nbytes = 32 << 10;

} // namespace

void ExtentList::append(std::uint64_t offset, std::uint64_t nbytes, std::uint64_t address) {
    if (offset < end() || nbytes > std::numeric_limits<std::uint64_t>::max() - offset) {
        throw Error("extents must be in file order and must not overlap");
    }
    extents_.push_back({offset, nbytes, address});
}

void ExtentList::set_layout(std::size_t index, StridedLayout layout) {
    if (index >= extents_.size() || extents_[index].nbytes != layout.nbytes()) {
        throw Error("a strided layout does not have the size of its extent");
    }
    extents_[index].layout = static_cast<std::int32_t>(layouts_.size());
    layouts_.push_back(std::move(layout));
}

void ExtentList::set_device(std::size_t index, std::int32_t device) {
    if (index >= extents_.size() || device < 0) {
        throw Error("there is no such extent or no such device");
    }
    extents_[index].device = device;
    const auto place = std::lower_bound(devices_.begin(), devices_.end(), device);
    if (place == devices_.end() || *place != device) {
        devices_.insert(place, device);
    }
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

void ExtentList::gather(std::uint64_t offset, std::size_t nbytes, std::byte *destination,
                        bool streaming) const noexcept {
    for (std::size_t i = first_after(offset); nbytes > 0; ++i) {
        const Extent &extent = extents_[i];
        if (extent.nbytes == 0) { // it may have no address either
            continue;
        }
        const std::size_t begin = offset - extent.offset;
        const std::size_t n = std::min<std::uint64_t>(nbytes, extent.nbytes - begin);
        if (extent.on_host()) {
            if (extent.layout >= 0) {
                layouts_[static_cast<std::size_t>(extent.layout)].gather(extent.host(), begin, n,
                                                                         destination);
            } else if (streaming && n >= stream_copy_min_nbytes) {
                stream_copy(destination, extent.host() + begin, n);
            } else {
                std::memcpy(destination, extent.host() + begin, n);
            }
        }
        destination += n;
        offset += n;
        nbytes -= n;
    }
}

void ExtentList::scatter(std::uint64_t offset, std::span<const std::byte> source) const noexcept {
    for_each_part(offset, source, [&](std::size_t index, std::span<const std::byte> part) {
        const Extent &extent = extents_[index];
        if (!extent.on_host()) {
            return;
        }
        const std::uint64_t from = offset + static_cast<std::uint64_t>(part.data() - source.data());
        const std::size_t begin = from - extent.offset;
        if (extent.layout >= 0) {
            layouts_[static_cast<std::size_t>(extent.layout)].scatter(extent.host(), begin,
                                                                      part.size(), part.data());
        } else if (part.size() >= stream_copy_min_nbytes) {
            stream_copy(extent.host() + begin, part.data(), part.size());
        } else {
            std::memcpy(extent.host() + begin, part.data(), part.size());
        }
    });
}

std::vector<DevicePart> ExtentList::device_parts(std::uint64_t offset, std::uint64_t nbytes) const {
    std::vector<DevicePart> parts;
    if (devices_.empty()) {
        return parts;
    }
    const std::uint64_t end = offset + nbytes;
    for (std::size_t i = first_after(offset); i < extents_.size() && extents_[i].offset < end;
         ++i) {
        const Extent &extent = extents_[i];
        const std::uint64_t from = std::max(offset, extent.offset);
        const std::uint64_t to = std::min(end, extent.offset + extent.nbytes);
        if (!extent.on_host() && from < to) {
            const StridedLayout *layout =
                extent.layout < 0 ? nullptr : &layouts_[static_cast<std::size_t>(extent.layout)];
            parts.push_back({extent.device, extent.on_device(), layout, from - extent.offset,
                             to - from, from - offset});
        }
    }
    return parts;
}

ExtentList ExtentList::packed_on_devices(std::span<const DeviceAddress> targets) const {
    ExtentList packed;
    packed.layouts_ = layouts_;
    packed.devices_ = devices_;
    std::vector<std::uint64_t> used(devices_.size(), 0);
    for (const Extent &extent : extents_) {
        if (extent.on_host()) {
            packed.extents_.push_back(extent);
            continue;
        }
        const auto place = std::lower_bound(devices_.begin(), devices_.end(), extent.device);
        const auto index = static_cast<std::size_t>(place - devices_.begin());
        const DeviceAddress address = targets[index] + used[index];
        used[index] += extent.nbytes;
        Extent *last = packed.extents_.empty() ? nullptr : &packed.extents_.back();
        if (last != nullptr && last->device == extent.device &&
            last->offset + last->nbytes == extent.offset) {
            last->nbytes += extent.nbytes; // packed side by side as well
        } else {
            packed.extents_.push_back({.offset = extent.offset,
                                       .nbytes = extent.nbytes,
                                       .address = static_cast<std::uint64_t>(address),
                                       .device = extent.device});
        }
    }
    return packed;
}

std::vector<DevicePart> ExtentList::packed_parts(std::int32_t device) const {
    std::vector<DevicePart> parts;
    std::size_t offset = 0;
    for (DevicePart part : device_parts(0, end())) {
        if (part.device == device) {
            part.offset = offset;
            offset += part.nbytes;
            parts.push_back(part);
        }
    }
    return parts;
}

std::uint64_t ExtentList::nbytes_on(std::int32_t device) const noexcept {
    std::uint64_t nbytes = 0;
    for (const Extent &extent : extents_) {
        nbytes += extent.device == device ? extent.nbytes : 0;
    }
    return nbytes;
}

bool ExtentList::any_on_host(std::uint64_t offset, std::uint64_t nbytes) const noexcept {
    const std::uint64_t end = offset + nbytes;
    for (std::size_t i = first_after(offset); i < extents_.size() && extents_[i].offset < end;
         ++i) {
        if (extents_[i].on_host() && extents_[i].nbytes > 0) {
            return true;
        }
    }
    return false;
}

std::byte *ExtentList::contiguous(std::uint64_t offset, std::size_t nbytes) const noexcept {
    const std::size_t i = first_after(offset);
    if (i == extents_.size()) {
        return nullptr;
    }
    const Extent &extent = extents_[i];
    if (!extent.on_host() || extent.layout >= 0 || extent.offset > offset ||
        extent.offset + extent.nbytes < offset + nbytes) {
        return nullptr;
    }
    return extent.host() + (offset - extent.offset);
}

} // namespace sucrose
