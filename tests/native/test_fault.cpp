#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "buffer_pool.h"
#include "engine.h"
#include "engine_fixture.h"
#include "error.h"
#include "io/fault.h"
#include "io/file_io.h"
#include "io/journal.h"
#include "io/system_calls.h"
#include "worker_pool.h"

namespace {

using namespace engine_fixture;
using sucrose::Engine;
using sucrose::EngineOptions;
using sucrose::WriteJob;
using sucrose::fault::Site;

// A rule that is in force for as long as this lives.
class Fault {
public:
    explicit Fault(const sucrose::fault::Rule &rule) : id_(sucrose::fault::add(rule)) {}
    ~Fault() { sucrose::fault::remove(id_); }
    Fault(const Fault &) = delete;
    Fault &operator=(const Fault &) = delete;

private:
    std::uint64_t id_;
};

class ShortTransfers {
public:
    explicit ShortTransfers(std::size_t nbytes) { sucrose::fault::limit_transfers(nbytes); }
    ~ShortTransfers() { sucrose::fault::limit_transfers(0); }
    ShortTransfers(const ShortTransfers &) = delete;
    ShortTransfers &operator=(const ShortTransfers &) = delete;
};

EngineOptions options(const std::string &backend, std::uint64_t direct_min_nbytes) {
    return {.io_backend = backend,
            .slot_count = 4,
            .worker_count = 2,
            .io_depth = 2,
            .direct_min_nbytes = direct_min_nbytes,
            .cuda_driver = "off"};
}

void write(Engine &engine, const std::string &path, const std::vector<std::byte> &bytes) {
    const auto job = engine.write(path, in_pieces(bytes, bytes.size()), {}, {});
    wait(*job);
}

int errno_of_write(Engine &engine, const std::string &path, const std::vector<std::byte> &bytes) {
    try {
        write(engine, path, bytes);
    } catch (const sucrose::SystemError &error) {
        CHECK(error.path() == path);
        return error.error_number();
    }
    return 0;
}

bool has_uring() {
    std::string why_not;
    return sucrose::try_make_uring_backend(8, why_not) != nullptr;
}

std::vector<std::string> backends() {
    return has_uring() ? std::vector<std::string>{"threads", "io_uring"}
                       : std::vector<std::string>{"threads"};
}

} // namespace

TEST_CASE("a rule fails the calls from the n-th on, and no others") {
    CHECK_FALSE(sucrose::fault::is_armed());
    {
        const Fault rule({.site = Site::fsync, .nth = 2, .times = 2, .error_number = ENOSPC});
        CHECK(sucrose::fault::is_armed());
        CHECK(sucrose::fault::error_at(Site::open) == 0);
        CHECK(sucrose::fault::error_at(Site::fsync) == 0);
        CHECK(sucrose::fault::error_at(Site::fsync) == ENOSPC);
        CHECK(sucrose::fault::error_at(Site::fsync) == ENOSPC);
        CHECK(sucrose::fault::error_at(Site::fsync) == 0);
    }
    CHECK_FALSE(sucrose::fault::is_armed());
    CHECK(sucrose::fault::error_at(Site::fsync) == 0);
}

TEST_CASE("threads at one site get each failure once") {
    const std::uint64_t rule =
        sucrose::fault::add({.site = Site::open, .nth = 100, .times = 50, .error_number = EIO});
    std::atomic<int> failed = 0;
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 4; ++t) {
            threads.emplace_back([&] {
                for (int i = 0; i < 1000; ++i) {
                    failed += sucrose::fault::error_at(Site::open) == EIO;
                }
            });
        }
    }
    CHECK(failed == 50);
    CHECK(sucrose::fault::remove(rule) == 50);
    CHECK(sucrose::fault::remove(rule) == 0);
}

TEST_CASE("calls are counted by site, from zero each time") {
    for (int round = 0; round < 2; ++round) {
        sucrose::fault::count_calls(true);
        static_cast<void>(sucrose::fault::error_at(Site::pread));
        static_cast<void>(sucrose::fault::error_at(Site::pread));
        const std::vector<std::uint64_t> counts = sucrose::fault::counts();
        sucrose::fault::count_calls(false);
        CHECK(counts[static_cast<std::size_t>(Site::pread)] == 2);
        CHECK(counts[static_cast<std::size_t>(Site::pwrite)] == 0);
    }
    CHECK_FALSE(sucrose::fault::is_armed());
}

