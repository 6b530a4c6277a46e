// The whole pipeline on the fake CUDA driver.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine.h"
#include "engine_fixture.h"
#include "fake_cuda_program.h"
#include "io/fault.h"

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
using sucrose::StridedLayout;
using sucrose::WriteJob;

constexpr std::size_t device_nbytes = std::size_t{2} << 30; // with room for staging
constexpr std::uint64_t plenty = std::uint64_t{1} << 30;

EngineOptions options(std::size_t slot_count = 4) {
    return {.slot_count = slot_count, .worker_count = 2, .cuda_driver = FAKE_CUDA_LIBRARY};
}

// A state that is spread over host and devices: its memory, and the bytes that its file must have.
class State {
public:
    explicit State(const FakeCuda &fake) : fake_(fake) {}
    State(const State &) = delete;
    State &operator=(const State &) = delete;

    void add_host(std::size_t nbytes) {
        host_.push_back(std::make_unique<std::vector<std::byte>>(random_bytes(nbytes)));
        add(nbytes, address(*host_.back()), -1);
    }
    DeviceAddress add_device(const Program &program, std::size_t nbytes) {
        const DeviceAddress tensor = allocate(program, nbytes);
        add(nbytes, number(tensor), program.device);
        return tensor;
    }
    // A matrix of 4-byte elements whose rows are its columns in memory.
    void add_transposed(const Program &program, std::int64_t rows, std::int64_t columns) {
        const auto nbytes = static_cast<std::size_t>(rows * columns * 4);
        const std::vector<std::int64_t> shape{rows, columns};
        const std::vector<std::int64_t> strides{4, rows * 4};
        layouts_.emplace_back(extents_.all().size(), StridedLayout(shape, strides, 4));
        add(nbytes, number(allocate(program, nbytes)), program.device);
        extents_.set_layout(layouts_.back().first, layouts_.back().second);
    }

    const ExtentList &extents() const { return extents_; }
    std::vector<std::byte> bytes() const {
        std::vector<std::byte> file(extents_.end());
        std::size_t next_layout = 0;
        for (std::size_t i = 0; i < extents_.all().size(); ++i) {
            const sucrose::Extent &extent = extents_.all()[i];
            const std::byte *memory =
                extent.on_host() ? extent.host() : fake_.shadow_of(extent.on_device());
            std::byte *place = file.data() + extent.offset;
            if (next_layout < layouts_.size() && layouts_[next_layout].first == i) {
                layouts_[next_layout++].second.gather(memory, 0, extent.nbytes, place);
            } else {
                std::memcpy(place, memory, extent.nbytes);
            }
        }
        return file;
    }
    void fill(int value) {
        for (const sucrose::Extent &extent : extents_.all()) {
            std::byte *memory =
                extent.on_host() ? extent.host() : fake_.shadow_of(extent.on_device());
            std::memset(memory, value, extent.nbytes);
        }
    }

private:
    DeviceAddress allocate(const Program &program, std::size_t nbytes) {
        const DeviceAddress tensor = program.allocate(nbytes);
        const std::vector<std::byte> bytes = random_bytes(nbytes);
        std::memcpy(fake_.shadow_of(tensor), bytes.data(), nbytes);
        return tensor;
    }
    void add(std::size_t nbytes, std::uint64_t at, int device) {
        extents_.append(extents_.end(), nbytes, at);
        if (device >= 0) {
            extents_.set_device(extents_.all().size() - 1, device);
        }
    }

    const FakeCuda &fake_;
    ExtentList extents_;
    std::vector<std::unique_ptr<std::vector<std::byte>>> host_;
    std::vector<std::pair<std::size_t, StridedLayout>> layouts_;
};

// Large and small tensors, strided ones, and host memory between.
void add_mixture(State &state, const Program &program) {
    state.add_host(4096);
    state.add_device(program, 2 * chunk_nbytes + 17);
    for (std::size_t i = 0; i < 300; ++i) {
        state.add_device(program, 1 + 97 * i);
    }
    state.add_host(12345);
    state.add_transposed(program, 300, 700);
    state.add_device(program, chunk_nbytes / 2);
    state.add_transposed(program, 1025, 33);
}

