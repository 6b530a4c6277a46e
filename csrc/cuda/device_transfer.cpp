#include "cuda/device_transfer.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

#include "error.h"
#include "io/fault.h"

namespace sucrose {

namespace {

// As the driver does where a device is lost.
void fail_on_purpose(fault::Site site) {
    if (fault::error_at(site) != 0) {
        throw CudaFailure(cuda::error_unknown, "the copy fails on purpose, in a test");
    }
}

// Several devices' copies, and one end.
class Transfer {
public:
    Transfer(Scheduler &scheduler, TraceTrack track, const char *name, std::uint64_t nbytes,
             std::size_t devices, TransferDone done)
        : scheduler_(scheduler), track_(track), name_(name), nbytes_(nbytes), left_(devices),
          done_(std::move(done)), begin_(TraceClock::now()) {}

    void one_done(std::exception_ptr error) {
        {
            const std::lock_guard lock(mutex_);
            if (error && !error_) {
                error_ = std::move(error);
            }
            if (--left_ != 0) {
                return;
            }
        }
        if (Tracer *tracer = scheduler_.tracer()) {
            tracer->span(track_, name_, begin_, TraceClock::now(), nbytes_);
        }
        done_(error_);
    }

private:
    Scheduler &scheduler_;
    const TraceTrack track_;
    const char *const name_;
    const std::uint64_t nbytes_;
    std::mutex mutex_;
    std::size_t left_;
    std::exception_ptr error_;
    const TransferDone done_;
    const TraceClock::time_point begin_;
};

std::vector<std::int32_t> devices_of(std::span<const DevicePart> parts) {
    std::vector<std::int32_t> devices;
    for (const DevicePart &part : parts) {
        if (std::find(devices.begin(), devices.end(), part.device) == devices.end()) {
            devices.push_back(part.device);
        }
    }
    return devices;
}

// Calls start(lanes of a device, its parts, the event to wait for, done) for each device.
template <typename Start>
void for_each_device(Scheduler &scheduler, const CallerOrder &ready,
                     std::span<const DevicePart> parts, const SlotLease &slot, TraceTrack track,
                     const char *name, TransferDone done, Start start) {
    const std::vector<std::int32_t> devices = devices_of(parts);
    auto transfer = std::make_shared<Transfer>(scheduler, track, name, nbytes_of(parts),
                                               devices.size(), std::move(done));
    for (const std::int32_t device : devices) {
        try {
            CudaLanes &lanes = scheduler.devices()[device];
            slot.pin(lanes.pinner());
            start(lanes, parts_on(parts, device), ready.on(device),
                  [transfer](std::exception_ptr error) { transfer->one_done(std::move(error)); });
        } catch (...) {
            transfer->one_done(std::current_exception());
        }
    }
}

} // namespace

std::vector<DevicePart> parts_on(std::span<const DevicePart> parts, std::int32_t device) {
    std::vector<DevicePart> chosen;
    std::copy_if(parts.begin(), parts.end(), std::back_inserter(chosen),
                 [device](const DevicePart &part) { return part.device == device; });
    return chosen;
}

std::uint64_t nbytes_of(std::span<const DevicePart> parts) noexcept {
    std::uint64_t nbytes = 0;
    for (const DevicePart &part : parts) {
        nbytes += part.nbytes;
    }
    return nbytes;
}

void copy_to_slot(Scheduler &scheduler, const CallerOrder &ready, std::span<const DevicePart> parts,
                  const SlotLease &slot, TraceTrack track, TransferDone done) {
    std::byte *data = slot.data();
    for_each_device(scheduler, ready, parts, slot, track, "d2h", std::move(done),
                    [data](CudaLanes &lanes, const std::vector<DevicePart> &own,
                           const CudaEvent &after, CopyLane::Done one_done) {
                        fail_on_purpose(fault::Site::d2h);
                        lanes.to_host().to_host(own, data, after, std::move(one_done));
                    });
}

void copy_from_slot(Scheduler &scheduler, const CallerOrder &ready,
                    std::span<const DevicePart> parts, const SlotLease &slot, TraceTrack track,
                    TransferDone done) {
    const std::byte *data = slot.data();
    for_each_device(scheduler, ready, parts, slot, track, "h2d", std::move(done),
                    [data](CudaLanes &lanes, const std::vector<DevicePart> &own,
                           const CudaEvent &after, CopyLane::Done one_done) {
                        fail_on_purpose(fault::Site::h2d);
                        lanes.to_device().to_device(own, data, after, std::move(one_done));
                    });
}

} // namespace sucrose
