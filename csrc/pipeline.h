// Jobs and the scheduler that moves their chunks through slots.
//
// A chunk of a write:  slot -> gather and digest (workers) -> write (backend) -> slot free
//         on a device:  slot -> copy (lane) -> digest (worker) -> write -> slot free
//              staged:  staging slot -> gather or copy -> (sources are free) -> digest -> write
//             encoded:  ... -> digest -> encode (worker) -> its turn in the file -> write
//             relayed:  ... -> its turn in the file -> sent by the caller -> slot free
// A chunk of a read:   slot -> page cache, or read -> digest and scatter (workers)
//         to a device:  slot -> read -> digest (worker) -> copy (lane) -> slot free
//             encoded:  slot -> page cache, or read -> decode, digest and scatter (workers)
//             relayed:  slot -> filled by the caller -> (decode,) digest and scatter (worker)
//
// Nothing in here waits while it holds a thread: each step posts the next one. A chunk starts only
// when a slot is free, which is all the back-pressure there is. Jobs are served in the order in
// which they came; one that may not start more chunks lets the next pass.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "buffer_pool.h"
#include "codec/encoded_write.h"
#include "cuda/cuda_devices.h"
#include "error.h"
#include "io/file_io.h"
#include "io/relay.h"
#include "trace.h"
#include "worker_pool.h"

namespace sucrose {

// Totals since the engine was started.
struct Counters {
    std::atomic<std::uint64_t> written_nbytes = 0;
    std::atomic<std::uint64_t> read_nbytes = 0;
    std::atomic<std::uint64_t> resident_nbytes = 0; // of those read: straight from the page cache
    std::atomic<std::uint64_t> from_device_nbytes = 0;
    std::atomic<std::uint64_t> to_device_nbytes = 0;
    std::atomic<std::uint64_t> direct_files = 0;
    std::atomic<std::uint64_t> buffered_files = 0;
};

struct SchedulerOptions {
    std::size_t ring_slot_count;
    std::size_t worker_count;
    std::string cuda_driver; // as CudaDriver::open takes it
    std::string trace;       // file name; empty: none
};

class Job;

// What jobs run on. Thread-safe.
class Scheduler {
public:
    Scheduler(const SchedulerOptions &options, std::unique_ptr<IoBackend> io);
    // Waits for all jobs.
    ~Scheduler();

    void submit(std::shared_ptr<Job> job);
    // Starts chunks while slots and jobs last. Called whenever one of the two comes free.
    void pump();
    void retire(const Job &job) noexcept;
    // Lets staging take up to `nbytes` of host memory; returns how many slots of it are free.
    std::size_t limit_staging(std::uint64_t nbytes);
    // Host memory that staging has taken, and keeps.
    std::size_t kept_staging_nbytes() const noexcept { return staging_.kept_nbytes(); }

    WorkerPool &workers() noexcept { return workers_; }
    WorkerPool &readers() noexcept { return readers_; }
    WorkerPool &syncers() noexcept { return syncers_; }
    IoBackend &io() noexcept { return *io_; }
    CudaDevices &devices() noexcept { return devices_; }
    Counters &counters() noexcept { return counters_; }
    Codecs &codecs() noexcept { return codecs_; }
    Tracer *tracer() noexcept { return tracer_.get(); }

private:
    // Whether a job stays in the queue.
    bool start_one_locked(Job &job, bool &started);
    bool try_start_locked(Job &job, BufferPool &slots);

    Counters counters_;
    Codecs codecs_;
    std::unique_ptr<Tracer> tracer_;
    std::mutex mutex_;
    std::condition_variable idle_;
    std::deque<std::shared_ptr<Job>> jobs_; // with chunks still to start, oldest first
    std::size_t unfinished_ = 0;
    CudaDevices devices_; // before the pools, whose slots they pin; their threads pump as well
    BufferPool ring_;
    BufferPool staging_;
    // Threads last, so that they are joined first; a worker may still submit to io_.
    std::unique_ptr<IoBackend> io_;
    WorkerPool readers_; // for reads that the page cache has a part in
    WorkerPool syncers_; // fsync blocks for long and needs no processor
    WorkerPool workers_;
};

// One file on its way. Thread-safe. The first error is kept, stops further chunks and is rethrown
// by `wait_for`.
class Job : public std::enable_shared_from_this<Job> {
public:
    virtual ~Job() = default;

    // True once nothing of the job is running any more; then throws its error, if it had one.
    bool wait_for(std::chrono::milliseconds timeout);
    // Starts no further chunk. The job then ends with `error`, unless it had one before.
    void fail(std::exception_ptr error);
    void cancel() { fail(std::make_exception_ptr(Cancelled())); }
    // Of a job whose bytes the caller carries; nullptr where they go to a file, or come from it.
    Relay *relay() const noexcept { return relay_.get(); }
    std::uint64_t done_nbytes() const noexcept { return done_nbytes_; }
    std::uint64_t total_nbytes() const noexcept { return total_nbytes_; }

protected:
    // At most `max_in_flight` chunks are in slots of the ring at once.
    Job(Scheduler &scheduler, std::size_t chunk_count, std::size_t max_in_flight,
        std::uint64_t total_nbytes, std::shared_ptr<Relay> relay = nullptr);

