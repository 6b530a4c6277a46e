#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fake_cuda_program.h"

using namespace fake_cuda_tests;
using namespace sucrose;
using namespace sucrose::cuda;

namespace {

// One violation, whose text has that part in it.
void check_found(const FakeCuda &fake, const char *part) {
    CHECK(fake.violations() == 1);
    const std::string first = fake.first_violation();
    CAPTURE(first);
    CHECK(first.find(part) != std::string::npos);
}

} // namespace

TEST_CASE("a source that changes while its copy is pending is found") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream stream = program.stream();
    const DeviceAddress memory = program.allocate();
    PinnedBytes source(program, nbytes);
    fake.hold();
    program.must(program->cuMemcpyHtoDAsync_v2(memory, source.data(), nbytes, stream));
    source.data()[nbytes - 1] = std::byte{1};
    fake.resume();
    program.must(program->cuStreamSynchronize(stream));
    check_found(fake, "changed while a copy was pending");
    fake.reset(1, nbytes, 0, 1);
    CHECK(fake.violations() == 0);
}

TEST_CASE("a source that a copy before it in the stream writes is no violation") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream stream = program.stream();
    const DeviceAddress memory = program.allocate();
    const DeviceAddress back = program.allocate();
    PinnedBytes slot(program, nbytes);
    fake.hold();
    program.fill(stream, memory, 3);
    program.must(program->cuMemcpyDtoHAsync_v2(slot.data(), memory, nbytes, stream));
    program.must(program->cuMemcpyHtoDAsync_v2(back, slot.data(), nbytes, stream));
    program.fill(stream, memory, 4);
    program.must(program->cuMemcpyDtoHAsync_v2(slot.data(), memory, nbytes, stream));
    fake.resume();
    program.must(program->cuStreamSynchronize(stream));
    CHECK(all_are(fake.shadow_of(back), nbytes, 3));
    CHECK(all_are(slot.data(), nbytes, 4));
    CHECK(fake.violations() == 0);
}

TEST_CASE("device memory that is used after its free, or before it is there, is found") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream stream = program.stream();
    const CUstream other = program.stream();
    const DeviceAddress memory = program.allocate();
    PinnedBytes host(program, nbytes);
    DeviceAddress ordered{};
    SUBCASE("freed while a copy is pending") {
        fake.hold();
        program.must(program->cuMemcpyHtoDAsync_v2(memory, host.data(), nbytes, stream));
        program.must(program->cuMemFree_v2(memory));
        fake.resume();
        program.must(program->cuStreamSynchronize(stream));
    }
    SUBCASE("freed in the order of the stream") {
        program.must(program->cuMemAllocAsync(&ordered, nbytes, stream));
        program.must(program->cuMemcpyHtoDAsync_v2(ordered, host.data(), nbytes, stream));
        program.must(program->cuMemFreeAsync(ordered, stream));
        program.must(program->cuStreamSynchronize(stream));
        CHECK(fake.violations() == 0);
        program.must(program->cuMemcpyHtoDAsync_v2(ordered, host.data(), nbytes, stream));
        program.must(program->cuStreamSynchronize(stream));
    }
    SUBCASE("used by a stream that does not wait for its allocation") {
        fake.hold_stream(0, number(stream));
        program.must(program->cuMemAllocAsync(&ordered, nbytes, stream));
        program.must(program->cuMemcpyHtoDAsync_v2(ordered, host.data(), nbytes, other));
        program.must(program->cuStreamSynchronize(other));
        fake.resume();
    }
    check_found(fake, "cuMemcpyHtoDAsync_v2: 4096 bytes at 0x");
    CHECK(fake.first_violation().find("are not allocated") != std::string::npos);
}

TEST_CASE("a copy that leaves its allocation is found, and harms nothing") {
    const FakeCuda fake;
    const Program program(fake);
    const DeviceAddress memory = program.allocate();
    const DeviceAddress next = program.allocate();
    PinnedBytes host(program, 2 * nbytes);
    program.must(program->cuMemcpyHtoDAsync_v2(memory, host.data(), nbytes + 1, nullptr));
    program.must(program->cuStreamSynchronize(nullptr));
    check_found(fake, "leave the allocation of 4096 bytes");
    CHECK(all_are(fake.shadow_of(next), nbytes, fake_cuda_poison_fresh));
}

TEST_CASE("a kernel that is given memory of the host, or memory that was freed, is found") {
    const FakeCuda fake;
    const Program program(fake);
    const DeviceAddress target = program.allocate();
    const DeviceAddress freed = program.allocate();
    program.must(program->cuMemFree_v2(freed));
    std::vector<std::byte> pageable(nbytes);
    split_bytes_on(program, legacy, target, freed);
    program.must(program->cuStreamSynchronize(legacy));
    check_found(fake, "sucrose_split_bytes: 4096 bytes at 0x");
    split_bytes_on(program, legacy, target, DeviceAddress{number(pageable.data())});
    program.must(program->cuStreamSynchronize(legacy));
    CHECK(fake.violations() == 2);
}

TEST_CASE("memory that is freed twice is found") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream stream = program.stream();
    DeviceAddress memory = program.allocate();
    program.must(program->cuMemFree_v2(memory));
    CHECK(program->cuMemFree_v2(memory) != success);
    check_found(fake, "nothing is allocated");
    fake.hold();
    program.must(program->cuMemAllocAsync(&memory, nbytes, stream));
    program.must(program->cuMemFreeAsync(memory, stream));
    CHECK(program->cuMemFreeAsync(memory, stream) != success);
    CHECK(fake.violations() == 2);
    fake.resume();
}

TEST_CASE("memory that is unregistered with copies pending is found, and left alone") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream stream = program.stream();
    const DeviceAddress memory = program.allocate();
    std::vector<std::byte> host(nbytes);
    program.must(program->cuMemHostRegister_v2(host.data(), nbytes, host_register_portable));
    fake.hold();
    program.must(program->cuMemcpyDtoHAsync_v2(host.data(), memory, nbytes, stream));
    program.must(program->cuMemHostUnregister(host.data()));
    std::ranges::fill(host, std::byte{6}); // the program's own again
    fake.resume();
    program.must(program->cuStreamSynchronize(stream));
    CHECK(all_are(host.data(), nbytes, 6));
    check_found(fake, "are pending");
}

TEST_CASE("handles that were destroyed are found") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream stream = program.stream();
    const CUevent event = program.event();
    program.must(program->cuEventDestroy_v2(event));
    CHECK(program->cuEventRecord(event, stream) != success);
    check_found(fake, "cuEventRecord: there is no event 0x");
    program.must(program->cuStreamDestroy_v2(stream));
    CHECK(program->cuStreamDestroy_v2(stream) != success);
    CHECK(fake.violations() == 2);
}