std::vector<std::byte> written(Engine &engine, const State &state, const std::string &path,
                               const WriteJob::Options &how = {.durable = false}) {
    auto job = engine.write(path, state.extents(), {}, how);
    wait(*job);
    return contents(path);
}

void read_back(Engine &engine, const State &state, const std::string &path,
               const std::vector<sucrose::Digest> &digests,
               const std::vector<CallerStream> &streams = {}) {
    ReadJob::Options how;
    how.file_nbytes = state.extents().end();
    how.digests = digests;
    auto job = engine.read(path, state.extents(), streams, how);
    wait(*job);
    REQUIRE(job->corrupt().empty());
}

// All that the driver still keeps for the engine.
unsigned long long left(const FakeCuda &fake) {
    const fake_cuda_stats_t stats = fake.stats();
    return stats.streams + stats.events + stats.modules + stats.registrations +
           stats.contexts_retained - 1; // the program's
}

// What is destroyed goes when it is over; `allowed` is what cannot go since its release failed.
void check_nothing_left(const FakeCuda &fake, unsigned long long allowed = 0) {
    for (int i = 0; i < 5000 && left(fake) > allowed; ++i) {
        std::this_thread::sleep_for(1ms);
    }
    CHECK(left(fake) <= allowed);
}

} // namespace

TEST_CASE("tensors on a device are written and read like those in host memory") {
    const Folder folder;
    for (const unsigned max_delay_us : {0U, 400U}) {
        for (const bool kernels : {true, false}) {
            CAPTURE(max_delay_us);
            CAPTURE(kernels);
            const FakeCuda fake(1, device_nbytes, max_delay_us, 3);
            const Program program(fake);
            State state(fake);
            add_mixture(state, program);
            const std::vector<std::byte> before = state.bytes();
            if (!kernels) {
                fake.fail("cuModuleLoadData", 1, 209, 1);
            }
            {
                Engine engine(options());
                const std::string path =
                    folder.file(std::to_string(max_delay_us) + (kernels ? "with" : "without"));
                auto job = engine.write(path, state.extents(), {}, {.durable = false});
                wait(*job);
                REQUIRE(contents(path) == before);
                state.fill(0x11);
                read_back(engine, state, path, job->digests());
                REQUIRE(state.bytes() == before);
                CHECK(engine.cuda_fallbacks().empty() == kernels);
                CHECK((fake.stats().kernels > 0) == kernels);
            }
            CHECK(fake.violations() == 0);
            CHECK(fake.first_violation() == "");
            CHECK(fake.stats().copies_pageable == 0);
            check_nothing_left(fake);
        }
    }
}

TEST_CASE("cold and direct reads reach devices, too") {
    const Folder folder;
    for (const char *mode : {"buffered", "direct"}) {
        const FakeCuda fake(1, device_nbytes, 200, 5);
        const Program program(fake);
        State state(fake);
        add_mixture(state, program);
        const std::vector<std::byte> before = state.bytes();
        EngineOptions how = options();
        how.read_mode = mode;
        Engine engine(how);
        auto job = engine.write(folder.file(mode), state.extents(), {}, {.durable = false});
        wait(*job);
        for (const bool checked : {true, false}) {
            state.fill(0x22);
            read_back(engine, state, folder.file(mode),
                      checked ? job->digests() : std::vector<sucrose::Digest>());
            CHECK(state.bytes() == before);
        }
        CHECK(fake.violations() == 0);
    }
}