TEST_CASE("a limit never asks for nothing, and leaves direct transfers whole blocks") {
    CHECK(sucrose::fault::allowed_nbytes(5000, 1) == 5000);
    {
        const ShortTransfers limit(4095);
        CHECK(sucrose::fault::allowed_nbytes(5000, 1) == 4095);
        CHECK(sucrose::fault::allowed_nbytes(100, 1) == 100);
        CHECK(sucrose::fault::allowed_nbytes(16384, 4096) == 4096);
    }
    const ShortTransfers halves(sucrose::fault::half_of_each);
    CHECK(sucrose::fault::allowed_nbytes(5000, 1) == 2500);
    CHECK(sucrose::fault::allowed_nbytes(1, 1) == 1);
    CHECK(sucrose::fault::allowed_nbytes(16384, 4096) == 8192);
    CHECK(sucrose::fault::allowed_nbytes(4096, 4096) == 4096);
}

TEST_CASE("a write in short steps is the same file on each backend, direct or not") {
    const std::vector<std::byte> bytes = random_bytes(3 * sucrose::chunk_nbytes + 4097);
    for (const std::string &backend : backends()) {
        for (const std::uint64_t direct_min_nbytes : {std::uint64_t{0}, UINT64_MAX}) {
            const Folder folder;
            Engine engine(options(backend, direct_min_nbytes));
            const ShortTransfers limit(sucrose::fault::half_of_each);
            write(engine, folder.file("data"), bytes);
            CHECK(contents(folder.file("data")) == bytes);
        }
    }
}

TEST_CASE("a failing write ends the job with its errno, and the engine works on") {
    const std::vector<std::byte> bytes = random_bytes(3 * sucrose::chunk_nbytes);
    for (const std::string &backend : backends()) {
        const Folder folder;
        Engine engine(options(backend, UINT64_MAX));
        for (const int error : {EIO, ENOSPC, EDQUOT, EROFS}) {
            const Fault rule({.site = Site::pwrite, .nth = 2, .error_number = error});
            CHECK(errno_of_write(engine, folder.file(std::to_string(error)), bytes) == error);
        }
        write(engine, folder.file("whole"), bytes);
        CHECK(contents(folder.file("whole")) == bytes);
    }
}

TEST_CASE("a write that is put off goes on, and one that is put off for ever fails") {
    const std::vector<std::byte> bytes = random_bytes(sucrose::chunk_nbytes + 1);
    for (const std::string &backend : backends()) {
        const Folder folder;
        Engine engine(options(backend, UINT64_MAX));
        for (const int error : {EINTR, EAGAIN}) {
            {
                const Fault rule({.site = Site::pwrite, .times = 20, .error_number = error});
                const std::string path = folder.file("short" + std::to_string(error));
                write(engine, path, bytes);
                CHECK(contents(path) == bytes);
            }
            const Fault rule(
                {.site = Site::pwrite, .times = sucrose::fault::forever, .error_number = error});
            const std::string path = folder.file("long" + std::to_string(error));
            CHECK(errno_of_write(engine, path, bytes) == error);
        }
    }
}

TEST_CASE("completions in any order, and cancelled ones, leave the file whole") {
    if (!has_uring()) {
        return;
    }
    const std::vector<std::byte> bytes = random_bytes(9 * sucrose::chunk_nbytes + 5);
    const Folder folder;
    Engine engine(options("io_uring", 0));
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        const Fault rule(
            {.site = Site::completion, .nth = seed, .times = 2, .error_number = ECANCELED});
        sucrose::fault::shuffle_completions(seed);
        write(engine, folder.file(std::to_string(seed)), bytes);
        sucrose::fault::shuffle_completions(0);
        CHECK(contents(folder.file(std::to_string(seed))) == bytes);
    }
}

TEST_CASE(
    "where the kernel refuses submissions all of a sudden the files are written all the same") {
    if (!has_uring()) {
        return;
    }
    const std::vector<std::byte> bytes = random_bytes(9 * sucrose::chunk_nbytes + 5);
    for (const int error : {EPERM, EAGAIN}) {
        const Folder folder;
        Engine engine(options("io_uring", 0));
        {
            const Fault rule({.site = Site::submit,
                              .nth = 3,
                              .times = sucrose::fault::forever,
                              .error_number = error});
            write(engine, folder.file("refused"), bytes);
        }
        write(engine, folder.file("again"), bytes);
        CHECK(contents(folder.file("refused")) == bytes);
        CHECK(contents(folder.file("again")) == bytes);
    }
}

