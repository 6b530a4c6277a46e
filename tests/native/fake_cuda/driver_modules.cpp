// Entry points of the driver: modules, and launches of their kernels.

#include <vector>

#include "exports.h"
#include "kernels.h"
#include "state.h"

namespace sucrose::cuda {

using namespace fake_cuda;

namespace {

constexpr unsigned max_threads = 1024; // of a block

std::uint64_t number(const void *handle) {
    return reinterpret_cast<std::uint64_t>(handle);
}

// The memory that a kernel sees at an address: allocated device memory or pinned host memory.
// Elsewhere it is some that harms nobody, and a violation.
std::byte *translate(DeviceAddress device_address, std::size_t nbytes, const Kernel &kernel,
                     std::vector<std::vector<std::byte>> &stray) {
    const auto address = static_cast<std::uint64_t>(device_address);
    State &driver = state();
    const Lock lock(driver.mutex);
    if (driver.memory.contains(address)) {
        const std::string fault = driver.memory.fault(address, nbytes);
        if (fault.empty()) {
            return driver.memory.shadow(address);
        }
        driver.journal.violation(kernel.name + ": " + fault);
    } else if (driver.host.pinned(address, nbytes, kernel.device) == Pinned::wholly) {
        return reinterpret_cast<std::byte *>(address);
    } else {
        driver.journal.violation(kernel.name + ": " + std::to_string(nbytes) + " bytes at " +
                                 hexadecimal(address) +
                                 " are neither device memory nor pinned host memory");
    }
    return stray.emplace_back(nbytes, std::byte{fake_cuda_poison_freed}).data();
}

void run_kernel(const Kernel &kernel, const std::function<void(const Translate &)> &launch) {
    std::vector<std::vector<std::byte>> stray;
    launch([&](DeviceAddress address, std::size_t nbytes) {
        return translate(address, nbytes, kernel, stray);
    });
}

} // namespace

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    return in_context(__func__, [&](const Call &call) {
        if (image == nullptr) {
            return error_invalid_value;
        }
        const std::uint64_t handle = ++call.state.next_handle;
        call.state.modules[handle] = call.device;
        *module = reinterpret_cast<CUmodule>(handle);
        return success;
    });
}

CUresult cuModuleUnload(CUmodule module) {
    return in_context(__func__, [&](const Call &call) {
        if (call.state.modules.erase(number(module)) == 0) {
            return call.refuse_handle("module", module);
        }
        std::erase_if(call.state.functions,
                      [&](const auto &item) { return item.second.module == number(module); });
        return success;
    });
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    return in_context(__func__, [&](const Call &call) {
        const auto found = call.state.modules.find(number(module));
        if (found == call.state.modules.end()) {
            return call.refuse_handle("module", module);
        }
        if (!knows(name)) {
            return error_not_found;
        }
        const std::uint64_t handle = ++call.state.next_handle;
        call.state.functions[handle] = {number(module), found->second, name};
        *function = reinterpret_cast<CUfunction>(handle);
        return success;
    });
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned,
                        CUstream stream, void **parameters, void **extra) {
    return in_context(__func__, [&](const Call &call) {
        const auto found = call.state.functions.find(number(function));
        if (found == call.state.functions.end()) {
            return call.refuse_handle("function", function);
        }
        const Kernel &kernel = found->second;
        StreamQueue *on = call.find_stream(stream);
        if (on == nullptr || on->device != kernel.device) {
            return error_invalid_handle;
        }
        if (extra != nullptr || grid_y != 1 || grid_z != 1 || block_y != 1 || block_z != 1) {
            return error_not_supported;
        }
        if (grid_x == 0 || block_x == 0 || block_x > max_threads) {
            return error_invalid_value;
        }
        ++call.state.journal.stats.kernels;
        call.state.scheduler.enqueue(
            *on, [kernel, launch = capture_launch(kernel.name, grid_x, block_x, parameters)] {
                run_kernel(kernel, launch);
            });
        return success;
    });
}

} // namespace sucrose::cuda
