// A fixed set of threads that run tasks in the order in which they were posted.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace sucrose {

// Thread-safe. Tasks must not throw: errors belong to the job that a task works for. A task may
// post further tasks and must never wait for one.
class WorkerPool {
public:
    using Task = std::function<void()>;

    // Threads are named `name` and start with the first task.
    WorkerPool(std::string name, std::size_t thread_count);
    // Runs what was posted, then joins.
    ~WorkerPool();
    WorkerPool(const WorkerPool &) = delete;
    WorkerPool &operator=(const WorkerPool &) = delete;

    // Throws std::system_error where not even one thread can be had; `post` does so as well, unless
    // this was called before.
    void start();
    void post(Task task);
    // Runs `task` before those that wait: for the continuation of work already begun.
    void post_front(Task task);
    std::size_t thread_count() const noexcept { return thread_count_; }

private:
    void start_locked();
    void run(const std::stop_token &stop);

    const std::string name_;
    const std::size_t thread_count_;
    std::mutex mutex_;
    std::condition_variable_any ready_;
    std::deque<Task> tasks_;
    std::vector<std::jthread> threads_; // last: joined before the members that they use go
};

} // namespace sucrose
