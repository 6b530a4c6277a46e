// Device memory: addresses that host code cannot dereference, and the shadow where the bytes are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fake_cuda {

struct Allocation {
    std::size_t nbytes = 0;
    bool stream_ordered = false;
    bool live = false;      // from when the allocation has taken effect until the free does
    bool releasing = false; // a free of it has been asked for
};

// Guarded by the driver's mutex, except for shadow(). The bytes themselves are not.
class DeviceMemory {
public:
    // Forgets everything and makes room for as many devices.
    void reserve(int devices, std::size_t nbytes_per_device);

    std::size_t capacity_nbytes() const { return capacity_nbytes_; }
    std::size_t free_nbytes(int device) const;
    std::size_t count() const;

    // An address of memory that is not live yet; 0 where the device is full.
    std::uint64_t try_allocate(int device, std::size_t nbytes, bool stream_ordered);
    // The allocation that begins there, or nullptr.
    Allocation *find(std::uint64_t address);
    // Takes an allocation away, after which its place is used again.
    void erase(std::uint64_t address);
    void erase_all(int device);
    // Whether a free that was asked for has yet to take effect.
    bool releases_pending(int device) const;

    // Whether the address is device memory, allocated or not.
    bool contains(std::uint64_t address) const;
    bool shadow_contains(const void *shadow) const;
    std::byte *shadow(std::uint64_t address) const;
    std::uint64_t address_of(const void *shadow) const;
    // What is wrong with using that memory now; empty where nothing is.
    std::string fault(std::uint64_t address, std::size_t nbytes) const;

private:
    struct Device {
        std::uint64_t begin = 0;
        std::uint64_t end = 0;
        std::uint64_t cursor = 0; // where the search for room begins, so that reuse comes late
        std::size_t used_nbytes = 0;
        std::map<std::uint64_t, Allocation> allocations;
    };

    int device_of(std::uint64_t address) const; // -1 where it is on none

    std::size_t capacity_nbytes_ = 0;
    std::vector<Device> devices_;
    std::uint64_t begin_ = 0;
    std::size_t reserved_nbytes_ = 0;
    std::uint64_t shadow_begin_ = 0;
};

// "0x7f..", as messages give addresses.
std::string hexadecimal(std::uint64_t value);

} // namespace fake_cuda
