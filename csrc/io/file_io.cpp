#include "io/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>

#include "buffer_pool.h"
#include "error.h"
#include "io/system_calls.h"
#include "worker_pool.h"

namespace sucrose {

namespace {

// Smaller files are read before a second reader is worth its descriptor.
constexpr std::uint64_t lanes_min_nbytes = 64 << 20;

// Of a file whose size is not known before it is complete.
constexpr std::uint64_t reserve_step_nbytes = 64 << 20;

constexpr std::uint64_t round_up(std::uint64_t nbytes) noexcept {
    return (nbytes + block_nbytes - 1) / block_nbytes * block_nbytes;
}

template <typename Call> auto retry_on_eintr(Call call) noexcept {
    auto result = call();
    for (int i = 1; result < 0 && errno == EINTR && i < max_attempts_in_vain; ++i) {
        result = call();
    }
    return result;
}

bool set_direct(int fd, bool direct) noexcept {
    const int flags = ::fcntl(fd, F_GETFL);
    return flags >= 0 && ::fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

class ThreadBackend final : public IoBackend {
public:
    explicit ThreadBackend(std::size_t thread_count) : pool_("sucrose-io", thread_count) {}

    void submit(std::unique_ptr<IoRequest> request) override {
        pool_.post([request = std::shared_ptr<IoRequest>(std::move(request))] {
            request->done(transfer(*request));
        });
    }
    std::string_view name() const noexcept override { return "threads"; }

private:
    WorkerPool pool_;
};

} // namespace

int transfer(IoRequest &request) noexcept {
    for (;;) {
        std::byte *data = request.data + request.transferred;
        const std::size_t nbytes = request.nbytes - request.transferred;
        const auto offset = static_cast<off_t>(request.offset + request.transferred);
        const ssize_t n = request.kind == IoRequest::Kind::read
                              ? system_calls::pread(request.fd, data, nbytes, offset)
                              : system_calls::pwrite(request.fd, data, nbytes, offset);
        int error_number = 0;
        if (advance(request, n < 0 ? -errno : n, error_number) != IoStep::again) {
            return error_number;
        }
    }
}

std::unique_ptr<IoBackend> make_thread_backend(std::size_t thread_count) {
    return std::make_unique<ThreadBackend>(thread_count);
}

IoStep advance(IoRequest &request, std::int64_t result, int &error_number) noexcept {
    const bool put_off = result == -EINTR || result == -EAGAIN || result == -ECANCELED;
    if (put_off && ++request.attempts_in_vain < max_attempts_in_vain) {
        return IoStep::again;
    }
    if (result < 0) {
        error_number = static_cast<int>(-result);
        return IoStep::failed;
    }
    request.transferred += static_cast<std::size_t>(result);
    if (request.transferred >= request.required_nbytes) {
        error_number = 0;
        return IoStep::finished;
    }
    if (result == 0) { // the file ends early, or takes no more
        error_number = EIO;
        return IoStep::failed;
    }
    const std::size_t before = request.transferred - static_cast<std::size_t>(result);
    request.transferred -= request.transferred % request.alignment;
    request.attempts_in_vain = request.transferred > before ? 0 : request.attempts_in_vain + 1;
    if (request.attempts_in_vain == max_attempts_in_vain) { // less than a block, again and again
        error_number = EIO;
        return IoStep::failed;
    }
    return IoStep::again;
}

OutputFile::OutputFile(std::string path, std::uint64_t nbytes, std::uint64_t direct_min_nbytes,
                       Size size)
    : path_(std::move(path)), nbytes_(nbytes) {
    fd_ = UniqueFd(retry_on_eintr([&] {
        return system_calls::open(path_.c_str(),
                                  O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    }));
    if (!fd_) {
        throw SystemError(errno, "open", path_);
    }
    if (nbytes_ > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()) - block_nbytes) {
        throw SystemError(EFBIG, "fallocate", path_);
    }
    if (nbytes_ >= std::max<std::uint64_t>(direct_min_nbytes, 1)) {
        if (size == Size::exact) {
            preallocate();
        } else {
            reserve(1);
        }
        direct_ = probe_direct();
    }
}

void OutputFile::preallocate() {
    const auto size = static_cast<off_t>(round_up(nbytes_));
    if (retry_on_eintr([&] { return system_calls::fallocate(fd_.get(), 0, 0, size); }) == 0) {
        return;
    }
    if (errno != EOPNOTSUPP && errno != ENOSYS) {
        throw SystemError(errno, "fallocate", path_);
    }
    if (retry_on_eintr([&] { return system_calls::ftruncate(fd_.get(), size); }) != 0) {
        throw SystemError(errno, "ftruncate", path_);
    }
}

void OutputFile::reserve(std::uint64_t end) noexcept {
    if (end <= reserved_nbytes_.load(std::memory_order_relaxed)) {
        return;
    }
    const std::lock_guard lock(reserve_mutex_);
    const std::uint64_t begin = reserved_nbytes_;
    if (end <= begin) {
        return;
    }
    const std::uint64_t whole_steps = (end + reserve_step_nbytes - 1) / reserve_step_nbytes;
    const std::uint64_t until =
        std::max(end, std::min(whole_steps * reserve_step_nbytes, round_up(nbytes_)));
    retry_on_eintr([&] {
        return system_calls::fallocate(fd_.get(), 0, static_cast<off_t>(begin),
                                       static_cast<off_t>(until - begin));
    });
    reserved_nbytes_ = until;
}

// File systems accept the flag and then refuse the write, so only a write can tell.
bool OutputFile::probe_direct() noexcept {
    alignas(block_nbytes) static const std::array<std::byte, block_nbytes> zeros{};
    if (!set_direct(fd_.get(), true)) {
        return false;
    }
    const ssize_t n = retry_on_eintr(
        [&] { return system_calls::pwrite(fd_.get(), zeros.data(), zeros.size(), 0); });
    if (n == static_cast<ssize_t>(zeros.size())) {
        return true;
    }
    set_direct(fd_.get(), false);
    return false;
}

bool OutputFile::fall_back_to_buffered() noexcept {
    const std::lock_guard lock(mode_mutex_); // several requests may fail at once
    direct_ = false;
    return set_direct(fd_.get(), false);
}

void OutputFile::start_write_back(std::uint64_t offset, std::size_t nbytes) const noexcept {
    ::sync_file_range(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(nbytes),
                      SYNC_FILE_RANGE_WRITE); // a hint: the fsync reports errors
}

void OutputFile::finish(bool durable) {
    if (retry_on_eintr(
            [&] { return system_calls::ftruncate(fd_.get(), static_cast<off_t>(nbytes_)); }) != 0) {
        throw SystemError(errno, "ftruncate", path_);
    }
    if (durable && retry_on_eintr([&] { return system_calls::fsync(fd_.get()); }) != 0) {
        throw SystemError(errno, "fsync", path_);
    }
    if (system_calls::close(fd_.release()) != 0 && errno != EINTR) { // Linux closes it even then
        throw SystemError(errno, "close", path_);
    }
}

InputFile::InputFile(std::string path, std::uint64_t nbytes, bool direct)
    : path_(std::move(path)), nbytes_(nbytes) {
    fd_ = UniqueFd(
        retry_on_eintr([&] { return system_calls::open(path_.c_str(), O_RDONLY | O_CLOEXEC); }));
    struct stat status {};
    if (!fd_ || ::fstat(fd_.get(), &status) != 0) {
        throw SystemError(errno, "open", path_);
    }
    if (!S_ISREG(status.st_mode)) {
        throw SystemError(S_ISDIR(status.st_mode) ? EISDIR : EINVAL, "open", path_);
    }
    if (static_cast<std::uint64_t>(status.st_size) != nbytes_) {
        throw SystemError(EIO, "fstat", path_);
    }
    direct_ = direct && set_direct(fd_.get(), true);
    if (nbytes_ >= lanes_min_nbytes && !direct_) {
        const std::string again = "/proc/self/fd/" + std::to_string(fd_.get());
        for (UniqueFd &lane : lane_fds_) { // without /proc, or descriptors: all share one
            lane = UniqueFd(system_calls::open(again.c_str(), O_RDONLY | O_CLOEXEC));
        }
    }
    residency_known_ = status.st_uid == ::geteuid() || ::access(path_.c_str(), W_OK) == 0;
}

int InputFile::lane_fd(std::size_t lane) const noexcept {
    const UniqueFd &own = lane_fds_[lane];
    return own ? own.get() : fd_.get();
}

const std::byte *InputFile::mapping() noexcept {
    std::call_once(mapped_, [this] {
        void *address = system_calls::mmap(nullptr, nbytes_, PROT_READ, MAP_SHARED, fd_.get());
        if (address != MAP_FAILED) {
            mapping_ = UniqueMapping({static_cast<std::byte *>(address), nbytes_});
        }
    });
    return mapping_.get().data;
}

std::span<const std::byte> InputFile::resident(std::uint64_t offset, std::size_t nbytes) noexcept {
    const std::byte *base = nbytes == 0 || !residency_known_ ? nullptr : mapping();
    if (base == nullptr) {
        return {};
    }
    constexpr std::size_t page_nbytes = 4096; // mincore rounds up where pages are larger
    constexpr std::size_t max_pages = chunk_nbytes / page_nbytes + 2; // encoded chunks fit, too
    const std::uint64_t begin = offset / page_nbytes * page_nbytes;
    const std::size_t span_nbytes = nbytes + (offset - begin);
    const std::size_t pages = (span_nbytes + page_nbytes - 1) / page_nbytes;
    std::array<unsigned char, max_pages> in_core{};
    auto *address = const_cast<std::byte *>(base + begin);
    if (pages > max_pages || ::mincore(address, span_nbytes, in_core.data()) != 0 ||
        !std::all_of(in_core.begin(), in_core.begin() + static_cast<std::ptrdiff_t>(pages),
                     [](unsigned char page) { return (page & 1) != 0; })) {
        return {};
    }
    // Maps all pages at once and reports what would otherwise be a SIGBUS, such as a file that was
    // cut meanwhile. Kernels before 5.14 do not know it: there the pages fault in one by one.
    if (::madvise(address, span_nbytes, MADV_POPULATE_READ) != 0 && errno != EINVAL) {
        return {};
    }
    return {base + offset, nbytes};
}

void sync_path(const std::string &path) {
    const UniqueFd fd(
        retry_on_eintr([&] { return system_calls::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
    if (!fd) {
        throw SystemError(errno, "open", path);
    }
    if (retry_on_eintr([&] { return system_calls::fsync(fd.get()); }) != 0) {
        throw SystemError(errno, "fsync", path);
    }
}

} // namespace sucrose
