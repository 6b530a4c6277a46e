// A small program on the fake CUDA driver: a context, and the memory and streams that tests need.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/cuda_driver.h"
#include "fake_cuda_control.h"

namespace fake_cuda_tests {

using namespace sucrose;
using namespace sucrose::cuda;

constexpr std::size_t nbytes = 4096; // of memory, where a test does not care

// The handles that stand for default streams.
inline const CUstream legacy = nullptr;
inline const auto also_legacy = reinterpret_cast<CUstream>(std::uint64_t{1});
inline const auto per_thread = reinterpret_cast<CUstream>(std::uint64_t{2});

inline std::uint64_t number(DeviceAddress address) {
    return static_cast<std::uint64_t>(address);
}
inline std::uint64_t number(const void *handle) {
    return reinterpret_cast<std::uint64_t>(handle);
}

inline bool all_are(const std::byte *data, std::size_t count, int value) {
    return std::all_of(data, data + count, [&](std::byte b) { return b == std::byte(value); });
}

// One device's context, current in this thread, and what tests put there.
struct Program {
    explicit Program(const FakeCuda &fake_cuda, int ordinal = 0)
        : fake(fake_cuda), driver(fake_cuda.open()), device(ordinal) {
        must((*driver)->cuDevicePrimaryCtxRetain(&context, device));
        must((*driver)->cuCtxPushCurrent_v2(context));
    }
    ~Program() {
        CUcontext popped = nullptr;
        (*driver)->cuCtxPopCurrent_v2(&popped);
        (*driver)->cuDevicePrimaryCtxRelease_v2(device);
    }
    const Functions *operator->() const { return driver->operator->(); }
    void must(CUresult result) const { driver->check(result, "a call"); }

    CUstream stream(unsigned flags = stream_non_blocking) const {
        CUstream created = nullptr;
        must((*driver)->cuStreamCreate(&created, flags));
        return created;
    }
    CUevent event() const {
        CUevent created = nullptr;
        must((*driver)->cuEventCreate(&created, event_disable_timing));
        return created;
    }
    DeviceAddress allocate(std::size_t size = nbytes) const {
        DeviceAddress address{};
        must((*driver)->cuMemAlloc_v2(&address, size));
        return address;
    }
    void fill(CUstream on, DeviceAddress address, int value, unsigned delay_us = 0) const {
        fake.fill_later(device, number(on), number(address), value, nbytes, delay_us);
    }

    const FakeCuda &fake;
    std::shared_ptr<const CudaDriver> driver;
    int device;
    CUcontext context = nullptr;
};

// Host memory that is registered while it lives.
struct PinnedBytes {
    PinnedBytes(const Program &program, std::size_t count) : of(program), bytes(count) {
        of.must(of->cuMemHostRegister_v2(bytes.data(), count, host_register_portable));
    }
    ~PinnedBytes() { of->cuMemHostUnregister(bytes.data()); }
    std::byte *data() { return bytes.data(); }

    const Program &of;
    std::vector<std::byte> bytes;
};

// A kernel of the core's: takes the bytes of 16-bit elements apart.
inline void split_bytes_on(const Program &program, CUstream stream, DeviceAddress target,
                           DeviceAddress source) {
    CUmodule module = nullptr;
    CUfunction kernel = nullptr;
    program.must(program->cuModuleLoadData(&module, "an image"));
    program.must(program->cuModuleGetFunction(&kernel, module, "sucrose_split_bytes"));
    std::uint64_t size = nbytes;
    std::uint32_t itemsize = 2;
    void *parameters[] = {&target, &source, &size, &itemsize};
    program.must(
        program->cuLaunchKernel(kernel, 2, 1, 1, 64, 1, 1, 0, stream, parameters, nullptr));
    program.must(program->cuModuleUnload(module));
}

} // namespace fake_cuda_tests
