#include "buffer_pool.h"

#include <cstdint>
#include <utility>

#include "error.h"

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
    return pool_->first_slot_ + index_ * chunk_nbytes;
}

void SlotLease::reset() noexcept {
    if (BufferPool *pool = std::exchange(pool_, nullptr)) {
        pool->give_back(index_);
    }
}

SlotLease BufferPool::try_lease() {
    const std::lock_guard lock(mutex_);
    if (!memory_) {
        reserve_locked();
    }
    if (free_.empty()) {
        return {};
    }
    const std::size_t index = free_.back();
    free_.pop_back();
    return {this, index};
}

void BufferPool::reserve_locked() {
    // One huge page more than needed, so that the first slot can begin on a huge page: the block
    // layer then sees two physical segments in a slot instead of a thousand.
    const std::size_t nbytes = slot_count_ * chunk_nbytes + huge_page_nbytes;
    void *address = ::mmap(nullptr, nbytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) {
        throw OutOfMemory(nbytes);
    }
    memory_ = UniqueMapping({static_cast<std::byte *>(address), nbytes});
    ::madvise(address, nbytes, MADV_HUGEPAGE); // advice: without it only slower
    const auto base = reinterpret_cast<std::uintptr_t>(address);
    first_slot_ = memory_.get().data + (huge_page_nbytes - base % huge_page_nbytes);
    free_.reserve(slot_count_); // give_back must not allocate
    for (std::size_t i = slot_count_; i > 0; --i) {
        free_.push_back(i - 1);
    }
}

void BufferPool::give_back(std::size_t index) noexcept {
    const std::lock_guard lock(mutex_);
    free_.push_back(index);
}

} // namespace sucrose
