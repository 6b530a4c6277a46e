#include "scheduler.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

namespace fake_cuda {

namespace {

constexpr std::uint64_t handle_step = 16;
// Default streams have no handles of their own; these keys are none that create_stream gives.
constexpr std::uint64_t default_stream_keys = std::uint64_t{1} << 60;
constexpr std::uint64_t max_devices = 1024;

// Numbers threads from 1: unlike their ids, a number is never used again.
std::uint64_t thread_number() {
    static std::atomic<std::uint64_t> count = 0;
    thread_local const std::uint64_t number = ++count;
    return number;
}

} // namespace

void Scheduler::reset(unsigned max_delay_us, unsigned seed) {
    streams_.clear();
    events_.clear();
    max_delay_us_ = max_delay_us;
    random_.seed(seed);
}

void Scheduler::forget(int device) {
    std::erase_if(streams_, [&](const auto &item) { return item.second.device == device; });
    std::erase_if(events_, [&](const auto &item) { return item.second.device == device; });
}

std::uint64_t Scheduler::create_stream(int device, StreamKind kind) {
    const std::uint64_t handle = next_handle_ += handle_step;
    StreamQueue &stream = streams_[handle];
    stream.device = device;
    stream.kind = kind;
    add_threads();
    return handle;
}

StreamQueue *Scheduler::find_stream(std::uint64_t handle, int device) {
    const std::uint64_t of_device = default_stream_keys + static_cast<std::uint64_t>(device);
    if (handle <= 1) {
        return &default_stream(of_device, device, StreamKind::legacy);
    }
    if (handle == 2) {
        return &default_stream(of_device + max_devices * thread_number(), device,
                               StreamKind::blocking);
    }
    const auto found = streams_.find(handle);
    const bool usable =
        found != streams_.end() && !found->second.destroyed && !found->second.is_default;
    return usable ? &found->second : nullptr;
}

StreamQueue &Scheduler::default_stream(std::uint64_t key, int device, StreamKind kind) {
    const auto [position, created] = streams_.try_emplace(key);
    StreamQueue &stream = position->second;
    if (created) {
        stream.device = device;
        stream.kind = kind;
        stream.is_default = true;
        add_threads();
    }
    return stream;
}

bool Scheduler::destroy_stream(std::uint64_t handle) {
    const auto found = streams_.find(handle);
    if (found == streams_.end() || found->second.destroyed || found->second.is_default) {
        return false;
    }
    found->second.destroyed = true;
    if (found->second.queue.empty() && !found->second.running) {
        streams_.erase(found);
    }
    return true;
}

std::size_t Scheduler::stream_count() const {
    return static_cast<std::size_t>(std::ranges::count_if(streams_, [](const auto &item) {
        return !item.second.is_default && !item.second.destroyed;
    }));
}

std::uint64_t Scheduler::create_event(int device) {
    const std::uint64_t handle = next_handle_ += handle_step;
    events_[handle].device = device;
    return handle;
}

EventState *Scheduler::find_event(std::uint64_t handle) {
    const auto found = events_.find(handle);
    return found == events_.end() ? nullptr : &found->second;
}

std::shared_ptr<const Point> Scheduler::enqueue(StreamQueue &stream, std::function<void()> run,
                                                unsigned more_delay_us) {
    Operation operation;
    operation.run = std::move(run);
    operation.delay_us = more_delay_us;
    if (max_delay_us_ != 0) {
        operation.delay_us += static_cast<unsigned>(random_() % (max_delay_us_ + 1ULL));
    }
    return push(stream, std::move(operation));
}

std::shared_ptr<const Point> Scheduler::enqueue_wait(StreamQueue &stream,
                                                     std::shared_ptr<const Point> point) {
    Operation operation;
    if (point) {
        operation.after.push_back(std::move(point));
    }
    return push(stream, std::move(operation));
}

std::shared_ptr<const Point> Scheduler::push(StreamQueue &stream, Operation operation) {
    for (const auto &[key, other] : streams_) {
        const bool ordered =
            other.device == stream.device &&
            ((stream.kind == StreamKind::legacy && other.kind == StreamKind::blocking) ||
             (stream.kind == StreamKind::blocking && other.kind == StreamKind::legacy));
        if (ordered && other.last && !other.last->reached) {
            operation.after.push_back(other.last);
        }
    }
    operation.point = std::make_shared<Point>();
    stream.last = operation.point;
    stream.queue.push_back(std::move(operation));
    changed_.notify_all();
    return stream.last;
}

void Scheduler::wait(Lock &lock, const std::shared_ptr<const Point> &point) {
    changed_.wait(lock, [&] { return !point || point->reached; });
}

void Scheduler::wait_idle(Lock &lock, int device) {
    changed_.wait(lock, [&] {
        return std::ranges::all_of(streams_, [&](const auto &item) {
            const StreamQueue &stream = item.second;
            return stream.device != device || (stream.queue.empty() && !stream.running);
        });
    });
}

void Scheduler::wait_idle(Lock &lock) {
    changed_.wait(lock, [&] {
        return std::ranges::all_of(streams_, [](const auto &item) {
            return item.second.queue.empty() && !item.second.running;
        });
    });
}

void Scheduler::hold(Lock &lock) {
    held_ = true;
    changed_.wait(lock, [&] { return running_ == 0; });
}

void Scheduler::hold(StreamQueue &stream) {
    if (!resumed_) {
        resumed_ = std::make_shared<Point>();
    }
    enqueue_wait(stream, resumed_);
}

void Scheduler::resume() {
    held_ = false;
    if (resumed_) {
        resumed_->reached = true;
        resumed_.reset();
    }
    changed_.notify_all();
}

void Scheduler::add_threads() {
    sigset_t all;
    sigset_t previous;
    sigfillset(&all);
    // Signals belong to the program's own threads; new ones inherit this mask.
    pthread_sigmask(SIG_SETMASK, &all, &previous);
    while (threads_.size() < streams_.size()) {
        threads_.emplace_back([this] { work(); });
    }
    pthread_sigmask(SIG_SETMASK, &previous, nullptr);
}

void Scheduler::work() {
    Lock lock(mutex_);
    for (;;) {
        StreamQueue *stream = nullptr;
        changed_.wait(lock, [&] { return (stream = find_runnable()) != nullptr; });
        Operation operation = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->running = true;
        ++running_;
        lock.unlock();
        if (operation.delay_us != 0) {
            std::this_thread::sleep_for(std::chrono::microseconds(operation.delay_us));
        }
        if (operation.run) {
            operation.run();
            operation.run = nullptr;
        }
        lock.lock();
        --running_;
        stream->running = false;
        operation.point->reached = true;
        if (stream->destroyed && stream->queue.empty()) {
            std::erase_if(streams_, [&](const auto &item) { return &item.second == stream; });
        }
        changed_.notify_all();
    }
}

StreamQueue *Scheduler::find_runnable() {
    if (held_) {
        return nullptr;
    }
    for (auto &[key, stream] : streams_) {
        if (!stream.queue.empty() && !stream.running &&
            std::ranges::all_of(stream.queue.front().after,
                                [](const auto &point) { return point->reached; })) {
            return &stream;
        }
    }
    return nullptr;
}

} // namespace fake_cuda
