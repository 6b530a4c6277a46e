// The one state of the fake driver, and the way that every call enters it.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/cuda_driver.h"
#include "device_memory.h"
#include "errors.h"
#include "host_memory.h"
#include "journal.h"
#include "scheduler.h"

namespace fake_cuda {

using Lock = std::unique_lock<std::mutex>;

// A kernel of a module, which belongs to the context that the module was loaded in.
struct Kernel {
    std::uint64_t module = 0;
    int device = 0;
    std::string name;
};

// Everything is guarded by `mutex`. A context is known by its device, which has no other one.
struct State {
    std::mutex mutex;
    bool initialized = false;
    unsigned generation = 0; // of resets: stacks of contexts from before one are void
    std::vector<unsigned> retained;
    DeviceMemory memory;
    HostMemory host;
    Scheduler scheduler{mutex};
    Journal journal;
    std::map<std::uint64_t, int> modules; // to their devices
    std::map<std::uint64_t, Kernel> functions;
    std::uint64_t next_handle = 0x4eed0000; // of modules and functions
    const StreamQueue *captured = nullptr;  // into a graph; compared, never dereferenced

    State();
    int device_count() const { return static_cast<int>(retained.size()); }
    void reset(Lock &lock, int devices, std::size_t nbytes_per_device, unsigned max_delay_us,
               unsigned seed);
    // Waits for what is pending in the context and takes away all that belongs to it.
    void destroy_context(Lock &lock, int device);
};

// Never destroyed: operations may be pending when the process ends.
State &state();

// The devices whose contexts the calling thread has pushed, the current one last.
std::vector<int> &context_stack(const State &state);

sucrose::cuda::CUcontext context_of(int device);
// -1 where it is no context.
int device_of(const State &state, sucrose::cuda::CUcontext context);

// Of the calling thread; the driver's own constants.
int &capture_mode();

// A call under way.
struct Call {
    const char *function;
    State &state;
    Lock &lock;
    int device; // of the current context; -1 in calls that need none

    CUresult refuse_handle(const char *what, const void *handle) const;
    // Whether the call might disturb the capture that is going on; then it is a violation.
    bool disturbs_capture() const;
    // nullptr, and a violation, where there is no such stream.
    StreamQueue *find_stream(sucrose::cuda::CUstream stream) const;
};

// Runs `body(call)` unless a failure was prepared for the function or the driver was not
// initialized.
template <typename Body> CUresult without_context(const char *function, Body body) {
    State &driver = state();
    Lock lock(driver.mutex);
    if (const CUresult result = driver.journal.admit(function); result != 0) {
        return result;
    }
    if (!driver.initialized) {
        return error_not_initialized;
    }
    return body(Call{function, driver, lock, -1});
}

// Likewise, and refuses where the calling thread has no current context.
template <typename Body> CUresult in_context(const char *function, Body body) {
    return without_context(function, [&](const Call &call) -> CUresult {
        const std::vector<int> &stack = context_stack(call.state);
        if (stack.empty()) {
            return error_invalid_context;
        }
        if (call.state.retained[static_cast<std::size_t>(stack.back())] == 0) {
            return error_context_is_destroyed;
        }
        const Call here{function, call.state, call.lock, stack.back()};
        return here.disturbs_capture() ? sucrose::cuda::error_stream_capture_unsupported
                                       : body(here);
    });
}

} // namespace fake_cuda
