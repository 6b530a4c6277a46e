#include "io/system_calls.h"

#include <cerrno>

#include "io/journal.h"

namespace sucrose::system_calls::watched {

namespace {

using fault::Site;
using journal::Kind;
using journal::note;

// The smallest step of direct I/O.
constexpr std::size_t block_nbytes = 4096;

// Makes the call, unless it has to fail.
template <typename Call> auto unless_failing(Site site, Call call) noexcept -> decltype(call()) {
    if (const int error = fault::error_at(site); error != 0) {
        errno = error;
        return -1;
    }
    return call();
}

} // namespace

int open(const char *path, int flags, mode_t mode) noexcept {
    const std::uint64_t begin = journal::tick();
    const int fd = unless_failing(Site::open, [&] { return ::open(path, flags, mode); });
    if (fd >= 0 && (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
        note(Kind::create, fd, begin, 0, nullptr, 0, path);
    }
    return fd;
}

ssize_t pread(int fd, void *data, std::size_t nbytes, off_t offset) noexcept {
    return unless_failing(Site::pread,
                          [&] { return ::pread(fd, data, nbytes_to_ask(fd, nbytes), offset); });
}

ssize_t pwrite(int fd, const void *data, std::size_t nbytes, off_t offset) noexcept {
    const std::uint64_t begin = journal::tick();
    const ssize_t n = unless_failing(
        Site::pwrite, [&] { return ::pwrite(fd, data, nbytes_to_ask(fd, nbytes), offset); });
    if (n > 0) {
        note(Kind::write, fd, begin, static_cast<std::uint64_t>(offset), data,
             static_cast<std::size_t>(n));
    }
    return n;
}

int fsync(int fd) noexcept {
    const std::uint64_t begin = journal::tick();
    const int result = unless_failing(Site::fsync, [&] { return ::fsync(fd); });
    note(result == 0 ? Kind::sync : Kind::failed_sync, fd, begin, 0);
    return result;
}

// The descriptor is gone even where close fails.
int close(int fd) noexcept {
    const int error = fault::error_at(Site::close);
    const int result = ::close(fd);
    if (error == 0) {
        return result;
    }
    errno = error;
    return -1;
}

int ftruncate(int fd, off_t nbytes) noexcept {
    const std::uint64_t begin = journal::tick();
    const int result = unless_failing(Site::ftruncate, [&] { return ::ftruncate(fd, nbytes); });
    if (result == 0) {
        note(Kind::truncate, fd, begin, static_cast<std::uint64_t>(nbytes));
    }
    return result;
}

int fallocate(int fd, int mode, off_t offset, off_t nbytes) noexcept {
    const std::uint64_t begin = journal::tick();
    const int result =
        unless_failing(Site::fallocate, [&] { return ::fallocate(fd, mode, offset, nbytes); });
    if (result == 0) {
        note(Kind::preallocate, fd, begin, static_cast<std::uint64_t>(offset + nbytes));
    }
    return result;
}

void *mmap(void *address, std::size_t nbytes, int protection, int flags, int fd) noexcept {
    if (const int error = fault::error_at(Site::mmap); error != 0) {
        errno = error;
        return MAP_FAILED;
    }
    return ::mmap(address, nbytes, protection, flags, fd, 0);
}

int mprotect(void *address, std::size_t nbytes, int protection) noexcept {
    return unless_failing(Site::allocate, [&] { return ::mprotect(address, nbytes, protection); });
}

std::size_t nbytes_to_ask(int fd, std::size_t nbytes) noexcept {
    const int flags = ::fcntl(fd, F_GETFL);
    const bool direct = flags >= 0 && (flags & O_DIRECT) != 0;
    return fault::allowed_nbytes(nbytes, direct ? block_nbytes : 1);
}

void note_written(int fd, const void *data, int nbytes, std::uint64_t offset) noexcept {
    if (nbytes > 0) {
        note(Kind::write, fd, journal::tick(), offset, data, static_cast<std::size_t>(nbytes));
    }
}

} // namespace sucrose::system_calls::watched
