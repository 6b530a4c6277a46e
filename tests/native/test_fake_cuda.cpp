#include <doctest/doctest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "fake_cuda_program.h"

using namespace fake_cuda_tests;
using namespace sucrose;
using namespace sucrose::cuda;

namespace {

constexpr CUresult invalid_value = 1;
constexpr CUresult invalid_context = 201;
constexpr CUresult invalid_handle = 400;
constexpr CUresult not_found = 500;
constexpr CUresult already_registered = 712;
constexpr CUresult not_registered = 713;

} // namespace

TEST_CASE("the core opens the fake, and is told why where it cannot be initialized") {
    const FakeCuda fake(2);
    CHECK(fake.open()->device_count() == 2);
    fake.fail("cuInit", 1, 999, 0);
    std::string why_not;
    CHECK(CudaDriver::open(FAKE_CUDA_LIBRARY, why_not) == nullptr);
    CHECK(why_not == "cuInit: CUDA_ERROR_UNKNOWN (unknown error)");
    fake.reset(0, nbytes, 0, 1);
    CHECK(CudaDriver::open(FAKE_CUDA_LIBRARY, why_not) == nullptr);
    CHECK(why_not == "cuInit: CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)");
}

TEST_CASE("bytes come back from the device as they went there") {
    for (const unsigned max_delay_us : {0U, 300U}) {
        const FakeCuda fake(1, 1 << 20, max_delay_us, 7);
        const Program program(fake);
        const CUstream stream = program.stream();
        const DeviceAddress first = program.allocate();
        const DeviceAddress second = program.allocate();
        CHECK(all_are(fake.shadow_of(first), nbytes, fake_cuda_poison_fresh));
        CHECK(fake.device_address(fake.shadow_of(first)) == number(first));
        PinnedBytes source(program, nbytes);
        PinnedBytes target(program, nbytes);
        for (std::size_t i = 0; i < nbytes; ++i) {
            source.data()[i] = std::byte(i * 7 % 251);
        }
        program.must(program->cuMemcpyHtoDAsync_v2(first, source.data(), nbytes, stream));
        program.must(program->cuMemcpyDtoDAsync_v2(second, first, nbytes, stream));
        program.must(program->cuMemcpyDtoHAsync_v2(target.data(), second, nbytes, stream));
        program.must(program->cuStreamSynchronize(stream));
        CHECK(target.bytes == source.bytes);
        CHECK(fake.stats().copies_h2d == 1);
        CHECK(fake.stats().copies_d2d == 1);
        CHECK(fake.stats().nbytes_d2h == nbytes);
        CHECK(fake.stats().copies_pageable == 0);
        CHECK(fake.violations() == 0);
    }
}

TEST_CASE("whoever does not wait for a copy reads poison") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream stream = program.stream();
    const DeviceAddress memory = program.allocate();
    PinnedBytes target(program, nbytes);
    program.fill(stream, memory, 5);
    fake.hold();
    program.must(program->cuMemcpyDtoHAsync_v2(target.data(), memory, nbytes, stream));
    CHECK(all_are(target.data(), nbytes, fake_cuda_poison_pending));
    fake.resume();
    program.must(program->cuStreamSynchronize(stream));
    CHECK(all_are(target.data(), nbytes, 5));
}

TEST_CASE("an event carries what was on its stream when it was recorded, and no more") {
    const FakeCuda fake(1, 1 << 20, 200, 3);
    const Program program(fake);
    const CUstream producer = program.stream();
    const CUstream consumer = program.stream();
    const CUevent produced = program.event();
    const CUevent consumed = program.event();
    const DeviceAddress memory = program.allocate();
    PinnedBytes target(program, nbytes);
    program.fill(producer, memory, 1, 2000);
    program.must(program->cuEventRecord(produced, producer));
    program.must(program->cuStreamWaitEvent(consumer, produced, 0));
    program.must(program->cuMemcpyDtoHAsync_v2(target.data(), memory, nbytes, consumer));
    program.must(program->cuEventRecord(consumed, consumer));
    // Were this behind `produced` as well, nothing would ever run.
    program.must(program->cuStreamWaitEvent(producer, consumed, 0));
    program.fill(producer, memory, 2);
    program.must(program->cuEventDestroy_v2(consumed)); // legal while a stream waits for it
    program.must(program->cuEventSynchronize(produced));
    CHECK(fake.shadow_of(memory)[0] != std::byte{fake_cuda_poison_fresh});
    program.must(program->cuStreamSynchronize(producer));
    CHECK(all_are(fake.shadow_of(memory), nbytes, 2));
    CHECK(all_are(target.data(), nbytes, 1));
    CHECK(fake.violations() == 0);
}

