#include "copies.h"

#include <cstring>
#include <functional>
#include <optional>
#include <string_view>

namespace fake_cuda {

using namespace sucrose::cuda;

namespace {

struct PendingCopy {
    Copy copy;
    const char *function;
    std::shared_ptr<HostAccess> access; // with registered host memory
    std::optional<std::size_t> digest;  // of the source, where it is such memory
};

std::byte *row(const State &driver, const CopySide &side, std::size_t index) {
    const std::uint64_t address = side.address + index * side.pitch;
    return side.on_device ? driver.memory.shadow(address) : reinterpret_cast<std::byte *>(address);
}

std::size_t digest_source(const State &driver, const Copy &copy) {
    std::size_t digest = 0;
    for (std::size_t i = 0; i < copy.height; ++i) {
        const char *data = reinterpret_cast<const char *>(row(driver, copy.source, i));
        digest = digest * 31 + std::hash<std::string_view>()({data, copy.width_nbytes});
    }
    return digest;
}

void poison_target(const State &driver, const Copy &copy) {
    for (std::size_t i = 0; i < copy.height; ++i) {
        std::memset(row(driver, copy.target, i), fake_cuda_poison_pending, copy.width_nbytes);
    }
}

bool faulty(State &driver, const PendingCopy &pending, const CopySide &side, const char *when) {
    if (!side.on_device) {
        return false;
    }
    const std::string fault = driver.memory.fault(side.address, pending.copy.extent_nbytes(side));
    if (!fault.empty()) {
        driver.journal.violation(std::string(pending.function) + when + ": " + fault);
    }
    return !fault.empty();
}

void run(State &driver, const PendingCopy &pending) {
    const Copy &copy = pending.copy;
    Lock lock(driver.mutex);
    const bool dropped = (pending.access && pending.access->cancelled) ||
                         faulty(driver, pending, copy.source, "") ||
                         faulty(driver, pending, copy.target, "");
    if (!dropped) {
        if (pending.access) {
            pending.access->running = true;
        }
        lock.unlock();
        const bool changed = pending.digest && *pending.digest != digest_source(driver, copy);
        for (std::size_t i = 0; i < copy.height; ++i) {
            std::memmove(row(driver, copy.target, i), row(driver, copy.source, i),
                         copy.width_nbytes);
        }
        lock.lock();
        if (changed) {
            driver.journal.violation(std::string(pending.function) + ": the source at " +
                                     hexadecimal(copy.source.address) +
                                     " changed while a copy was pending");
        }
        faulty(driver, pending, copy.source, " while it ran");
        faulty(driver, pending, copy.target, " while it ran");
    }
    if (pending.access) {
        driver.host.close(pending.access);
        driver.scheduler.changed().notify_all();
    }
}

void count(fake_cuda_stats_t &stats, const Copy &copy, bool pageable) {
    const bool h2d = !copy.source.on_device;
    const bool d2h = !copy.target.on_device;
    ++(h2d ? stats.copies_h2d : d2h ? stats.copies_d2h : stats.copies_d2d);
    (h2d ? stats.nbytes_h2d : d2h ? stats.nbytes_d2h : stats.nbytes_d2d) += copy.nbytes();
    stats.copies_pageable += pageable;
}

// What a program that does not wait is caught by. Copies that are pending with the same memory are
// before this one in a stream, or should be: then the memory is theirs until they have run.
void set_traps(const Call &call, PendingCopy &pending, const CopySide &host) {
    const Copy &copy = pending.copy;
    HostMemory &memory = call.state.host;
    const bool is_source = !copy.source.on_device;
    const std::size_t extent_nbytes = copy.extent_nbytes(host);
    const bool taken = is_source ? memory.write_pending(host.address, extent_nbytes)
                                 : memory.access_pending(host.address, extent_nbytes);
    pending.access = memory.open(host.address, extent_nbytes, !is_source);
    if (taken) {
        return;
    }
    call.lock.unlock();
    if (is_source) {
        pending.digest = digest_source(call.state, copy);
    } else {
        poison_target(call.state, copy);
    }
    call.lock.lock();
}

} // namespace

CUresult enqueue_copy(const Call &call, const Copy &copy, CUstream stream) {
    State &driver = call.state;
    if (call.find_stream(stream) == nullptr) {
        return error_invalid_handle;
    }
    if (copy.nbytes() == 0) {
        return success;
    }
    PendingCopy pending{copy, call.function, nullptr, std::nullopt};
    bool pageable = false;
    if (!copy.source.on_device || !copy.target.on_device) {
        const CopySide &host = copy.source.on_device ? copy.target : copy.source;
        const Pinned pinned =
            driver.host.pinned(host.address, copy.extent_nbytes(host), call.device);
        if (pinned == Pinned::partly) {
            return error_invalid_value;
        }
        pageable = pinned == Pinned::not_at_all;
        if (!pageable) {
            set_traps(call, pending, host);
        }
    }
    count(driver.journal.stats, copy, pageable);
    StreamQueue *on = call.find_stream(stream); // again: setting the traps let go of the mutex
    if (on == nullptr) {
        driver.host.close(pending.access);
        return error_invalid_handle;
    }
    const auto point = driver.scheduler.enqueue(
        *on, [&driver, pending = std::move(pending)] { run(driver, pending); });
    if (pageable) {
        driver.scheduler.wait(call.lock, point);
    }
    return success;
}

} // namespace fake_cuda
