// The controls that fake_cuda.h declares.

#include <algorithm>
#include <cstring>

#include "fake_cuda.h"
#include "state.h"

using namespace fake_cuda;

void fake_cuda_reset(int devices, size_t nbytes_per_device, unsigned max_delay_us, unsigned seed) {
    State &driver = state();
    Lock lock(driver.mutex);
    driver.reset(lock, devices, nbytes_per_device, max_delay_us, seed);
}

void fake_cuda_fail(const char *function, unsigned nth, int result, int sticky) {
    State &driver = state();
    const Lock lock(driver.mutex);
    driver.journal.fail(function, nth, result, sticky != 0);
}

void fake_cuda_clear_failures(void) {
    State &driver = state();
    const Lock lock(driver.mutex);
    driver.journal.clear_failures();
}

int fake_cuda_call_count(const char *function) {
    State &driver = state();
    const Lock lock(driver.mutex);
    return driver.journal.call_count(function);
}

unsigned fake_cuda_violations(char *first, size_t capacity) {
    State &driver = state();
    const Lock lock(driver.mutex);
    if (capacity != 0) {
        const std::string &text = driver.journal.first_violation();
        const std::size_t length = std::min(text.size(), capacity - 1);
        std::memcpy(first, text.data(), length);
        first[length] = 0;
    }
    return driver.journal.violations();
}

void fake_cuda_stats(struct fake_cuda_stats_t *out) {
    State &driver = state();
    const Lock lock(driver.mutex);
    *out = driver.journal.stats;
    for (int device = 0; device < driver.device_count(); ++device) {
        out->contexts_retained += driver.retained[static_cast<std::size_t>(device)];
        out->allocated_nbytes +=
            driver.memory.capacity_nbytes() - driver.memory.free_nbytes(device);
    }
    out->streams = driver.scheduler.stream_count();
    out->events = driver.scheduler.event_count();
    out->modules = driver.modules.size();
    out->allocations = driver.memory.count();
    out->registrations = driver.host.count();
    out->registered_nbytes = driver.host.registered_nbytes();
}

void *fake_cuda_shadow(unsigned long long device_address) {
    State &driver = state();
    const Lock lock(driver.mutex);
    return driver.memory.contains(device_address) ? driver.memory.shadow(device_address) : nullptr;
}

unsigned long long fake_cuda_device_address(void *shadow) {
    State &driver = state();
    const Lock lock(driver.mutex);
    return driver.memory.shadow_contains(shadow) ? driver.memory.address_of(shadow) : 0;
}

void fake_cuda_fill_later(int device, unsigned long long stream, unsigned long long address,
                          int value, size_t nbytes, unsigned delay_us) {
    State &driver = state();
    Lock lock(driver.mutex);
    const Call call{__func__, driver, lock, device};
    StreamQueue *on = call.find_stream(reinterpret_cast<sucrose::cuda::CUstream>(stream));
    if (on == nullptr) {
        return;
    }
    driver.scheduler.enqueue(
        *on,
        [&driver, address, value, nbytes] {
            Lock fill_lock(driver.mutex);
            const std::string fault = driver.memory.fault(address, nbytes);
            if (!fault.empty()) {
                driver.journal.violation("fake_cuda_fill_later: " + fault);
                return;
            }
            fill_lock.unlock();
            std::memset(driver.memory.shadow(address), value, nbytes);
        },
        delay_us);
}

void fake_cuda_begin_capture(int device, unsigned long long stream) {
    State &driver = state();
    Lock lock(driver.mutex);
    const Call call{__func__, driver, lock, device};
    driver.captured = call.find_stream(reinterpret_cast<sucrose::cuda::CUstream>(stream));
}

void fake_cuda_end_capture(void) {
    State &driver = state();
    const Lock lock(driver.mutex);
    driver.captured = nullptr;
}

void fake_cuda_hold(void) {
    State &driver = state();
    Lock lock(driver.mutex);
    driver.scheduler.hold(lock);
}

void fake_cuda_hold_stream(int device, unsigned long long stream) {
    State &driver = state();
    Lock lock(driver.mutex);
    const Call call{__func__, driver, lock, device};
    if (StreamQueue *held = call.find_stream(reinterpret_cast<sucrose::cuda::CUstream>(stream))) {
        driver.scheduler.hold(*held);
    }
}

void fake_cuda_resume(void) {
    State &driver = state();
    const Lock lock(driver.mutex);
    driver.scheduler.resume();
}
