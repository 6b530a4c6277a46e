#include "state.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace fake_cuda {

using namespace sucrose::cuda;

namespace {

constexpr std::uint64_t context_handles = 0xc0de0000;
constexpr std::uint64_t context_step = 16;

} // namespace

State::State() : retained(1) {
    memory.reserve(1, std::size_t{1} << 30);
}

void State::reset(Lock &lock, int devices, std::size_t nbytes_per_device, unsigned max_delay_us,
                  unsigned seed) {
    scheduler.resume();
    scheduler.wait_idle(lock);
    scheduler.reset(max_delay_us, seed);
    memory.reserve(devices, nbytes_per_device);
    retained.assign(static_cast<std::size_t>(devices), 0);
    host = {};
    journal = {};
    modules.clear();
    functions.clear();
    captured = nullptr;
    ++generation;
}

void State::destroy_context(Lock &lock, int device) {
    scheduler.wait_idle(lock, device);
    scheduler.forget(device);
    memory.erase_all(device);
    host.remove_all(device);
    std::erase_if(modules, [&](const auto &item) { return item.second == device; });
    std::erase_if(functions, [&](const auto &item) { return item.second.device == device; });
}

State &state() {
    static State *const the_one = new State;
    return *the_one;
}

std::vector<int> &context_stack(const State &state) {
    thread_local std::vector<int> stack;
    thread_local unsigned generation = 0;
    if (std::exchange(generation, state.generation) != state.generation) {
        stack.clear();
    }
    return stack;
}

int &capture_mode() {
    thread_local int mode = 0; // CU_STREAM_CAPTURE_MODE_GLOBAL
    return mode;
}

CUcontext context_of(int device) {
    return reinterpret_cast<CUcontext>(context_handles +
                                       context_step * static_cast<std::uint64_t>(device));
}

int device_of(const State &state, CUcontext context) {
    for (int device = 0; device < state.device_count(); ++device) {
        if (context == context_of(device)) {
            return device;
        }
    }
    return -1;
}

CUresult Call::refuse_handle(const char *what, const void *handle) const {
    state.journal.violation(std::string(function) + ": there is no " + what + " " +
                            hexadecimal(reinterpret_cast<std::uint64_t>(handle)) + " (any more)");
    return error_invalid_handle;
}

bool Call::disturbs_capture() const {
    constexpr std::array<std::string_view, 10> disturbing{
        "cuMemAlloc_v2",      "cuMemFree_v2",   "cuMemHostRegister_v2", "cuMemHostUnregister",
        "cuModuleLoadData",   "cuModuleUnload", "cuStreamSynchronize",  "cuEventQuery",
        "cuEventSynchronize", "cuMemGetInfo_v2"};
    if (state.captured == nullptr || capture_mode() == stream_capture_mode_relaxed ||
        std::find(disturbing.begin(), disturbing.end(), function) == disturbing.end()) {
        return false;
    }
    state.journal.violation(std::string(function) + ": another thread is capturing a graph");
    return true;
}

StreamQueue *Call::find_stream(CUstream stream) const {
    StreamQueue *found =
        state.scheduler.find_stream(reinterpret_cast<std::uint64_t>(stream), device);
    if (found == nullptr) {
        refuse_handle("stream", stream);
    }
    return found;
}

} // namespace fake_cuda
