// What must hold around the engine's work on devices: when jobs end, who waits for whom, and what
// is left.
#include <doctest/doctest.h>
#include <pthread.h>

#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "engine.h"
#include "engine_fixture.h"
#include "fake_cuda_program.h"

namespace {

using namespace engine_fixture;
using namespace std::chrono_literals;
using fake_cuda_tests::number;
using fake_cuda_tests::Program;
using sucrose::CallerStream;
using sucrose::chunk_nbytes;
using sucrose::DeviceAddress;
using sucrose::Engine;
using sucrose::EngineOptions;
using sucrose::ExtentList;
using sucrose::ReadJob;
using sucrose::Staged;
using sucrose::Staging;
using sucrose::WriteJob;

constexpr std::size_t device_nbytes = std::size_t{2} << 30; // with room for staging
constexpr std::uint64_t plenty = std::uint64_t{1} << 30;

EngineOptions options(std::size_t slot_count = 4) {
    return {.slot_count = slot_count, .worker_count = 2, .cuda_driver = FAKE_CUDA_LIBRARY};
}

WriteJob::Options staged(Staging staging) {
    return {.durable = false, .staging = staging, .staging_nbytes = plenty};
}

// One tensor of random bytes for each size, side by side in a file.
struct Tensors {
    Tensors(const FakeCuda &fake, const Program &program, const std::vector<std::size_t> &sizes) {
        for (const std::size_t size : sizes) {
            const DeviceAddress tensor = size == 0 ? DeviceAddress{} : program.allocate(size);
            const std::vector<std::byte> content = random_bytes(size);
            if (size != 0) {
                std::memcpy(fake.shadow_of(tensor), content.data(), size);
            }
            bytes.insert(bytes.end(), content.begin(), content.end());
            extents.append(extents.end(), size, number(tensor));
            extents.set_device(extents.all().size() - 1, program.device);
            addresses.push_back(tensor);
        }
    }

    ExtentList extents;
    std::vector<DeviceAddress> addresses;
    std::vector<std::byte> bytes;
};

// While it lives, no thread can be started.
class NoThreads {
public:
    NoThreads() {
        pthread_attr_init(&usual_);
        pthread_getattr_default_np(&usual_);
        pthread_attr_t hungry;
        pthread_attr_init(&hungry);
        pthread_attr_setstacksize(&hungry, std::size_t{1} << 50);
        REQUIRE(pthread_setattr_default_np(&hungry) == 0);
        pthread_attr_destroy(&hungry);
    }
    ~NoThreads() {
        pthread_setattr_default_np(&usual_);
        pthread_attr_destroy(&usual_);
    }
    NoThreads(const NoThreads &) = delete;
    NoThreads &operator=(const NoThreads &) = delete;

private:
    pthread_attr_t usual_;
};

} // namespace

TEST_CASE("a cancelled write that was being staged on the device ends when its copy has") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes);
    const Program program(fake);
    const Tensors tensors(fake, program, {2 * chunk_nbytes});
    Engine engine(options(1));
    fake.hold();
    auto before = engine.write(folder.file("before"), tensors.extents, {}, {.durable = false});
    auto job = engine.write(folder.file("file"), tensors.extents, {}, staged(Staging::device));
    job->cancel();
    CHECK_FALSE(job->wait_for(50ms));
    CHECK_FALSE(job->wait_staged(0ms));
    fake.resume();
    CHECK_THROWS_AS(wait(*job), sucrose::Cancelled);
    wait(*before);
    program.must(program->cuMemFree_v2(tensors.addresses[0])); // as the caller may do now
    CHECK(fake.violations() == 0);
    CHECK(fake.first_violation() == "");
}

TEST_CASE("staging many files on a device does not wait for what its stream has pending") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes);
    const Program program(fake);
    const Tensors large(fake, program, {chunk_nbytes, chunk_nbytes});
    const Tensors small(fake, program, std::vector<std::size_t>(10, 1000));
    Engine engine(options());
    fake.hold();
    auto submitted = std::async(std::launch::async, [&] {
        std::vector<std::shared_ptr<WriteJob>> jobs;
        for (int i = 0; i < 12; ++i) { // lanes and kernels come to be while the device is busy
            jobs.push_back(engine.write(folder.file(std::to_string(i)),
                                        i == 0 ? large.extents : small.extents, {},
                                        staged(Staging::device)));
        }
        return jobs;
    });
    const bool returned = submitted.wait_for(20s) == std::future_status::ready;
    fake.resume();
    CHECK(returned);
    const auto jobs = submitted.get();
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        CHECK(jobs[i]->staged() == Staged::on_device);
        wait(*jobs[i]);
        CHECK(contents(folder.file(std::to_string(i))) == (i == 0 ? large : small).bytes);
    }
    CHECK(fake.violations() == 0);
    CHECK(fake.first_violation() == "");
}

