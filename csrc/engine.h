// The core's face to Python: files in, tickets out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "hash/fingerprint.h"
#include "lifecycle.h"
#include "pipeline.h"
#include "read_job.h"
#include "write_job.h"

namespace sucrose {

struct EngineOptions {
    std::string io_backend = "auto"; // "auto", "io_uring" or "threads"
    std::string read_mode = "auto";  // "auto", "buffered" or "direct"
    std::size_t slot_count = 32;     // the ring, in chunks
    std::size_t worker_count = 0;    // 0: one for each processor, up to 16
    std::size_t io_depth = 16;       // threads of the threaded backend
    std::uint64_t direct_min_nbytes = 1 << 20;
    std::string cuda_driver = "auto"; // as CudaDriver::open takes it
    std::string trace = "";           // file for a trace of the pipeline; empty: none
};

// Thread-safe. Belongs to the process that made it; any other gets ForkedProcess.
class Engine {
public:
    // Throws Error where an option has an unknown value, or io_uring is demanded and not there.
    explicit Engine(const EngineOptions &options);
    // Waits for the jobs under way, and cancels relayed ones, as nobody is left who would carry
    // their bytes; in a forked child it leaves everything as it is.
    ~Engine();
    Engine(const Engine &) = delete;
    Engine &operator=(const Engine &) = delete;

    // `streams` are the caller's current ones on the devices that extents lie on.
    std::shared_ptr<WriteJob> write(std::string path, ExtentList sources,
                                    std::span<const CallerStream> streams,
                                    WriteJob::Options options);
    std::shared_ptr<ReadJob> read(std::string path, ExtentList destinations,
                                  std::span<const CallerStream> streams, ReadJob::Options options);
    // Host memory that staging keeps between writes, and that is not free therefore.
    std::size_t kept_staging_nbytes() const;
    // Whether extents may lie on that CUDA device.
    bool reaches_device(std::int32_t ordinal);
    // zlib's CRC-32 of each extent, all of which must be contiguous. Blocks.
    std::vector<std::uint32_t> crc32(const ExtentList &sources);
    // See fingerprint_extents.h. Blocks.
    std::vector<Fingerprint> fingerprint(const ExtentList &sources,
                                         std::span<const std::uint64_t> piece_nbytes,
                                         std::span<const CallerStream> streams,
                                         const std::function<void()> &poll);
    // fsyncs files and directories side by side. Blocks; throws the first error.
    void sync(const std::vector<std::string> &paths);

    const Counters &counters() const;
    const Codecs &codecs() const;
    std::string_view io_backend() const;
    // Why io_uring is not used; empty where it is, or was not asked for.
    const std::string &fallback_reason() const noexcept { return fallback_reason_; }
    // What works without something that would make it faster, and why.
    std::vector<std::pair<std::string, std::string>> cuda_fallbacks() const;
    // nullptr where nobody wants a trace.
    Tracer *tracer() const;
    std::size_t worker_count() const;

private:
    Scheduler &scheduler() const;
    // Of a relayed job, before its submission.
    void remember(const std::shared_ptr<Job> &job);

    ProcessGuard process_;
    std::uint64_t direct_min_nbytes_;
    // Of the ring, for a relayed job: files go on beside it, however slow its carrier is.
    std::size_t relay_slot_count_;
    ReadMode read_mode_;
    std::string fallback_reason_;
    std::mutex relayed_mutex_;
    std::vector<std::weak_ptr<Job>> relayed_; // and perhaps under way
    std::unique_ptr<Scheduler> scheduler_;
};

} // namespace sucrose
