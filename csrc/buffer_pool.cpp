#include "buffer_pool.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "error.h"
#include "io/system_calls.h"

namespace sucrose {

namespace {
constexpr std::size_t huge_page_nbytes = std::size_t{2} << 20;
}

SlotLease::SlotLease(SlotLease &&other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), index_(other.index_) {}

SlotLease &SlotLease::operator=(SlotLease &&other) noexcept {
    if (this != &other) {
        reset();
        pool_ = std::exchange(other.pool_, nullptr);
        index_ = other.index_;
    }
    return *this;
}

std::byte *SlotLease::data() const noexcept {
    return pool_->slot(index_);
}

void SlotLease::pin(PagePinner &pinner) const noexcept {
    BufferPool::Pinning &state = pool_->pinning_[index_];
    if (state == BufferPool::Pinning::not_tried) {
        const bool pinned = pinner.pin(data(), chunk_nbytes);
        state = pinned ? BufferPool::Pinning::pinned : BufferPool::Pinning::refused;
        const std::lock_guard lock(pool_->mutex_);
        pool_->pinner_ = &pinner;
    }
}

void SlotLease::reset() noexcept {
    if (BufferPool *pool = std::exchange(pool_, nullptr)) {
        pool->give_back(index_);
    }
}

BufferPool::~BufferPool() {
    for (std::size_t i = 0; i < pinning_.size(); ++i) {
        if (pinning_[i] == Pinning::pinned) {
            pinner_->unpin(slot(i));
        }
    }
}

SlotLease BufferPool::try_lease() {
    const std::lock_guard lock(mutex_);
    if (!memory_) {
        reserve_locked();
    }
    if (free_.empty() || lent_ >= limit_) {
        return {};
    }
    const std::size_t index = free_.back();
    if (!try_make_usable_locked(index)) {
        if (lent_ != 0) {
            return {}; // the next one that is given back will do
        }
        throw OutOfMemory(chunk_nbytes);
    }
    free_.pop_back();
    ++lent_;
    return {this, index};
}

// Slots are first lent in the order of their addresses.
bool BufferPool::try_make_usable_locked(std::size_t index) noexcept {
    if (index < usable_) {
        return true;
    }
    if (system_calls::mprotect(slot(index), chunk_nbytes, PROT_READ | PROT_WRITE) != 0) {
        return false;
    }
    usable_ = index + 1;
    return true;
}

void BufferPool::set_limit(std::size_t slot_count) noexcept {
    const std::lock_guard lock(mutex_);
    limit_ = std::min(slot_count, slot_count_);
}

std::size_t BufferPool::available() const noexcept {
    const std::lock_guard lock(mutex_);
    const std::size_t most = std::min(limit_, slot_count_);
    return most - std::min(lent_, most);
}

std::size_t BufferPool::kept_nbytes() const noexcept {
    const std::lock_guard lock(mutex_);
    return usable_ * chunk_nbytes;
}

void BufferPool::reserve_locked() {
    // Addresses only: systems that count what they promise count it when a slot becomes usable. One
    // huge page more than needed, so that the first slot can begin on a huge page: the block layer
    // then sees two physical segments in a slot instead of a thousand.
    std::size_t nbytes = 0;
    void *address = MAP_FAILED;
    for (;; slot_count_ = (slot_count_ + 1) / 2) {
        nbytes = slot_count_ * chunk_nbytes + huge_page_nbytes;
        address = system_calls::mmap(nullptr, nbytes, PROT_NONE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
        if (address != MAP_FAILED) {
            break;
        }
        if (slot_count_ == 1) {
            throw OutOfMemory(nbytes);
        }
    }
    memory_ = UniqueMapping({static_cast<std::byte *>(address), nbytes});
    ::madvise(address, nbytes, MADV_HUGEPAGE); // advice: without it only slower
    // A child has no use for them, and a page that is shared with one could be moved away, when
    // either process writes to it, from under a transfer of the disk's or a device's.
    ::madvise(address, nbytes, MADV_DONTFORK);
    const auto base = reinterpret_cast<std::uintptr_t>(address);
    first_slot_ = memory_.get().data + (huge_page_nbytes - base % huge_page_nbytes);
    pinning_.resize(slot_count_, Pinning::not_tried);
    free_.reserve(slot_count_); // give_back must not allocate
    for (std::size_t i = slot_count_; i > 0; --i) {
        free_.push_back(i - 1);
    }
}

void BufferPool::give_back(std::size_t index) noexcept {
    const std::lock_guard lock(mutex_);
    free_.push_back(index);
    --lent_;
}

} // namespace sucrose
