// Whether compressing a file is faster than writing it as it is.
//
// With C for the raw bytes that one worker compresses in a second, W for the bytes that the storage
// takes in a second, and r for compressed over raw, compression pays where
//
//   min(C x workers, W / r) > W
//
//   1. A file begins compressed. C and r are measured for each chunk, W over the time in which
//      writes are under way, so that waiting for compression does not make the storage look slow.
//   2. After enough chunks the rest of the file is decided, where W means something already: writes
//      that the page cache takes, and a sync at the end waits for, tell nothing before that.
//   3. The figures belong to the storage, and the next file on it begins with them. Now and then
//      one is measured again.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

namespace sucrose {

struct CompressionFigures {
    double ratio = 1;         // compressed over raw
    double compress_rate = 0; // C, in bytes per second
    double write_rate = 0;    // W, in bytes per second; 0: not known
    std::size_t worker_count = 1;
    bool pays() const noexcept;
};

// What files on each storage have shown. Thread-safe.
class CompressionHistory {
public:
    // nullopt where a file on the storage should be measured.
    std::optional<CompressionFigures> recall(dev_t storage);
    void remember(dev_t storage, const CompressionFigures &figures);
    // The figures that were remembered last.
    std::optional<CompressionFigures> latest() const;

private:
    struct Record {
        CompressionFigures figures;
        std::size_t files = 0; // since the last one that was measured
    };
    mutable std::mutex mutex_;
    std::map<dev_t, Record> records_;
    std::optional<CompressionFigures> latest_;
};

// Of one file. Thread-safe.
class CompressionTrial {
public:
    using Clock = std::chrono::steady_clock;

    // `written_through`: whether a write that has ended has reached the storage, or need not.
    CompressionTrial(CompressionHistory &history, dev_t storage, std::size_t worker_count,
                     bool written_through);

    // Whether the next chunk is to be compressed.
    bool compressing() const noexcept { return compressing_.load(std::memory_order_relaxed); }
    void chunk_compressed(std::size_t raw_nbytes, std::size_t nbytes, Clock::duration took);
    void write_began();
    void write_ended(std::size_t nbytes);
    // The file is complete; its sync took so long.
    void file_ended(Clock::duration sync);

private:
    std::optional<CompressionFigures> figures_locked() const;

    CompressionHistory &history_;
    const dev_t storage_;
    const std::size_t worker_count_;
    const bool written_through_;
    std::atomic<bool> compressing_ = true;

    std::mutex mutex_;
    bool measuring_ = true; // until there is a decision
    std::size_t chunks_ = 0;
    std::uint64_t raw_nbytes_ = 0;
    std::uint64_t compressed_nbytes_ = 0;
    Clock::duration compressing_time_{};
    std::uint64_t written_nbytes_ = 0;
    std::size_t writes_under_way_ = 0;
    Clock::time_point busy_since_; // while there are any
    Clock::duration busy_{};       // before that
};

} // namespace sucrose