TEST_CASE("an empty tensor on another device does not keep the others from being staged there") {
    const Folder folder;
    const FakeCuda fake(2, device_nbytes);
    const Program one(fake, 1);
    const Program zero(fake, 0);
    const Tensors tensors(fake, zero, {chunk_nbytes, 0, 500});
    ExtentList extents = tensors.extents;
    extents.set_device(1, 1);
    Engine engine(options());
    auto job = engine.write(folder.file("file"), extents, {}, staged(Staging::automatic));
    wait(*job);
    CHECK(job->staged() == Staged::on_device);
    CHECK(contents(folder.file("file")) == tensors.bytes);
    CHECK(fake.violations() == 0);
}

TEST_CASE("an engine leaves nothing on the device, whichever thread ends it") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes, 100, 29);
    const Program program(fake);
    const Tensors tensors(fake, program, std::vector<std::size_t>(10, 1000));
    auto engine = std::make_unique<Engine>(options());
    wait(*engine->write(folder.file("file"), tensors.extents, {}, staged(Staging::device)));
    CHECK(fake.stats().modules == 1);
    std::thread([&] { engine.reset(); }).join(); // has no context of its own
    CHECK(fake.stats().modules == 0);
    CHECK(fake.stats().registrations == 0);
    CHECK(fake.violations() == 0);
}

TEST_CASE("a program may capture graphs while its state is being written") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes);
    const Program program(fake);
    const sucrose::cuda::CUstream graph = program.stream();
    std::vector<std::size_t> sizes(50, 3000);
    sizes.push_back(3 * chunk_nbytes);
    const Tensors tensors(fake, program, sizes);
    for (const Staging staging : {Staging::none, Staging::host, Staging::device}) {
        Engine engine(options());
        const std::string path = folder.file(std::to_string(static_cast<int>(staging)));
        fake.hold();
        auto job = engine.write(path, tensors.extents, {}, staged(staging));
        fake.begin_capture(0, number(graph));
        fake.resume();
        wait(*job);
        CHECK(contents(path) == tensors.bytes);
        const std::vector<CallerStream> captured{{0, graph}};
        CHECK_THROWS_AS(engine.write(path + "-captured", tensors.extents, captured, {}),
                        sucrose::CudaFailure);
        fake.end_capture();
    }
    CHECK(fake.violations() == 0);
    CHECK(fake.first_violation() == "");
}

TEST_CASE("a process that can start no threads is told, and may try again") {
    const Folder folder;
    const std::vector<std::byte> source = random_bytes(1000);
    Engine engine({.slot_count = 1, .worker_count = 2});
    {
        const NoThreads none;
        CHECK_THROWS_AS(
            engine.write(folder.file("first"), in_pieces(source, 1000), {}, {.durable = false}),
            std::system_error);
    }
    wait(*engine.write(folder.file("second"), in_pieces(source, 1000), {}, {.durable = false}));
    CHECK(contents(folder.file("second")) == source);
}

TEST_CASE("a copy that nobody could wait for is over when its job fails") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes, 20000, 31);
    const Program program(fake);
    std::vector<sucrose::cuda::CUstream> streams; // the fake keeps a thread for each
    for (int i = 0; i < 8; ++i) {
        streams.push_back(program.stream());
    }
    for (const auto stream : streams) {
        program.must(program->cuStreamDestroy_v2(stream));
    }
    const Tensors tensors(fake, program, {chunk_nbytes});
    {
        Engine engine(options());
        wait(*engine.write(folder.file("warm"), in_pieces(tensors.bytes, chunk_nbytes), {},
                           {.durable = false}));
        const NoThreads none;
        auto job = engine.write(folder.file("file"), tensors.extents, {}, {.durable = false});
        CHECK_THROWS_AS(wait(*job), std::system_error);
    }
    CHECK(fake.violations() == 0);
    CHECK(fake.first_violation() == "");
}

TEST_CASE("an engine may end right behind its last read to a device") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes);
    const Program program(fake);
    const Tensors tensors(fake, program, {100});
    {
        Engine engine(options());
        wait(*engine.write(folder.file("file"), tensors.extents, {}, {.durable = false}));
    }
    for (int i = 0; i < 200; ++i) {
        Engine engine(options());
        ReadJob::Options how;
        how.file_nbytes = tensors.extents.end();
        wait(*engine.read(folder.file("file"), tensors.extents, {}, how));
    }
    CHECK(fake.violations() == 0);
}
