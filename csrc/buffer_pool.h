// Pools of staging buffers: the only memory that a transfer needs, whatever its size.
#pragma once

#include <cstddef>
#include <cstdint>
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

// Keeps pages where a device can reach them. Thread-safe.
class PagePinner {
public:
    virtual ~PagePinner() = default;
    // False where the system refuses: the memory works all the same, more slowly.
    virtual bool pin(std::byte *address, std::size_t nbytes) noexcept = 0;
    virtual void unpin(std::byte *address) noexcept = 0;
};

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
    // Of the slot in its pool.
    std::size_t index() const noexcept { return index_; }
    // Pins the slot's pages for good, the first time.
    void pin(PagePinner &pinner) const noexcept;
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
    explicit BufferPool(std::size_t slot_count) noexcept
        : slot_count_(slot_count), limit_(slot_count) {}
    ~BufferPool();
    BufferPool(const BufferPool &) = delete;
    BufferPool &operator=(const BufferPool &) = delete;

    // An empty lease where all slots are out. Throws OutOfMemory.
    SlotLease try_lease();
    // Lends no more than `slot_count` slots at once from now on.
    void set_limit(std::size_t slot_count) noexcept;
    // Slots that could be lent now.
    std::size_t available() const noexcept;
    // Bytes of all slots that were ever lent: their pages stay, as the next transfer needs them.
    std::size_t kept_nbytes() const noexcept;

private:
    friend class SlotLease;
    enum class Pinning : std::uint8_t { not_tried, pinned, refused };

    void reserve_locked();
    bool try_make_usable_locked(std::size_t index) noexcept;
    void give_back(std::size_t index) noexcept;
    std::byte *slot(std::size_t index) const noexcept { return first_slot_ + index * chunk_nbytes; }

    std::size_t slot_count_; // fewer where there are not enough addresses for all
    mutable std::mutex mutex_;
    std::size_t limit_;
    std::size_t lent_ = 0;
    UniqueMapping memory_;
    std::byte *first_slot_ = nullptr;
    std::size_t usable_ = 0;        // slots [0, usable_) have memory, the others only addresses
    std::vector<std::size_t> free_; // every slot is either here or in exactly one lease
    std::vector<Pinning> pinning_;  // of a slot: belongs to who has the lease
    PagePinner *pinner_ = nullptr;  // of all pinned slots
};

} // namespace sucrose
