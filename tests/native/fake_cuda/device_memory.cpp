#include "device_memory.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

namespace fake_cuda {

namespace {

constexpr std::size_t alignment = 512;
// Between allocations, so that an access just behind one of them is in none.
constexpr std::size_t gap_nbytes = alignment;

std::size_t footprint(std::size_t nbytes) {
    return (nbytes + alignment - 1) / alignment * alignment + gap_nbytes;
}

std::uint64_t map_or_abort(std::size_t nbytes, int protection) {
    void *address =
        ::mmap(nullptr, nbytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) {
        std::perror("fake_cuda: mmap");
        std::abort();
    }
    return reinterpret_cast<std::uint64_t>(address);
}

void unmap(std::uint64_t address, std::size_t nbytes) {
    if (nbytes != 0) {
        ::munmap(reinterpret_cast<void *>(address), nbytes);
    }
}

} // namespace

std::string hexadecimal(std::uint64_t value) {
    char text[2 + 16 + 1];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

void DeviceMemory::reserve(int devices, std::size_t nbytes_per_device) {
    unmap(begin_, reserved_nbytes_);
    unmap(shadow_begin_, reserved_nbytes_);
    // Twice as many addresses as bytes: fragmentation must not look like a full device.
    const std::size_t span = footprint(2 * nbytes_per_device + (std::size_t{1} << 20));
    capacity_nbytes_ = nbytes_per_device;
    reserved_nbytes_ = span * static_cast<std::size_t>(devices);
    devices_.clear();
    if (reserved_nbytes_ == 0) {
        return;
    }
    begin_ = map_or_abort(reserved_nbytes_, PROT_NONE);
    shadow_begin_ = map_or_abort(reserved_nbytes_, PROT_READ | PROT_WRITE);
    // mmap aligns to pages only, which is a multiple of `alignment`.
    for (int i = 0; i < devices; ++i) {
        const std::uint64_t begin = begin_ + span * static_cast<std::size_t>(i);
        devices_.push_back({begin, begin + span, begin, 0, {}});
    }
}

std::size_t DeviceMemory::free_nbytes(int device) const {
    return capacity_nbytes_ - devices_[static_cast<std::size_t>(device)].used_nbytes;
}

std::size_t DeviceMemory::count() const {
    std::size_t count = 0;
    for (const Device &device : devices_) {
        count += device.allocations.size();
    }
    return count;
}

std::uint64_t DeviceMemory::try_allocate(int ordinal, std::size_t nbytes, bool stream_ordered) {
    Device &device = devices_[static_cast<std::size_t>(ordinal)];
    if (nbytes > free_nbytes(ordinal)) {
        return 0;
    }
    for (std::uint64_t position : {device.cursor, device.begin}) {
        for (const auto &[begin, allocation] : device.allocations) {
            if (begin + footprint(allocation.nbytes) <= position) {
                continue;
            }
            if (begin >= position + footprint(nbytes)) {
                break;
            }
            position = begin + footprint(allocation.nbytes);
        }
        if (position + footprint(nbytes) <= device.end) {
            device.allocations[position] = {nbytes, stream_ordered, false, false};
            device.cursor = position + footprint(nbytes);
            device.used_nbytes += nbytes;
            return position;
        }
    }
    return 0;
}

Allocation *DeviceMemory::find(std::uint64_t address) {
    const int device = device_of(address);
    if (device < 0) {
        return nullptr;
    }
    auto &allocations = devices_[static_cast<std::size_t>(device)].allocations;
    const auto found = allocations.find(address);
    return found == allocations.end() ? nullptr : &found->second;
}

void DeviceMemory::erase(std::uint64_t address) {
    Device &device = devices_[static_cast<std::size_t>(device_of(address))];
    const auto found = device.allocations.find(address);
    device.used_nbytes -= found->second.nbytes;
    device.allocations.erase(found);
}

void DeviceMemory::erase_all(int ordinal) {
    Device &device = devices_[static_cast<std::size_t>(ordinal)];
    device.allocations.clear();
    device.used_nbytes = 0;
}

bool DeviceMemory::releases_pending(int device) const {
    for (const auto &[begin, allocation] : devices_[static_cast<std::size_t>(device)].allocations) {
        if (allocation.releasing) {
            return true;
        }
    }
    return false;
}

bool DeviceMemory::contains(std::uint64_t address) const {
    return address - begin_ < reserved_nbytes_;
}

bool DeviceMemory::shadow_contains(const void *shadow) const {
    return reinterpret_cast<std::uint64_t>(shadow) - shadow_begin_ < reserved_nbytes_;
}

std::byte *DeviceMemory::shadow(std::uint64_t address) const {
    return reinterpret_cast<std::byte *>(address - begin_ + shadow_begin_);
}

std::uint64_t DeviceMemory::address_of(const void *shadow) const {
    return reinterpret_cast<std::uint64_t>(shadow) - shadow_begin_ + begin_;
}

std::string DeviceMemory::fault(std::uint64_t address, std::size_t nbytes) const {
    const std::string what = std::to_string(nbytes) + " bytes at " + hexadecimal(address);
    const int ordinal = device_of(address);
    if (ordinal < 0) {
        return what + " are no device memory";
    }
    const auto &allocations = devices_[static_cast<std::size_t>(ordinal)].allocations;
    auto found = allocations.upper_bound(address);
    if (found == allocations.begin()) {
        return what + " are not allocated";
    }
    --found;
    const auto &[begin, allocation] = *found;
    if (address - begin >= allocation.nbytes || !allocation.live) {
        return what + " are not allocated" + (allocation.live ? "" : " at this time");
    }
    if (nbytes > allocation.nbytes - (address - begin)) {
        return what + " leave the allocation of " + std::to_string(allocation.nbytes) +
               " bytes at " + hexadecimal(begin);
    }
    return {};
}

int DeviceMemory::device_of(std::uint64_t address) const {
    for (std::size_t i = 0; i < devices_.size(); ++i) {
        if (address >= devices_[i].begin && address < devices_[i].end) {
            return static_cast<int>(i);
        }
    }
    return -1;
}

} // namespace fake_cuda