TEST_CASE("several devices take part in one file") {
    const Folder folder;
    const FakeCuda fake(3, device_nbytes, 300, 9);
    const Program zero(fake, 0);
    const Program two(fake, 2);
    State state(fake);
    for (int i = 0; i < 40; ++i) {
        state.add_device(i % 2 == 0 ? zero : two, 100000 + static_cast<std::size_t>(i));
        state.add_host(50);
    }
    state.add_device(zero, 2 * chunk_nbytes);
    state.add_device(two, 2 * chunk_nbytes);
    const std::vector<std::byte> before = state.bytes();
    Engine engine(options());
    for (const Staging staging : {Staging::none, Staging::host, Staging::device}) {
        const std::string path = folder.file(std::to_string(static_cast<int>(staging)));
        auto job = engine.write(path, state.extents(), {},
                                {.durable = false, .staging = staging, .staging_nbytes = plenty});
        wait(*job);
        CHECK(contents(path) == before);
        state.fill(0x33);
        read_back(engine, state, path, job->digests());
        CHECK(state.bytes() == before);
    }
    CHECK(fake.violations() == 0);
}

TEST_CASE("a write comes after what the caller's stream has pending, and does not wait for it") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes, 100, 11);
    const Program program(fake);
    const sucrose::cuda::CUstream side = program.stream();
    const std::vector<std::uint64_t> handles{0, 1, 2, number(side)};
    for (const Staging staging : {Staging::none, Staging::host, Staging::device}) {
        for (const std::uint64_t handle : handles) {
            CAPTURE(handle);
            State state(fake);
            const DeviceAddress tensor = state.add_device(program, 3 * chunk_nbytes);
            Engine engine(options());
            fake.fill_later(0, handle, number(tensor), 0x5A, 3 * chunk_nbytes, 20000);
            const std::vector<CallerStream> streams{
                {0, reinterpret_cast<sucrose::cuda::CUstream>(handle)}};
            const std::string path = folder.file(std::to_string(handle) + "-" +
                                                 std::to_string(static_cast<int>(staging)));
            auto job =
                engine.write(path, state.extents(), streams,
                             {.durable = false, .staging = staging, .staging_nbytes = plenty});
            wait(*job);
            const std::vector<std::byte> file = contents(path);
            CHECK(std::count(file.begin(), file.end(), std::byte{0x5A}) ==
                  static_cast<std::ptrdiff_t>(file.size()));
        }
    }
    CHECK(fake.violations() == 0);
}

TEST_CASE("a read comes after what the caller's stream has pending on its targets") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes, 100, 13);
    const Program program(fake);
    State state(fake);
    const DeviceAddress tensor = state.add_device(program, 2 * chunk_nbytes);
    const std::vector<std::byte> before = state.bytes();
    Engine engine(options());
    auto job = engine.write(folder.file("file"), state.extents(), {}, {.durable = false});
    wait(*job);
    fake.fill_later(0, 0, number(tensor), 0x77, 2 * chunk_nbytes, 30000);
    read_back(engine, state, folder.file("file"), job->digests());
    CHECK(state.bytes() == before);
}

TEST_CASE("staged on the device, a write is safe while the device has not even begun") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes);
    const Program program(fake);
    State state(fake);
    add_mixture(state, program);
    const DeviceAddress last = state.add_device(program, 3 * chunk_nbytes);
    const std::vector<std::byte> before = state.bytes();
    Engine engine(options());
    written(engine, state, folder.file("warm"), // kernels and lanes are there after this
            {.durable = false, .staging = Staging::automatic, .staging_nbytes = plenty});
    fake.hold();
    auto job =
        engine.write(folder.file("file"), state.extents(), {},
                     {.durable = false, .staging = Staging::automatic, .staging_nbytes = plenty});
    while (!job->wait_safe(100ms)) { // no device needed for this
    }
    CHECK(job->staged() == Staged::on_device);
    CHECK_FALSE(job->wait_staged(0ms));
    // The program goes on: with its own stream, which comes after the copy.
    fake.fill_later(0, 0, number(last), 0x66, 3 * chunk_nbytes, 0);
    fake.resume();
    while (!job->wait_staged(100ms)) {
    }
    program.must(program->cuStreamSynchronize(nullptr));
    program.must(program->cuMemFree_v2(last)); // and may free what it likes
    wait(*job);
    CHECK(contents(folder.file("file")) == before);
    CHECK(fake.violations() == 0);
    CHECK(fake.first_violation() == "");
}

