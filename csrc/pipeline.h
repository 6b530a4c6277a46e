// Jobs and the scheduler that moves their chunks through the ring.
//
// A chunk of a write:  slot -> gather and digest (workers) -> write (backend) -> slot free
// A chunk of a read:   slot -> page cache, or read -> digest and scatter (workers)
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
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "buffer_pool.h"
#include "digest.h"
#include "error.h"
#include "extents.h"
#include "file_io.h"
#include "worker_pool.h"

namespace sucrose {

// Totals since the engine was started.
struct Counters {
    std::atomic<std::uint64_t> written_nbytes = 0;
    std::atomic<std::uint64_t> read_nbytes = 0;
    std::atomic<std::uint64_t> resident_nbytes = 0; // of those read: straight from the page cache
    std::atomic<std::uint64_t> direct_files = 0;
    std::atomic<std::uint64_t> buffered_files = 0;
};

class Job;

// What jobs run on. Thread-safe.
class Scheduler {
public:
    Scheduler(std::size_t slot_count, std::size_t worker_count, std::unique_ptr<IoBackend> io);
    // Waits for all jobs.
    ~Scheduler();

    void submit(std::shared_ptr<Job> job);
    // Starts chunks while slots and jobs last. Called whenever one of the two comes free.
    void pump();
    void retire(const Job &job) noexcept;

    WorkerPool &workers() noexcept { return workers_; }
    WorkerPool &readers() noexcept { return readers_; }
    WorkerPool &syncers() noexcept { return syncers_; }
    IoBackend &io() noexcept { return *io_; }
    Counters &counters() noexcept { return counters_; }

private:
    Counters counters_;
    BufferPool slots_;
    std::mutex mutex_;
    std::condition_variable idle_;
    std::deque<std::shared_ptr<Job>> jobs_; // with chunks still to start, oldest first
    std::size_t unfinished_ = 0;
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
    // Starts no further chunk. The job then ends with Cancelled.
    void cancel() { fail(std::make_exception_ptr(Cancelled())); }
    std::uint64_t done_nbytes() const noexcept { return done_nbytes_; }
    std::uint64_t total_nbytes() const noexcept { return total_nbytes_; }

protected:
    // At most `max_in_flight` chunks are under way at once.
    Job(Scheduler &scheduler, std::size_t chunk_count, std::size_t max_in_flight,
        std::uint64_t total_nbytes);

    struct Chunk {
        std::shared_ptr<Job> job;
        SlotLease slot;
        std::size_t ordinal; // counts the job's chunks from 0
    };
    using ChunkPtr = std::shared_ptr<Chunk>;

    // Runs on a worker. Whatever it begins must end in chunk_done() for this chunk.
    virtual void process(const ChunkPtr &chunk) = 0;
    // Runs once, after the last chunk, where there was no error. May throw.
    virtual void complete() {}

    void chunk_done(const ChunkPtr &chunk, std::uint64_t nbytes, std::exception_ptr error) noexcept;

    Scheduler &scheduler_;

private:
    friend class Scheduler;
    enum class StartResult { started, not_now, no_more };
    StartResult try_start(std::size_t &ordinal) noexcept;
    void fail(std::exception_ptr error);
    void start(SlotLease slot, std::size_t ordinal);
    void begin();
    void conclude_if_over(std::unique_lock<std::mutex> lock);

    const std::size_t chunk_count_;
    const std::size_t max_in_flight_;
    const std::uint64_t total_nbytes_;
    std::atomic<std::uint64_t> done_nbytes_ = 0;

    std::mutex mutex_;
    std::condition_variable finished_changed_;
    std::size_t next_ = 0;      // chunks [0, next_) have been started
    std::size_t in_flight_ = 0; // of these, those that are not done
    bool begun_ = false;
    bool concluding_ = false;
    bool finished_ = false;
    std::exception_ptr error_;
};

// Creates one file from extents.
class WriteJob final : public Job {
public:
    struct Options {
        bool digest = true;
        bool durable = true;
        std::uint64_t direct_min_nbytes = 0;
    };
    WriteJob(Scheduler &scheduler, std::string path, ExtentList sources, const Options &options);

    std::uint64_t nbytes() const noexcept { return sources_.end(); }
    // One for each chunk; valid once the job has finished.
    const std::vector<Digest> &digests() const noexcept { return digests_; }

private:
    void process(const ChunkPtr &chunk) override;
    void complete() override;
    void write(const ChunkPtr &chunk, std::size_t nbytes);

    const ExtentList sources_;
    const bool durable_;
    std::vector<Digest> digests_;
    OutputFile file_;
};

struct CorruptChunk {
    std::uint64_t index;
    Digest expected;
    Digest found;
};

enum class ReadMode { automatic, buffered, direct };

// Fills extents from one file, checking digests on the way.
class ReadJob final : public Job {
public:
    struct Options {
        std::uint64_t file_nbytes = 0;
        std::vector<Digest> digests; // empty: unchecked
        bool crc32 = false;          // tell the CRC-32 of each extent
        bool whole_file = false;     // check every chunk, wanted by an extent or not
        bool fresh = false;          // the destinations' pages do not exist yet
        std::size_t max_in_flight = 0;
        ReadMode mode = ReadMode::automatic;
    };
    static std::shared_ptr<ReadJob> create(Scheduler &scheduler, std::string path,
                                           ExtentList destinations, Options options);

    // Valid once the job has finished; in file order.
    std::vector<CorruptChunk> corrupt() const;
    // zlib's CRC-32 of what each extent received; empty where not asked for. Valid likewise.
    std::vector<std::uint32_t> crc32s() const;
    // Bytes that were delivered; of a check of the whole file, its size.
    std::uint64_t nbytes() const noexcept;

private:
    struct Range {
        std::uint64_t begin;
        std::size_t nbytes;
    };
    struct Plan {
        std::vector<std::uint64_t> chunks; // indices of those to read
        std::uint64_t nbytes = 0;
    };
    static Plan plan(const ExtentList &destinations, const Options &options);
    ReadJob(Scheduler &scheduler, std::string path, ExtentList destinations, Options options,
            Plan plan);

    // The CRC-32 of a part of an extent, from the byte `offset` of the file on.
    struct CrcPart {
        std::size_t extent;
        std::uint64_t offset;
        std::uint64_t nbytes;
        std::uint32_t crc;
    };

    Range range_of(std::size_t ordinal) const noexcept;
    void process(const ChunkPtr &chunk) override;
    void read_buffered(const ChunkPtr &chunk, const Range &range);
    void read_direct(const ChunkPtr &chunk, const Range &range);
    // What the bytes of one chunk turn out to be.
    struct Findings {
        Digester digester;
        std::vector<CrcPart> crc_parts;
    };
    void extend_crcs(std::vector<CrcPart> &parts, std::uint64_t offset,
                     std::span<const std::byte> piece) const;
    // Digests the file's bytes from `offset` and, if they are not there yet, takes them where they
    // are wanted. A chunk's bytes come in order.
    void consume(Findings &findings, std::uint64_t offset, std::span<const std::byte> bytes,
                 bool in_place) const;
    void conclude(const ChunkPtr &chunk, const Range &range, const Findings &findings);

    const ExtentList destinations_;
    const Options options_;
    const std::vector<std::uint64_t> chunks_;
    InputFile file_;
    mutable std::mutex findings_mutex_;
    std::vector<CorruptChunk> corrupt_;
    std::vector<CrcPart> crc_parts_;
};

} // namespace sucrose
