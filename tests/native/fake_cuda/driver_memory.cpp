// Entry points of the driver: device memory, and the registration of host memory.

#include <cstring>

#include "exports.h"
#include "state.h"

namespace sucrose::cuda {

using namespace fake_cuda;

namespace {

std::uint64_t number(DeviceAddress address) {
    return static_cast<std::uint64_t>(address);
}

void fill(State &driver, std::uint64_t address, std::size_t nbytes, int value) {
    std::memset(driver.memory.shadow(address), value, nbytes);
}

// Memory that is not live yet; 0 where the device is full even when the frees that are pending
// have taken effect.
std::uint64_t allocate(const Call &call, int device, std::size_t nbytes, bool stream_ordered) {
    State &driver = call.state;
    const std::uint64_t address = driver.memory.try_allocate(device, nbytes, stream_ordered);
    if (address != 0 || !driver.memory.releases_pending(device)) {
        return address;
    }
    driver.scheduler.changed().wait(call.lock,
                                    [&] { return !driver.memory.releases_pending(device); });
    return driver.memory.try_allocate(device, nbytes, stream_ordered);
}

// The allocation takes effect.
void bring_to_life(State &driver, Lock &lock, std::uint64_t address, std::size_t nbytes) {
    lock.unlock();
    fill(driver, address, nbytes, fake_cuda_poison_fresh);
    lock.lock();
    if (Allocation *allocation = driver.memory.find(address)) {
        allocation->live = true;
    }
}

// The free takes effect.
void release(State &driver, Lock &lock, std::uint64_t address, std::size_t nbytes) {
    if (Allocation *allocation = driver.memory.find(address)) {
        allocation->live = false;
    }
    lock.unlock();
    fill(driver, address, nbytes, fake_cuda_poison_freed);
    lock.lock();
    if (driver.memory.find(address) != nullptr) {
        driver.memory.erase(address);
    }
    driver.scheduler.changed().notify_all();
}

// nullptr, and a violation, where there is nothing to free.
Allocation *find_to_free(const Call &call, DeviceAddress address) {
    Allocation *allocation = call.state.memory.find(number(address));
    if (allocation == nullptr || allocation->releasing) {
        call.state.journal.violation(std::string(call.function) + ": nothing is allocated at " +
                                     hexadecimal(number(address)) + " (any more)");
        return nullptr;
    }
    return allocation;
}

} // namespace

CUresult cuMemGetInfo_v2(std::size_t *free, std::size_t *total) {
    return in_context(__func__, [&](const Call &call) {
        *free = call.state.memory.free_nbytes(call.device);
        *total = call.state.memory.capacity_nbytes();
        return success;
    });
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, std::size_t nbytes) {
    return in_context(__func__, [&](const Call &call) {
        if (nbytes == 0) {
            return error_invalid_value;
        }
        const std::uint64_t found = allocate(call, call.device, nbytes, false);
        if (found == 0) {
            return error_out_of_memory;
        }
        bring_to_life(call.state, call.lock, found, nbytes);
        *address = DeviceAddress{found};
        return success;
    });
}

// Takes effect at once, whatever is pending: the real driver waits for some of it, sometimes, and
// programs that rely on that are to be found.
CUresult cuMemFree_v2(CUdeviceptr address) {
    return in_context(__func__, [&](const Call &call) {
        if (number(address) == 0) {
            return success;
        }
        Allocation *allocation = find_to_free(call, address);
        if (allocation == nullptr) {
            return error_invalid_value;
        }
        allocation->releasing = true;
        release(call.state, call.lock, number(address), allocation->nbytes);
        return success;
    });
}

CUresult cuMemAllocAsync(CUdeviceptr *address, std::size_t nbytes, CUstream stream) {
    return in_context(__func__, [&](const Call &call) {
        const StreamQueue *before = call.find_stream(stream);
        if (before == nullptr) {
            return error_invalid_handle;
        }
        if (nbytes == 0) {
            return error_invalid_value;
        }
        const std::uint64_t found = allocate(call, before->device, nbytes, true);
        if (found == 0) {
            return error_out_of_memory;
        }
        StreamQueue *on = call.find_stream(stream); // again: allocating may have waited
        if (on == nullptr) {
            call.state.memory.erase(found);
            return error_invalid_handle;
        }
        call.state.scheduler.enqueue(*on, [&driver = call.state, found, nbytes] {
            Lock lock(driver.mutex);
            bring_to_life(driver, lock, found, nbytes);
        });
        *address = DeviceAddress{found};
        return success;
    });
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
    return in_context(__func__, [&](const Call &call) {
        StreamQueue *on = call.find_stream(stream);
        if (on == nullptr) {
            return error_invalid_handle;
        }
        Allocation *allocation = find_to_free(call, address);
        if (allocation == nullptr || !allocation->stream_ordered) {
            return error_invalid_value;
        }
        allocation->releasing = true;
        call.state.scheduler.enqueue(
            *on, [&driver = call.state, from = number(address), nbytes = allocation->nbytes] {
                Lock lock(driver.mutex);
                release(driver, lock, from, nbytes);
            });
        return success;
    });
}

CUresult cuMemHostRegister_v2(void *address, std::size_t nbytes, unsigned flags) {
    return in_context(__func__, [&](const Call &call) {
        if (address == nullptr || nbytes == 0) {
            return error_invalid_value;
        }
        return call.state.host.add(reinterpret_cast<std::uint64_t>(address), nbytes, call.device,
                                   (flags & host_register_portable) != 0);
    });
}

CUresult cuMemHostUnregister(void *address) {
    return in_context(__func__, [&](const Call &call) {
        bool interrupted = false;
        const CUresult result =
            call.state.host.remove(reinterpret_cast<std::uint64_t>(address), call.lock,
                                   call.state.scheduler.changed(), interrupted);
        if (interrupted) {
            call.state.journal.violation(
                std::string(call.function) + ": copies from or to the memory at " +
                hexadecimal(reinterpret_cast<std::uint64_t>(address)) + " are pending");
        }
        return result;
    });
}

} // namespace sucrose::cuda