    struct Chunk {
        std::shared_ptr<Job> job;
        SlotLease slot;
        std::size_t ordinal; // counts the job's chunks from 0
        bool staged;         // whether the slot is one for staging

        TraceTrack track() const noexcept {
            return {staged ? TraceTrack::Kind::staging : TraceTrack::Kind::ring, slot.index()};
        }
    };
    using ChunkPtr = std::shared_ptr<Chunk>;

    // The chunks [0, staged_chunk_count) go through staging slots, before the others start or,
    // where chunks wait for each other, while they do. To be called before submission.
    void stage_first(std::size_t staged_chunk_count, bool beside_others = false) noexcept;

    // Runs on a worker. Whatever it begins must end in chunk_done() for this chunk.
    virtual void process(const ChunkPtr &chunk) = 0;
    // Runs once, after the last chunk, where there was no error. May throw.
    virtual void complete() {}
    // Runs once, when nothing is under way any more, whether there was an error or not.
    virtual void release() noexcept {}
    // Whether chunks wait for others. Where the job fails these might never come: drop_waiting()
    // then ends, by chunk_done(), those that wait, and from there on none may.
    virtual bool chunks_wait() const noexcept { return false; }
    virtual void drop_waiting() noexcept {}

    void chunk_done(const ChunkPtr &chunk, std::uint64_t nbytes, std::exception_ptr error) noexcept;
    // Lets the caller carry pieces of the chunk's memory: its slot, and what `memory` keeps
    // besides. The slot is the chunk's again in then(), which is called where all was carried out,
    // on any thread. Where it was not, the chunk is done and the job fails.
    struct Freight;
    struct Piece {
        std::byte *data;
        std::size_t nbytes;
        std::uint64_t offset; // in the file
    };
    void hand_over(const ChunkPtr &chunk, std::span<const Piece> pieces,
                   std::shared_ptr<void> memory, std::function<void()> then);
    // Work for the job beside its chunks: the job does not end before that has.
    void begin_side_work();
    void end_side_work(std::exception_ptr error);
    // With the job's lock held.
    bool side_work_under_way() const noexcept { return side_work_ != 0; }
    // What step() throws ends the chunk.
    template <typename Step> static auto guarded(const ChunkPtr &chunk, Step step);
    // Runs step() on a worker, guarded.
    template <typename Step> void post(const ChunkPtr &chunk, Step step);
    template <typename Step> void post_front(const ChunkPtr &chunk, Step step);

    // Waits until `reached` is true or the job has ended; then throws its error, if it had one.
    // False on time-out. `reached` is called with the job's lock held.
    template <typename Reached> bool wait_until(std::chrono::milliseconds timeout, Reached reached);
    // Changes what somebody waits for in `wait_until`.
    template <typename Change> void announce(Change change);

    Scheduler &scheduler_;
    const std::shared_ptr<Relay> relay_;

private:
    friend class Scheduler;
    // What it takes to start another chunk; none of the three once all have been started.
    struct Needs {
        bool staging_slot = false;
        bool ring_slot = false;
        bool patience = false; // for one of its own chunks to end
    };
    Needs needs() noexcept;
    bool try_start(SlotLease slot, bool staged);
    bool all_started_locked() const noexcept;
    void begin();
    void conclude_if_over(std::unique_lock<std::mutex> lock);

    const std::size_t chunk_count_;
    const std::size_t max_in_flight_;
    const std::uint64_t total_nbytes_;
    std::size_t staged_chunk_count_ = 0;
    bool staged_beside_others_ = false;
    std::atomic<std::uint64_t> done_nbytes_ = 0;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t next_staged_ = 0; // chunks [0, next_staged_) have been started,
    std::size_t next_ = 0;        // and [staged_chunk_count_, next_)
    std::size_t in_flight_ = 0;   // of these, those that are not done,
    std::size_t in_ring_ = 0;     // and of those, the ones in slots of the ring
    std::size_t side_work_ = 0;
    bool begun_ = false;
    bool concluding_ = false;
    bool finished_ = false;
    std::exception_ptr error_;
};

template <typename Step> auto Job::guarded(const ChunkPtr &chunk, Step step) {
    return [chunk, step = std::move(step)] {
        try {
            step();
        } catch (...) {
            chunk->job->chunk_done(chunk, 0, std::current_exception());
        }
    };
}

template <typename Step> void Job::post(const ChunkPtr &chunk, Step step) {
    scheduler_.workers().post(guarded(chunk, std::move(step)));
}

template <typename Step> void Job::post_front(const ChunkPtr &chunk, Step step) {
    scheduler_.workers().post_front(guarded(chunk, std::move(step)));
}

template <typename Reached>
bool Job::wait_until(std::chrono::milliseconds timeout, Reached reached) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, timeout, [&] { return finished_ || reached(); })) {
        return false;
    }
    if (finished_ && error_) {
        std::rethrow_exception(error_);
    }
    return true;
}

template <typename Change> void Job::announce(Change change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
}

} // namespace sucrose
