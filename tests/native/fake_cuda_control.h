// The fake CUDA driver as tests use it: opened through the core's own table, its controls beside.
#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "cuda/cuda_driver.h"
#include "fake_cuda/fake_cuda.h"

// Resets the driver when it is made: each test makes one first.
class FakeCuda {
public:
    explicit FakeCuda(int devices = 1, std::size_t nbytes_per_device = std::size_t{64} << 20,
                      unsigned max_delay_us = 0, unsigned seed = 1)
        : library_(::dlopen(FAKE_CUDA_LIBRARY, RTLD_NOW | RTLD_LOCAL)) {
        if (library_ == nullptr) {
            throw std::runtime_error(::dlerror());
        }
        find(reset, "fake_cuda_reset");
        find(fail, "fake_cuda_fail");
        find(clear_failures, "fake_cuda_clear_failures");
        find(call_count, "fake_cuda_call_count");
        find(violations_into, "fake_cuda_violations");
        find(stats_into, "fake_cuda_stats");
        find(shadow, "fake_cuda_shadow");
        find(device_address, "fake_cuda_device_address");
        find(fill_later, "fake_cuda_fill_later");
        find(hold, "fake_cuda_hold");
        find(hold_stream, "fake_cuda_hold_stream");
        find(resume, "fake_cuda_resume");
        find(begin_capture, "fake_cuda_begin_capture");
        find(end_capture, "fake_cuda_end_capture");
        reset(devices, nbytes_per_device, max_delay_us, seed);
    }

    std::shared_ptr<const sucrose::CudaDriver> open() const {
        std::string why_not;
        auto driver = sucrose::CudaDriver::open(FAKE_CUDA_LIBRARY, why_not);
        if (!driver) {
            throw std::runtime_error(why_not);
        }
        return driver;
    }
    std::byte *shadow_of(sucrose::DeviceAddress address) const {
        return static_cast<std::byte *>(shadow(static_cast<std::uint64_t>(address)));
    }
    fake_cuda_stats_t stats() const {
        fake_cuda_stats_t stats{};
        stats_into(&stats);
        return stats;
    }
    unsigned violations() const { return violations_into(nullptr, 0); }
    std::string first_violation() const {
        char text[512];
        violations_into(text, sizeof text);
        return text;
    }

private:
    template <typename Function> void find(Function &function, const char *name) {
        function = reinterpret_cast<Function>(::dlsym(library_, name));
        if (function == nullptr) {
            throw std::runtime_error(::dlerror());
        }
    }

    void *library_;
    decltype(&fake_cuda_violations) violations_into = nullptr;
    decltype(&fake_cuda_stats) stats_into = nullptr;

public:
    decltype(&fake_cuda_reset) reset = nullptr;
    decltype(&fake_cuda_fail) fail = nullptr;
    decltype(&fake_cuda_clear_failures) clear_failures = nullptr;
    decltype(&fake_cuda_call_count) call_count = nullptr;
    decltype(&fake_cuda_shadow) shadow = nullptr;
    decltype(&fake_cuda_device_address) device_address = nullptr;
    decltype(&fake_cuda_fill_later) fill_later = nullptr;
    decltype(&fake_cuda_hold) hold = nullptr;
    decltype(&fake_cuda_hold_stream) hold_stream = nullptr;
    decltype(&fake_cuda_resume) resume = nullptr;
    decltype(&fake_cuda_begin_capture) begin_capture = nullptr;
    decltype(&fake_cuda_end_capture) end_capture = nullptr;
};