TEST_CASE("without memory or a thread for io_uring the reason is told") {
    if (!has_uring()) {
        return;
    }
    for (const Site site : {Site::allocate, Site::thread_start}) {
        const Fault rule({.site = site, .error_number = ENOMEM});
        std::string why_not;
        CHECK(sucrose::try_make_uring_backend(8, why_not) == nullptr);
        CHECK(why_not.find("Cannot allocate memory") != std::string::npos);
    }
}

TEST_CASE("a pool whose first slot has no memory says so, and lends later") {
    sucrose::BufferPool pool(4);
    {
        const Fault rule({.site = Site::allocate, .error_number = ENOMEM});
        CHECK_THROWS_AS(static_cast<void>(pool.try_lease()), sucrose::OutOfMemory);
    }
    const sucrose::SlotLease first = pool.try_lease();
    CHECK(first);
    const Fault rule({.site = Site::allocate, .error_number = ENOMEM});
    CHECK_FALSE(pool.try_lease()); // the one that is out comes back
}

TEST_CASE("a pool without any thread says so, and one with fewer works") {
    {
        const Fault rule({.site = Site::thread_start, .error_number = EAGAIN});
        sucrose::WorkerPool pool("test", 2);
        CHECK_THROWS_AS(pool.start(), std::system_error);
    }
    const Fault rule({.site = Site::thread_start, .nth = 2, .error_number = EAGAIN});
    std::atomic<int> done = 0;
    {
        sucrose::WorkerPool pool("test", 4);
        for (int i = 0; i < 10; ++i) {
            pool.post([&] { ++done; });
        }
    }
    CHECK(done == 10);
}

TEST_CASE("a transfer that moves less than a block again and again fails") {
    sucrose::IoRequest request{};
    request.kind = sucrose::IoRequest::Kind::write;
    request.nbytes = request.required_nbytes = 8192;
    request.alignment = 4096;
    int error = 0;
    sucrose::IoStep step = sucrose::IoStep::again;
    int steps = 0;
    for (; step == sucrose::IoStep::again; ++steps) {
        step = sucrose::advance(request, 100, error);
    }
    CHECK(step == sucrose::IoStep::failed);
    CHECK(error == EIO);
    CHECK(steps == sucrose::max_attempts_in_vain);
}

TEST_CASE("the journal has each change of a file with its bytes, and the order") {
    const Folder folder;
    const std::string path = folder.file("data");
    sucrose::journal::start();
    const int fd = sucrose::system_calls::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
    REQUIRE(fd >= 0);
    CHECK(sucrose::system_calls::pwrite(fd, "abc", 3, 5) == 3);
    {
        const Fault rule({.site = Site::fsync, .error_number = EIO});
        CHECK(sucrose::system_calls::fsync(fd) == -1);
        CHECK(errno == EIO);
    }
    CHECK(sucrose::system_calls::ftruncate(fd, 6) == 0);
    CHECK(sucrose::system_calls::fsync(fd) == 0);
    CHECK(sucrose::system_calls::close(fd) == 0);
    const std::vector<sucrose::journal::Entry> entries = sucrose::journal::stop();
    using sucrose::journal::Kind;
    std::vector<Kind> kinds;
    for (const auto &entry : entries) {
        kinds.push_back(entry.kind);
        CHECK(entry.begin < entry.end);
        CHECK(entry.inode == entries.front().inode);
    }
    CHECK(kinds == std::vector<Kind>{Kind::create, Kind::write, Kind::failed_sync, Kind::truncate,
                                     Kind::sync});
    CHECK(entries[0].path == path);
    CHECK(entries[1].bytes == "abc");
    CHECK(entries[1].offset == 5);
    CHECK(entries[3].offset == 6);
    CHECK_FALSE(sucrose::fault::is_armed());
}

TEST_CASE("close fails and the descriptor is gone all the same") {
    const Folder folder;
    const int fd = ::open(folder.file("data").c_str(), O_WRONLY | O_CREAT, 0600);
    const Fault rule({.site = Site::close, .error_number = EIO});
    CHECK(sucrose::system_calls::close(fd) == -1);
    CHECK(errno == EIO);
    CHECK(::fcntl(fd, F_GETFD) == -1);
}
