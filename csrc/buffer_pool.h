// The ring of staging buffers: the only memory that a transfer needs, whatever its size.
#pragma once

#include <cstddef>
#include <mutex>
#include <span>
#include <vector>

#include "handle.h"

namespace sucrose {

// Unit of the whole pipeline: one slot holds one chunk, which has one digest and is one request to
// the disk.
inline constexpr std::size_t chunk_nbytes = std::size_t{4} << 20;

// What O_DIRECT asks of addresses, offsets and sizes on every device we know.
inline constexpr std::size_t block_nbytes = 4096;

class BufferPool;

// The right to use one slot. Given back when destroyed.
class SlotLease {
public:
    SlotLease() noexcept = default;
    SlotLease(SlotLease &&other) noexcept;
    SlotLease &operator=(SlotLease &&other) noexcept;
    SlotLease(const SlotLease &) = delete;
    SlotLease &operator=(const SlotLease &) = delete;
    ~SlotLease() { reset(); }

    explicit operator bool() const noexcept { return pool_ != nullptr; }
    // `chunk_nbytes` bytes, page-aligned. Untouched memory until somebody writes to it.
    std::byte *data() const noexcept;
    void reset() noexcept;

private:
    friend class BufferPool;
    SlotLease(BufferPool *pool, std::size_t index) noexcept : pool_(pool), index_(index) {}

    BufferPool *pool_ = nullptr;
    std::size_t index_ = 0;
};

// Thread-safe. Memory is reserved by the first lease and faulted in by use: the slot that was given
// back last is lent first, so that a transfer touches no more slots than it has in flight.
class BufferPool {
public:
    explicit BufferPool(std::size_t slot_count) noexcept : slot_count_(slot_count) {}

    // An empty lease where all slots are out. Throws OutOfMemory.
    SlotLease try_lease();
    std::size_t slot_count() const noexcept { return slot_count_; }

private:
    friend class SlotLease;
    void reserve_locked();
    void give_back(std::size_t index) noexcept;

    const std::size_t slot_count_;
    std::mutex mutex_;
    UniqueMapping memory_;
    std::byte *first_slot_ = nullptr;
    std::vector<std::size_t> free_; // every slot is either here or in exactly one lease
};

} // namespace sucrose
