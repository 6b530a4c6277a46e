// Files: opening, choosing direct or buffered I/O, and the backends that move bytes.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "handle.h"

namespace sucrose {

// One transfer between memory and an open file.
struct IoRequest {
    enum class Kind { read, write };

    Kind kind;
    int fd;
    std::byte *data;
    std::size_t nbytes;
    std::uint64_t offset;
    // A read may end here: at the end of a file whose last block is padded in memory only.
    std::size_t required_nbytes;
    // What a short transfer is continued from: a whole block for O_DIRECT.
    std::size_t alignment;
    // Called once, on a thread of the backend, with 0 or an errno. Must not block and not throw.
    std::function<void(int error_number)> done;
    std::size_t transferred = 0;
    int attempts_in_vain = 0; // since something was transferred
    int error_on_purpose = 0; // an errno that a test wants to see: the kernel is not asked then
};

// How often in a row the system may put an operation off: a transfer that moves nothing, EINTR,
// EAGAIN. More often it will not change its mind, and the operation fails.
inline constexpr int max_attempts_in_vain = 1000;

// Carries out requests in any order, several at a time. Short transfers and EINTR are continued
// until a request is complete, or `max_attempts_in_vain` have moved nothing. Thread-safe. The
// destructor waits for what is under way.
class IoBackend {
public:
    virtual ~IoBackend() = default;
    virtual void submit(std::unique_ptr<IoRequest> request) = 0;
    virtual std::string_view name() const noexcept = 0;
};

// Carries out `request` on this thread and returns 0 or an errno; `done` is not called.
int transfer(IoRequest &request) noexcept;

// pread and pwrite on `thread_count` threads.
std::unique_ptr<IoBackend> make_thread_backend(std::size_t thread_count);

// io_uring with room for `depth` requests; nullptr, and the reason in `why_not`, where the kernel
// refuses it or this build has none.
std::unique_ptr<IoBackend> try_make_uring_backend(std::size_t depth, std::string &why_not);

// What comes next after `result` (bytes, or -errno) of a system call for `request`.
enum class IoStep { finished, again, failed };
IoStep advance(IoRequest &request, std::int64_t result, int &error_number) noexcept;

// A file being written: created exclusively, preallocated, O_DIRECT where a real write proves that
// it works.
//
//   1. create             O_EXCL and O_NOFOLLOW: never through somebody's symlink
//   2. preallocate        to the padded size, so that writes need not extend the file; where only
//                         a bound of it is known, step by step
//   3. write              whole blocks, in any order
//   4. finish             cut to the real size, then fsync
//
// `write` requests come from a pipeline; this class does the rest. Not thread-safe, but for
// `fall_back_to_buffered` and `reserve`.
class OutputFile {
public:
    enum class Size { exact, at_most };

    // Files of at least `direct_min_nbytes` are written past the page cache where that works.
    OutputFile(std::string path, std::uint64_t nbytes, std::uint64_t direct_min_nbytes,
               Size size = Size::exact);

    const std::string &path() const noexcept { return path_; }
    int fd() const noexcept { return fd_.get(); }
    bool direct() const noexcept { return direct_.load(std::memory_order_relaxed); }
    // After EINVAL from a direct write: true where the file was direct and now is buffered.
    bool fall_back_to_buffered() noexcept;
    // Buffered writes only: starts write-back, so that the fsync at the end finds little to do.
    void start_write_back(std::uint64_t offset, std::size_t nbytes) const noexcept;
    // Files with a bound only: asks for space up to `end` and somewhat beyond. Where that fails the
    // write itself tells whether it fits.
    void reserve(std::uint64_t end) noexcept;
    // How long a file with a bound has become.
    void set_nbytes(std::uint64_t nbytes) noexcept { nbytes_ = nbytes; }
    void finish(bool durable);
    // Closes a file that will not be finished, so that its space is free once it is unlinked.
    void abandon() noexcept { fd_.reset(); }

private:
    void preallocate();
    bool probe_direct() noexcept;

    std::string path_;
    std::uint64_t nbytes_;
    UniqueFd fd_;
    std::mutex mode_mutex_;
    std::atomic<bool> direct_ = false;
    std::mutex reserve_mutex_;
    std::atomic<std::uint64_t> reserved_nbytes_ = 0; // of a file with a bound
};

inline constexpr std::size_t read_lanes = 4;

// A file being read. Thread-safe.
class InputFile {
public:
    // Throws SystemError (EIO) where the file does not have `nbytes` bytes.
    InputFile(std::string path, std::uint64_t nbytes, bool direct);

    const std::string &path() const noexcept { return path_; }
    std::uint64_t nbytes() const noexcept { return nbytes_; }
    int fd() const noexcept { return fd_.get(); }
    // Another descriptor of the file for each of `read_lanes` sequential readers: the kernel keeps
    // its read-ahead by descriptor, and readers who share one spoil it for each other.
    int lane_fd(std::size_t lane) const noexcept;
    bool direct() const noexcept { return direct_; }
    // The bytes [offset, offset + nbytes) where all of them are in the page cache, else empty.
    std::span<const std::byte> resident(std::uint64_t offset, std::size_t nbytes) noexcept;

private:
    const std::byte *mapping() noexcept;

    std::string path_;
    std::uint64_t nbytes_;
    UniqueFd fd_;
    std::array<UniqueFd, read_lanes> lane_fds_;
    bool direct_ = false;
    bool residency_known_ = false; // mincore calls everything resident in files that are not ours
    std::once_flag mapped_;
    UniqueMapping mapping_;
};

// fsync of a file or directory. Throws SystemError; an fsync that failed is not repeated.
void sync_path(const std::string &path);

} // namespace sucrose
