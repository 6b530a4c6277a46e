#include "cuda_devices.h"

#include <utility>

#include "error.h"

namespace sucrose {

CudaLanes::CudaLanes(std::shared_ptr<const CudaDriver> driver, int ordinal)
    : device_(driver, ordinal), pinner_(device_) {
    const CurrentContext current(device_);
    kernels_ = CudaKernels::load(std::move(driver), why_no_kernels_);
}

CopyLane &CudaLanes::lane(std::unique_ptr<CopyLane> &lane, const char *thread_name) {
    const std::lock_guard lock(mutex_);
    if (lane == nullptr) {
        const CurrentContext current(device_);
        lane = std::make_unique<CopyLane>(device_, kernels_.get(), pinner_, thread_name);
    }
    return *lane;
}

bool CudaDevices::reaches(std::int32_t ordinal) {
    const std::lock_guard lock(mutex_);
    if (driver_ == nullptr) {
        driver_ = CudaDriver::open(library_, why_not_);
    }
    return driver_ != nullptr && ordinal >= 0 && ordinal < driver_->device_count();
}

CudaLanes &CudaDevices::operator[](std::int32_t ordinal) {
    const bool reached = reaches(ordinal);
    const std::lock_guard lock(mutex_);
    if (!reached) {
        throw Error("there is no CUDA device " + std::to_string(ordinal) +
                    (driver_ != nullptr ? "" : ": " + why_not_));
    }
    std::unique_ptr<CudaLanes> &lanes = lanes_[ordinal];
    if (lanes == nullptr) {
        lanes = std::make_unique<CudaLanes>(driver_, ordinal);
    }
    return *lanes;
}

std::vector<std::pair<std::string, std::string>> CudaDevices::fallbacks() {
    std::vector<std::pair<std::string, std::string>> reasons;
    const std::lock_guard lock(mutex_);
    for (const auto &[ordinal, lanes] : lanes_) {
        const std::string device = " on device " + std::to_string(ordinal);
        if (lanes == nullptr) { // could not be used at all
            continue;
        }
        if (!lanes->why_no_kernels().empty()) {
            reasons.emplace_back("kernels" + device, lanes->why_no_kernels());
        }
        if (const std::string why = lanes->pinner().why_refused(); !why.empty()) {
            reasons.emplace_back("pinned memory" + device, why);
        }
    }
    return reasons;
}

cuda::CUstream stream_on(std::span<const CallerStream> streams, std::int32_t device) noexcept {
    for (const CallerStream &caller : streams) {
        if (caller.device == device) {
            return caller.stream;
        }
    }
    return nullptr;
}

CallerOrder::CallerOrder(CudaDevices &devices, std::span<const std::int32_t> used,
                         std::span<const CallerStream> streams) {
    for (const std::int32_t ordinal : used) {
        follow(devices[ordinal].device(), ordinal, stream_on(streams, ordinal));
    }
}

void CallerOrder::follow(const CudaDevice &device, std::int32_t ordinal, cuda::CUstream stream) {
    const CurrentContext current(device);
    auto event = std::make_unique<CudaEvent>(device);
    event->record(stream);
    events_[ordinal] = std::move(event);
}

} // namespace sucrose