TEST_CASE("recording an event again replaces what it carried, and one never recorded is no wait") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream stream = program.stream();
    const CUstream other = program.stream();
    const CUevent event = program.event();
    const DeviceAddress memory = program.allocate();
    program.must(program->cuEventSynchronize(event));
    program.must(program->cuStreamWaitEvent(other, event, 0));
    program.must(program->cuStreamSynchronize(other));
    fake.hold();
    program.must(program->cuEventRecord(event, other));
    program.fill(stream, memory, 1, 5000);
    program.must(program->cuEventRecord(event, stream));
    fake.resume();
    program.must(program->cuEventSynchronize(event));
    CHECK(all_are(fake.shadow_of(memory), nbytes, 1));
}

TEST_CASE("a stream that is destroyed with work pending still does it") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream stream = program.stream();
    const CUevent event = program.event();
    const DeviceAddress memory = program.allocate();
    program.fill(stream, memory, 1, 5000);
    program.must(program->cuEventRecord(event, stream));
    program.must(program->cuStreamDestroy_v2(stream));
    CHECK(fake.stats().streams == 0);
    CHECK(program->cuStreamSynchronize(stream) == invalid_handle);
    CHECK(fake.violations() == 1);
    program.must(program->cuEventSynchronize(event));
    CHECK(all_are(fake.shadow_of(memory), nbytes, 1));
}

TEST_CASE("the legacy default stream and blocking streams wait for each other") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream blocking = program.stream(0);
    const DeviceAddress memory = program.allocate();
    const DeviceAddress copied = program.allocate();
    const auto copy_behind_fill = [&](CUstream fills, CUstream copies) {
        program.fill(fills, memory, 1, 5000);
        program.must(program->cuMemcpyDtoDAsync_v2(copied, memory, nbytes, copies));
        program.must(program->cuStreamSynchronize(copies));
        CHECK(all_are(fake.shadow_of(copied), nbytes, 1));
    };
    SUBCASE("legacy behind blocking") {
        copy_behind_fill(blocking, legacy);
    }
    SUBCASE("legacy behind a thread's own") {
        copy_behind_fill(per_thread, also_legacy);
    }
    SUBCASE("blocking behind legacy") {
        copy_behind_fill(legacy, blocking);
    }
    SUBCASE("another thread's own behind legacy") {
        program.fill(also_legacy, memory, 1, 5000);
        std::thread([&] {
            program.must(program->cuCtxPushCurrent_v2(program.context));
            program.must(program->cuMemcpyDtoDAsync_v2(copied, memory, nbytes, per_thread));
            program.must(program->cuStreamSynchronize(per_thread));
        }).join();
        CHECK(all_are(fake.shadow_of(copied), nbytes, 1));
    }
}

TEST_CASE("streams that nothing orders do not wait for each other") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream non_blocking = program.stream();
    const CUstream blocking = program.stream(0);
    const DeviceAddress memory = program.allocate();
    const DeviceAddress copied = program.allocate();
    const auto copy_beside_fill = [&](CUstream fills, CUstream copies) {
        fake.hold_stream(0, number(fills));
        program.fill(fills, memory, 1);
        program.must(program->cuMemcpyDtoDAsync_v2(copied, memory, nbytes, copies));
        program.must(program->cuStreamSynchronize(copies));
        CHECK(all_are(fake.shadow_of(copied), nbytes, fake_cuda_poison_fresh));
        fake.resume();
        program.must(program->cuStreamSynchronize(fills));
        CHECK(all_are(fake.shadow_of(memory), nbytes, 1));
    };
    SUBCASE("non-blocking beside legacy") {
        copy_beside_fill(legacy, non_blocking);
    }
    SUBCASE("legacy beside non-blocking") {
        copy_beside_fill(non_blocking, legacy);
    }
    SUBCASE("blocking beside non-blocking") {
        copy_beside_fill(non_blocking, blocking);
    }
    SUBCASE("blocking beside a thread's own") {
        copy_beside_fill(per_thread, blocking);
    }
}