TEST_CASE("staging leaves the program its device memory, and goes to the host instead") {
    const Folder folder;
    const std::size_t state_nbytes = std::size_t{8} * chunk_nbytes;
    for (const std::size_t room : {std::size_t{0}, std::size_t{600} << 20}) {
        const FakeCuda fake(1, state_nbytes + room);
        const Program program(fake);
        State state(fake);
        const DeviceAddress tensor = state.add_device(program, state_nbytes);
        const std::vector<std::byte> before = state.bytes();
        Engine engine(options());
        auto job = engine.write(
            folder.file(std::to_string(room)), state.extents(), {},
            {.durable = false, .staging = Staging::automatic, .staging_nbytes = plenty});
        while (!job->wait_safe(100ms)) {
        }
        CHECK(job->staged() == (room == 0 ? Staged::on_host : Staged::on_device));
        fake.fill_later(0, 0, number(tensor), 0x12, state_nbytes, 0);
        wait(*job);
        CHECK(contents(folder.file(std::to_string(room))) == before);
        CHECK(fake.violations() == 0);
    }
}

TEST_CASE("a device that refuses to allocate is no error: staging goes to the host") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes);
    const Program program(fake);
    State state(fake);
    state.add_device(program, 2 * chunk_nbytes);
    const std::vector<std::byte> before = state.bytes();
    Engine engine(options());
    fake.fail("cuMemAllocAsync", 1, sucrose::cuda::error_out_of_memory, 1);
    auto job =
        engine.write(folder.file("file"), state.extents(), {},
                     {.durable = false, .staging = Staging::automatic, .staging_nbytes = plenty});
    wait(*job);
    CHECK(job->staged() == Staged::on_host);
    CHECK(contents(folder.file("file")) == before);
}

TEST_CASE("drivers without allocation in stream order stage on the device all the same") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes, 100, 17);
    const Program program(fake);
    State state(fake);
    add_mixture(state, program);
    const std::vector<std::byte> before = state.bytes();
    fake.fail("cuMemAllocAsync", 1, sucrose::cuda::error_not_supported, 1);
    Engine engine(options());
    auto job =
        engine.write(folder.file("file"), state.extents(), {},
                     {.durable = false, .staging = Staging::device, .staging_nbytes = plenty});
    wait(*job);
    CHECK(job->staged() == Staged::on_device);
    CHECK(contents(folder.file("file")) == before);
    CHECK(fake.violations() == 0);
}

TEST_CASE("memory that cannot be pinned is used as it is, and the reason is told") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes, 50, 19);
    const Program program(fake);
    State state(fake);
    add_mixture(state, program);
    const std::vector<std::byte> before = state.bytes();
    fake.fail("cuMemHostRegister_v2", 1, sucrose::cuda::error_out_of_memory, 1);
    Engine engine(options());
    auto job = engine.write(folder.file("file"), state.extents(), {}, {.durable = false});
    wait(*job);
    CHECK(contents(folder.file("file")) == before);
    state.fill(0x44);
    read_back(engine, state, folder.file("file"), job->digests());
    CHECK(state.bytes() == before);
    CHECK(fake.stats().copies_pageable > 0);
    REQUIRE(engine.cuda_fallbacks().size() == 2);
    CHECK(engine.cuda_fallbacks()[0].first == "kernels on device 0"); // they read pinned memory
    CHECK(engine.cuda_fallbacks()[1].first == "pinned memory on device 0");
    CHECK(fake.violations() == 0);
}

TEST_CASE("each slot is pinned once, and only those that are used") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes);
    const Program program(fake);
    State state(fake);
    state.add_device(program, 6 * chunk_nbytes);
    Engine engine(options(4));
    for (int i = 0; i < 5; ++i) {
        written(engine, state, folder.file(std::to_string(i)));
    }
    CHECK(fake.stats().registrations <= 4);
    CHECK(fake.stats().registered_nbytes <= 4 * chunk_nbytes);
}

