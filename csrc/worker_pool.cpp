#include "worker_pool.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>
#include <utility>

#include "io/fault.h"

namespace sucrose {

namespace {

// Signals belong to the program's own threads: Python runs its handlers in the main one.
class SignalsBlocked {
public:
    SignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &previous_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
    SignalsBlocked(const SignalsBlocked &) = delete;
    SignalsBlocked &operator=(const SignalsBlocked &) = delete;

private:
    sigset_t previous_;
};

} // namespace

WorkerPool::WorkerPool(std::string name, std::size_t thread_count)
    : name_(std::move(name)), thread_count_(thread_count) {}

WorkerPool::~WorkerPool() {
    for (std::jthread &thread : threads_) {
        thread.request_stop();
    }
}

void WorkerPool::start() {
    const std::lock_guard lock(mutex_);
    start_locked();
}

void WorkerPool::post(Task task) {
    {
        const std::lock_guard lock(mutex_);
        start_locked();
        tasks_.push_back(std::move(task));
    }
    ready_.notify_one();
}

void WorkerPool::post_front(Task task) {
    {
        const std::lock_guard lock(mutex_);
        start_locked();
        tasks_.push_front(std::move(task));
    }
    ready_.notify_one();
}

void WorkerPool::start_locked() {
    if (!threads_.empty()) {
        return;
    }
    const SignalsBlocked blocked;
    threads_.reserve(thread_count_);
    for (std::size_t i = 0; i < thread_count_; ++i) {
        try {
            fault::throw_at(fault::Site::thread_start);
            threads_.emplace_back([this](const std::stop_token &stop) { run(stop); });
        } catch (const std::system_error &) {
            if (threads_.empty()) {
                throw;
            }
            return; // fewer do as well
        }
        pthread_setname_np(threads_.back().native_handle(), name_.substr(0, 15).c_str());
    }
}

void WorkerPool::run(const std::stop_token &stop) {
    std::unique_lock lock(mutex_);
    while (ready_.wait(lock, stop, [this] { return !tasks_.empty(); })) {
        Task task = std::move(tasks_.front());
        tasks_.pop_front();
        lock.unlock();
        task();
        task = nullptr; // what it holds goes before the lock is taken again
        lock.lock();
    }
}

} // namespace sucrose
