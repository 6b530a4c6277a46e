#include "io/relay.h"

#include <utility>

namespace sucrose {

Relay::Relay(std::string name, Order order) : name_(std::move(name)), order_(order) {}

bool Relay::try_offer(Transfer transfer) {
    const std::lock_guard lock(mutex_);
    if (closed_) {
        return false;
    }
    const std::uint64_t offset = transfer.offset;
    offered_.emplace(offset, std::make_shared<Transfer>(std::move(transfer)));
    changed_.notify_all();
    return true;
}

void Relay::end_after(std::uint64_t nbytes) {
    const std::lock_guard lock(mutex_);
    end_ = nbytes;
    changed_.notify_all();
}

bool Relay::next_is_there_locked() const noexcept {
    return !offered_.empty() &&
           (order_ == Order::lowest_first || offered_.begin()->first == taken_nbytes_);
}

Relay::Taken Relay::take(std::chrono::milliseconds timeout, std::optional<Load> &load) {
    process_.check();
    load.reset(); // not with the lock held, which that takes
    std::unique_lock lock(mutex_);
    const auto at_end = [this] { return end_ == taken_nbytes_; };
    const auto something_to_say = [&] { return stopped_ || at_end() || next_is_there_locked(); };
    if (!changed_.wait_for(lock, timeout, something_to_say)) {
        return Taken::nothing_yet;
    }
    if (stopped_) {
        return Taken::closed;
    }
    if (at_end()) {
        return Taken::end;
    }
    const auto first = offered_.begin();
    std::shared_ptr<Transfer> transfer = first->second;
    load.emplace(shared_from_this(), transfer); // given back by itself should what follows throw
    taken_.insert(transfer);
    offered_.erase(first);
    taken_nbytes_ += transfer->nbytes;
    changed_.notify_all(); // others may wait for the end, or for what was behind
    return Taken::load;
}

void Relay::stop() noexcept {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
}

void Relay::close() noexcept {
    std::map<std::uint64_t, std::shared_ptr<Transfer>> offered;
    std::set<std::shared_ptr<Transfer>> taken;
    {
        const std::lock_guard lock(mutex_);
        stopped_ = closed_ = true;
        offered.swap(offered_);
        taken.swap(taken_);
        changed_.notify_all();
    }
    const auto end = [](Transfer &transfer) {
        const auto ended = std::exchange(transfer.ended, nullptr); // and what that holds
        ended(closed);
    };
    for (const auto &[offset, transfer] : offered) {
        transfer->memory.reset();
        end(*transfer);
    }
    for (const auto &transfer : taken) {
        end(*transfer);
    }
}

void Relay::give_back(std::shared_ptr<Transfer> transfer, int outcome) noexcept {
    bool open = false;
    {
        const std::lock_guard lock(mutex_);
        open = taken_.erase(transfer) != 0;
    }
    if (open) {
        std::exchange(transfer->ended, nullptr)(outcome);
    }
}

Relay::Load::Load(std::shared_ptr<Relay> relay, std::shared_ptr<Transfer> transfer)
    : held_(std::make_unique<Held>(Held{std::move(relay), std::move(transfer)})) {}

Relay::Load::~Load() {
    if (held_ == nullptr) {
        return;
    }
    if (!held_->relay->process_.same_process()) {
        static_cast<void>(held_.release()); // its locks may have been held while forking
        return;
    }
    const std::shared_ptr<Relay> relay = std::move(held_->relay);
    relay->give_back(std::move(held_->transfer), held_->outcome);
}

std::span<std::byte> Relay::Load::bytes() const noexcept {
    return {held_->transfer->data, held_->transfer->nbytes};
}

} // namespace sucrose