TEST_CASE("copies of memory that is not registered are done on return") {
    const FakeCuda fake(1, 1 << 20, 2000, 5);
    const Program program(fake);
    const CUstream stream = program.stream();
    const DeviceAddress memory = program.allocate();
    std::vector<std::byte> pageable(nbytes, std::byte{9});
    program.must(program->cuMemcpyHtoDAsync_v2(memory, pageable.data(), nbytes, stream));
    CHECK(all_are(fake.shadow_of(memory), nbytes, 9));
    std::ranges::fill(pageable, std::byte{0});
    program.must(program->cuMemcpyDtoHAsync_v2(pageable.data(), memory, nbytes, stream));
    CHECK(all_are(pageable.data(), nbytes, 9));
    CHECK(fake.stats().copies_pageable == 2);
    CHECK(fake.violations() == 0);
}

TEST_CASE("a two-dimensional copy moves rows and leaves what is between them") {
    const FakeCuda fake;
    const Program program(fake);
    const CUstream stream = program.stream();
    const DeviceAddress memory = program.allocate();
    PinnedBytes host(program, nbytes);
    std::ranges::fill(host.bytes, std::byte{1});
    program.fill(stream, memory, 7);
    Memcpy2D copy;
    copy.src_memory_type = memory_type_device;
    copy.src_device = memory;
    copy.src_pitch = 100;
    copy.dst_memory_type = memory_type_host;
    copy.dst_host = host.data();
    copy.dst_x_nbytes = 4;
    copy.dst_y = 1;
    copy.dst_pitch = 64;
    copy.width_nbytes = 10;
    copy.height = 3;
    program.must(program->cuMemcpy2DAsync_v2(&copy, stream));
    program.must(program->cuStreamSynchronize(stream));
    for (std::size_t i = 0; i < nbytes; ++i) {
        const bool in_row = i / 64 >= 1 && i / 64 <= 3 && i % 64 >= 4 && i % 64 < 14;
        REQUIRE(host.bytes[i] == std::byte(in_row ? 7 : 1));
    }
    CHECK(fake.stats().copies_2d == 1);
    CHECK(fake.stats().nbytes_d2h == 30);
    copy.src_pitch = 9;
    CHECK(program->cuMemcpy2DAsync_v2(&copy, stream) == invalid_value);
}

TEST_CASE("a full device refuses, and has room again once memory was freed") {
    const FakeCuda fake(1, 4 * nbytes);
    const Program program(fake);
    const CUstream stream = program.stream();
    std::size_t free_nbytes = 0;
    std::size_t total_nbytes = 0;
    const DeviceAddress first = program.allocate(3 * nbytes);
    DeviceAddress second{};
    CHECK(program->cuMemAlloc_v2(&second, 2 * nbytes) == error_out_of_memory);
    CHECK(program->cuMemAllocAsync(&second, 2 * nbytes, stream) == error_out_of_memory);
    program.must(program->cuMemGetInfo_v2(&free_nbytes, &total_nbytes));
    CHECK(free_nbytes == nbytes);
    CHECK(total_nbytes == 4 * nbytes);
    program.must(program->cuMemFree_v2(first));
    CHECK(all_are(fake.shadow_of(first), nbytes, fake_cuda_poison_freed));
    program.must(program->cuMemAllocAsync(&second, 4 * nbytes, stream));
    program.must(program->cuMemFreeAsync(second, stream));
    // The free is pending, but nothing that this could fail for will stay.
    program.must(program->cuMemAllocAsync(&second, 4 * nbytes, stream));
    CHECK(fake.stats().allocations == 1);
    CHECK(fake.violations() == 0);
}

TEST_CASE("a failure that was prepared comes when it should, once or from then on") {
    const FakeCuda fake;
    const Program program(fake);
    DeviceAddress memory{};
    fake.fail("cuMemAlloc_v2", 2, error_out_of_memory, 0);
    CHECK(program->cuMemAlloc_v2(&memory, nbytes) == success);
    CHECK(program->cuMemAlloc_v2(&memory, nbytes) == error_out_of_memory);
    CHECK(program->cuMemAlloc_v2(&memory, nbytes) == success);
    fake.fail("*", 1, error_deinitialized, 1);
    CHECK(program->cuMemAlloc_v2(&memory, nbytes) == error_deinitialized);
    CHECK(program->cuMemFree_v2(memory) == error_deinitialized);
    fake.clear_failures();
    CHECK(program->cuMemFree_v2(memory) == success);
    CHECK(fake.call_count("cuMemAlloc_v2") == 4);
    CHECK(fake.stats().allocations == 1);
}