TEST_CASE("whichever call of the driver fails, the file is right or the job says what failed") {
    const Folder folder;
    int failures = 0;
    int successes = 0;
    for (const Staging staging : {Staging::none, Staging::device}) {
        bool reached = true;
        for (unsigned nth = 1; reached; nth += 1 + nth / 8) {
            CAPTURE(nth);
            const FakeCuda fake(1, device_nbytes, 20, nth);
            const Program program(fake);
            State state(fake);
            state.add_host(100);
            state.add_device(program, chunk_nbytes + 5);
            for (std::size_t i = 0; i < 20; ++i) {
                state.add_device(program, 500 + i);
            }
            const std::vector<std::byte> before = state.bytes();
            const std::string path =
                folder.file(std::to_string(nth) + "-" + std::to_string(static_cast<int>(staging)));
            {
                Engine engine(options(2));
                const int calls_before = fake.call_count("*");
                fake.fail("*", nth, 999, 0);
                try {
                    auto job = engine.write(
                        path, state.extents(), {},
                        {.durable = false, .staging = staging, .staging_nbytes = plenty});
                    wait(*job);
                    CHECK(contents(path) == before);
                    ++successes;
                } catch (const sucrose::Error &error) {
                    CHECK(std::string(error.what()).find("CUDA") != std::string::npos);
                    ++failures;
                }
                reached = fake.call_count("*") - calls_before >= static_cast<int>(nth);
                fake.clear_failures();
                CHECK(written(engine, state, path + "-again") == before);
            }
            CHECK(fake.violations() == 0);
            CHECK(fake.first_violation() == "");
            check_nothing_left(fake, 1);
        }
    }
    CHECK(failures > 10);
    CHECK(successes > 5);
}

TEST_CASE("a device that breaks down ends every job with its error") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes, 100, 23);
    const Program program(fake);
    State state(fake);
    state.add_device(program, 20 * chunk_nbytes);
    Engine engine(options(3));
    auto job = engine.write(folder.file("file"), state.extents(), {}, {.durable = false});
    fake.fail("cuEventSynchronize", 2, sucrose::cuda::error_deinitialized, 1);
    CHECK_THROWS_AS(wait(*job), sucrose::CudaFailure);
    fake.clear_failures();
}

TEST_CASE("there is no device of that number") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes);
    Engine engine(options());
    CHECK(engine.reaches_device(0));
    CHECK_FALSE(engine.reaches_device(1));
    CHECK_FALSE(engine.reaches_device(-1));
    ExtentList extents;
    extents.append(0, 10, 1234);
    extents.set_device(0, 1);
    CHECK_THROWS_AS(engine.write(folder.file("file"), extents, {}, {}), sucrose::Error);
    Engine off({.cuda_driver = "off"});
    CHECK_FALSE(off.reaches_device(0));
}

TEST_CASE("a copy that fails at its fault site ends its job alone, and leaves nothing behind") {
    const Folder folder;
    const FakeCuda fake(1, device_nbytes, 200, 9);
    const Program program(fake);
    State state(fake);
    add_mixture(state, program);
    const std::vector<std::byte> before = state.bytes();
    {
        Engine engine(options());
        using sucrose::fault::Site;
        std::uint64_t rule = sucrose::fault::add({.site = Site::d2h, .nth = 2});
        CHECK_THROWS_AS(written(engine, state, folder.file("failed")), sucrose::CudaFailure);
        CHECK(sucrose::fault::remove(rule) == 1);
        const std::string path = folder.file("whole");
        CHECK(written(engine, state, path) == before);
        state.fill(0x11);
        rule = sucrose::fault::add({.site = Site::h2d, .nth = 2});
        CHECK_THROWS_AS(read_back(engine, state, path, {}), sucrose::CudaFailure);
        CHECK(sucrose::fault::remove(rule) == 1);
        read_back(engine, state, path, {});
        CHECK(state.bytes() == before);
    }
    CHECK(fake.violations() == 0);
    check_nothing_left(fake);
}
