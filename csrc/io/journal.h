// What the core has done to files, for the crash simulator of the tests: a list of changes, each
// with its bytes and its place in a sequence that Python's own changes are counted in as well.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sucrose::journal {

enum class Kind : std::uint8_t { create, write, truncate, preallocate, sync, failed_sync };

// A change of the file that `device` and `inode` name. It may have reached the disk from `begin`
// on, and the program knew that the system had it from `end` on.
struct Entry {
    Kind kind;
    std::uint64_t begin;
    std::uint64_t end;
    std::uint64_t device;
    std::uint64_t inode;
    std::string path;         // of a created one
    std::uint64_t offset = 0; // of a write; else the size
    std::string bytes;        // of a write
};

// The next place in the sequence.
std::uint64_t tick() noexcept;

// Keeps changes from now on; `stop` returns them, in no particular order.
void start();
std::vector<Entry> stop();
bool is_kept() noexcept;

// Does nothing where changes are not kept. Leaves errno as it is. Thread-safe.
void note(Kind kind, int fd, std::uint64_t begin, std::uint64_t offset = 0,
          const void *data = nullptr, std::size_t nbytes = 0, const char *path = "") noexcept;

} // namespace sucrose::journal
