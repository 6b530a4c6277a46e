// Faults at the boundary to the system, for tests: named sites at which calls are counted, made to
// fail, or end the process. Nothing but a test turns them on; while none does, a site costs one
// relaxed load and a branch that is not taken.
//
//   const int error = fault::error_at(fault::Site::compress);   // 0, or what to fail with
//
// Calls on files go through system_calls.h, which asks here and tells journal.h. Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <vector>

namespace sucrose::fault {

// The second half are calls that only Python makes; they are counted here as well, so that there is
// one sequence.
enum class Site : std::uint8_t {
    open,
    pwrite,
    pread,
    fsync,
    close,
    ftruncate,
    fallocate,
    mmap,
    allocate,     // memory of slots, pinned memory, the memory of an io_uring
    submit,       // of requests to an io_uring
    completion,   // of a request by an io_uring
    d2h,          // a copy from a device
    h2d,          // a copy to a device
    compress,     // of a chunk
    thread_start, // of a thread of the core's or of Python's
    rename,
    exchange,
    mkdir,
    unlink,
    rmdir,
    stat,
    listdir,
};
inline constexpr std::array<std::string_view, 22> site_names{
    "open",     "pwrite", "pread",      "fsync", "close", "ftruncate", "fallocate",    "mmap",
    "allocate", "submit", "completion", "d2h",   "h2d",   "compress",  "thread_start", "rename",
    "exchange", "mkdir",  "unlink",     "rmdir", "stat",  "listdir"};
inline constexpr std::size_t site_count = site_names.size();

inline constexpr std::uint64_t forever = UINT64_MAX;

// Acts on `times` calls at `site`, from the `nth` on that comes after the rule was made.
struct Rule {
    Site site;
    std::uint64_t nth = 1;
    std::uint64_t times = 1;
    int error_number = EIO; // 0: the process ends by SIGKILL instead
};

// Puts a rule in force; returns its id.
std::uint64_t add(const Rule &rule);
// Takes a rule back; returns how many calls it has failed.
std::uint64_t remove(std::uint64_t id) noexcept;

// From now on a transfer of a file moves no more than `nbytes` at once; `half_of_each` means half
// of what is asked for, 0 no limit. Direct ones move whole blocks, and at least one.
inline constexpr std::size_t half_of_each = SIZE_MAX;
void limit_transfers(std::size_t nbytes) noexcept;

// From now on completions of an io_uring are dealt with in an order drawn with `seed`; 0: as they
// come.
void shuffle_completions(std::uint64_t seed) noexcept;

// Counts the calls at each site from now on, from zero; `counts` has them, in the order of `Site`.
void count_calls(bool on) noexcept;
std::vector<std::uint64_t> counts();

// Keeps `is_armed` true for others who listen at the sites.
void listen(bool on) noexcept;

namespace detail {
// Rules, limits and listeners there are.
inline constinit std::atomic<std::uint32_t> armed = 0;
int decide(Site site) noexcept;
} // namespace detail

inline bool is_armed() noexcept {
    return detail::armed.load(std::memory_order_relaxed) != 0;
}

// The errno that this call has to fail with, or 0.
inline int error_at(Site site) noexcept {
    return is_armed() ? detail::decide(site) : 0;
}

// For sites whose failures are exceptions. Throws std::system_error.
inline void throw_at(Site site) {
    if (const int error = error_at(site); error != 0) {
        throw std::system_error(error, std::generic_category());
    }
}

// Of `nbytes` that one transfer would move those that it may; `block_nbytes` is 1 where it need not
// move whole blocks.
std::size_t allowed_nbytes(std::size_t nbytes, std::size_t block_nbytes) noexcept;

// Whether completions are to be shuffled, and a number below `bound` to do it with.
bool shuffles_completions() noexcept;
std::size_t draw(std::size_t bound) noexcept;

} // namespace sucrose::fault