TEST_CASE("two devices keep their memory, streams and events apart") {
    const FakeCuda fake(2, 2 * nbytes);
    const Program first(fake, 0);
    const CUevent event_of_first = first.event();
    const CUstream stream_of_first = first.stream();
    const DeviceAddress on_first = first.allocate(2 * nbytes);
    const Program second(fake, 1);
    const CUstream stream_of_second = second.stream();
    const DeviceAddress on_second = second.allocate(2 * nbytes); // the first device is full
    CHECK(second->cuEventRecord(event_of_first, stream_of_second) == invalid_handle);
    fake.hold();
    first.fill(stream_of_first, on_first, 4, 5000);
    first.must(first->cuEventRecord(event_of_first, stream_of_first));
    fake.resume();
    // Waiting across devices is allowed, and so is copying.
    second.must(second->cuStreamWaitEvent(stream_of_second, event_of_first, 0));
    second.must(second->cuMemcpyDtoDAsync_v2(on_second, on_first, nbytes, stream_of_second));
    second.must(second->cuStreamSynchronize(stream_of_second));
    CHECK(all_are(fake.shadow_of(on_second), nbytes, 4));
    CHECK(fake.stats().contexts_retained == 2);
    CHECK(fake.violations() == 0);
}

TEST_CASE("calls that need a context are refused without one") {
    const FakeCuda fake;
    CUstream stream = nullptr;
    DeviceAddress memory{};
    const auto driver = fake.open();
    CHECK((*driver)->cuStreamCreate(&stream, 0) == invalid_context);
    {
        const Program program(fake);
        memory = program.allocate();
        CHECK(fake.stats().allocations == 1);
    }
    CHECK((*driver)->cuMemFree_v2(memory) == invalid_context);
    CHECK(fake.stats().allocations == 0); // went with the context
}

TEST_CASE("a kernel runs in the order of its stream, on that device only") {
    const FakeCuda fake(2);
    const Program program(fake);
    const CUstream stream = program.stream();
    const DeviceAddress source = program.allocate();
    const DeviceAddress target = program.allocate();
    program.fill(stream, source, 8, 5000);
    split_bytes_on(program, stream, target, source);
    program.fill(stream, source, 9);
    program.must(program->cuStreamSynchronize(stream));
    CHECK(all_are(fake.shadow_of(target), nbytes, 8));
    CHECK(fake.stats().kernels == 1);
    CHECK(fake.stats().modules == 0);
    const Program elsewhere(fake, 1);
    CUmodule module = nullptr;
    CUfunction kernel = nullptr;
    elsewhere.must(elsewhere->cuModuleLoadData(&module, "an image"));
    CHECK(elsewhere->cuModuleGetFunction(&kernel, module, "no_such_kernel") == not_found);
    elsewhere.must(elsewhere->cuModuleGetFunction(&kernel, module, "sucrose_split_bytes"));
    CHECK(elsewhere->cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr) ==
          invalid_handle);
    CHECK(fake.violations() == 0);
}

TEST_CASE("host memory is registered once") {
    const FakeCuda fake;
    const Program program(fake);
    std::vector<std::byte> bytes(3 * nbytes);
    std::byte *data = bytes.data();
    program.must(program->cuMemHostRegister_v2(data + 1, nbytes, 0));
    CHECK(program->cuMemHostRegister_v2(data + nbytes, nbytes, 0) == already_registered);
    CHECK(fake.stats().registered_nbytes == nbytes);
    const DeviceAddress memory = program.allocate();
    // Half of it is pinned: the real driver takes neither way.
    CHECK(program->cuMemcpyHtoDAsync_v2(memory, data + 9, nbytes, nullptr) == invalid_value);
    program.must(program->cuMemHostUnregister(data + 1));
    CHECK(program->cuMemHostUnregister(data + 1) == not_registered);
}
