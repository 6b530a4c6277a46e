// Streams and events: what runs when.
//
// 1. A stream is a queue. Threads take the first operation of any queue that waits for nothing; a
//    stream has one of its operations running at most, and there are as many threads as streams,
//    so that no stream waits for another one unless it is told to.
// 2. An operation has a point, which is reached when it has run. Recording an event is putting an
//    empty operation on the stream and keeping its point; waiting for the event, one that starts
//    after that point.
// 3. The legacy default stream waits for the last point of each blocking stream of its device, and
//    they wait for its last one.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "cuda/cuda_driver.h"

namespace fake_cuda {

struct Point {
    bool reached = false;
};

enum class StreamKind { legacy, blocking, non_blocking };

struct Operation {
    std::function<void()> run; // without the mutex
    std::vector<std::shared_ptr<const Point>> after;
    std::shared_ptr<Point> point;
    unsigned delay_us = 0;
};

struct StreamQueue {
    int device = 0;
    StreamKind kind = StreamKind::blocking;
    bool is_default = false;
    bool destroyed = false; // forgotten once its operations have run
    bool running = false;
    std::deque<Operation> queue;
    std::shared_ptr<const Point> last;
};

struct EventState {
    int device = 0;
    std::shared_ptr<const Point> recorded; // empty where it never was
};

// Guarded by the driver's mutex, which every member expects to be held. Its threads never end.
class Scheduler {
public:
    using Lock = std::unique_lock<std::mutex>;

    explicit Scheduler(std::mutex &mutex) : mutex_(mutex) {}

    // Forgets all streams and events; nothing may be pending.
    void reset(unsigned max_delay_us, unsigned seed);
    void forget(int device);

    std::uint64_t create_stream(int device, StreamKind kind);
    // The stream of a handle, where 0 and 1 are the legacy default stream of that device and 2 is
    // the calling thread's own. nullptr where there is none.
    StreamQueue *find_stream(std::uint64_t handle, int device);
    bool destroy_stream(std::uint64_t handle);
    std::size_t stream_count() const;

    std::uint64_t create_event(int device);
    EventState *find_event(std::uint64_t handle);
    bool destroy_event(std::uint64_t handle) { return events_.erase(handle) != 0; }
    std::size_t event_count() const { return events_.size(); }

    // Puts an operation behind the others of the stream. It starts after a random delay; returns
    // the point at which it has run.
    std::shared_ptr<const Point> enqueue(StreamQueue &stream, std::function<void()> run,
                                         unsigned more_delay_us = 0);
    // What is put on the stream later starts after the point. Returns its own.
    std::shared_ptr<const Point> enqueue_wait(StreamQueue &stream,
                                              std::shared_ptr<const Point> point);

    void wait(Lock &lock, const std::shared_ptr<const Point> &point);
    void wait_idle(Lock &lock, int device);
    void wait_idle(Lock &lock);
    // Until resume nothing starts, or nothing that is put on that stream from now on.
    void hold(Lock &lock);
    void hold(StreamQueue &stream);
    void resume();

    std::condition_variable &changed() { return changed_; }

private:
    std::shared_ptr<const Point> push(StreamQueue &stream, Operation operation);
    StreamQueue &default_stream(std::uint64_t key, int device, StreamKind kind);
    void add_threads();
    void work();
    StreamQueue *find_runnable();

    std::mutex &mutex_;
    std::condition_variable changed_; // notified at every change of any state of the driver
    std::map<std::uint64_t, StreamQueue> streams_;
    std::map<std::uint64_t, EventState> events_;
    std::vector<std::thread> threads_;
    std::uint64_t next_handle_ = 0x5eed0000;
    std::mt19937 random_;
    unsigned max_delay_us_ = 0;
    unsigned running_ = 0;
    bool held_ = false;
    std::shared_ptr<Point> resumed_; // empty where no stream is held
};

} // namespace fake_cuda
