// The system calls on files that the core makes, by their own names. While a test has turned faults
// on they fail, fall short and are written down as it wants: see fault.h and journal.h.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "io/fault.h"

namespace sucrose::system_calls {

namespace watched {
int open(const char *path, int flags, mode_t mode) noexcept;
ssize_t pread(int fd, void *data, std::size_t nbytes, off_t offset) noexcept;
ssize_t pwrite(int fd, const void *data, std::size_t nbytes, off_t offset) noexcept;
int fsync(int fd) noexcept;
int close(int fd) noexcept;
int ftruncate(int fd, off_t nbytes) noexcept;
int fallocate(int fd, int mode, off_t offset, off_t nbytes) noexcept;
void *mmap(void *address, std::size_t nbytes, int protection, int flags, int fd) noexcept;
int mprotect(void *address, std::size_t nbytes, int protection) noexcept;
std::size_t nbytes_to_ask(int fd, std::size_t nbytes) noexcept;
void note_written(int fd, const void *data, int nbytes, std::uint64_t offset) noexcept;
} // namespace watched

inline int open(const char *path, int flags, mode_t mode = 0) noexcept {
    return fault::is_armed() ? watched::open(path, flags, mode) : ::open(path, flags, mode);
}

inline ssize_t pread(int fd, void *data, std::size_t nbytes, off_t offset) noexcept {
    return fault::is_armed() ? watched::pread(fd, data, nbytes, offset)
                             : ::pread(fd, data, nbytes, offset);
}

inline ssize_t pwrite(int fd, const void *data, std::size_t nbytes, off_t offset) noexcept {
    return fault::is_armed() ? watched::pwrite(fd, data, nbytes, offset)
                             : ::pwrite(fd, data, nbytes, offset);
}

inline int fsync(int fd) noexcept {
    return fault::is_armed() ? watched::fsync(fd) : ::fsync(fd);
}

inline int close(int fd) noexcept {
    return fault::is_armed() ? watched::close(fd) : ::close(fd);
}

inline int ftruncate(int fd, off_t nbytes) noexcept {
    return fault::is_armed() ? watched::ftruncate(fd, nbytes) : ::ftruncate(fd, nbytes);
}

inline int fallocate(int fd, int mode, off_t offset, off_t nbytes) noexcept {
    return fault::is_armed() ? watched::fallocate(fd, mode, offset, nbytes)
                             : ::fallocate(fd, mode, offset, nbytes);
}

inline void *mmap(void *address, std::size_t nbytes, int protection, int flags, int fd) noexcept {
    return fault::is_armed() ? watched::mmap(address, nbytes, protection, flags, fd)
                             : ::mmap(address, nbytes, protection, flags, fd, 0);
}

// Where memory that was only reserved is asked for.
inline int mprotect(void *address, std::size_t nbytes, int protection) noexcept {
    return fault::is_armed() ? watched::mprotect(address, nbytes, protection)
                             : ::mprotect(address, nbytes, protection);
}

// For requests that the kernel carries out by itself: the bytes that it is to be asked for, ...
inline std::size_t nbytes_to_ask(int fd, std::size_t nbytes) noexcept {
    return fault::is_armed() ? watched::nbytes_to_ask(fd, nbytes) : nbytes;
}

// ... and what it has written, where `nbytes` is not an error.
inline void note_written(int fd, const void *data, int nbytes, std::uint64_t offset) noexcept {
    if (fault::is_armed()) {
        watched::note_written(fd, data, nbytes, offset);
    }
}

} // namespace sucrose::system_calls
