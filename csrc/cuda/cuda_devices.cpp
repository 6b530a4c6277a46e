#include "cuda/cuda_devices.h"

#include <utility>

#include "error.h"

namespace sucrose {

CudaLanes::CudaLanes(std::shared_ptr<const CudaDriver> driver, int ordinal)
    : device_(driver, ordinal), pinner_(device_) {
    const CurrentContext current(device_);
    kernels_ = CudaKernels::load(std::move(driver), why_no_kernels_);
}

CudaLanes::~CudaLanes() {
    within_device_.reset();
    to_device_.reset();
    to_host_.reset();
    in_context(device_, [this] { kernels_.reset(); });
}

CopyLane &CudaLanes::lane(std::unique_ptr<CopyLane> &lane, const char *thread_name) {
    const std::lock_guard lock(mutex_);
    if (lane == nullptr) {
        const CurrentContext current(device_);
        lane = std::make_unique<CopyLane>(device_, kernels_.get(), pinner_, thread_name);
    }
    return *lane;
}

std::string CudaLanes::why_no_kernels() {
    const std::lock_guard lock(mutex_);
    for (const auto *lane : {&to_host_, &to_device_, &within_device_}) {
        if (*lane != nullptr && (*lane)->lacks_memory()) {
            return "there was no memory left for what they work with";
        }
    }
    return why_no_kernels_;
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
        if (const std::string why = lanes->why_no_kernels(); !why.empty()) {
            reasons.emplace_back("kernels" + device, why);
        }
        if (const std::string why = lanes->pinner().why_refused(); !why.empty()) {
            reasons.emplace_back("pinned memory" + device, why);
        }
    }
    return reasons;
}

namespace {

// What is ordered behind such a stream becomes part of the graph, and would run at each replay.
bool is_captured(const CudaDevice &device, cuda::CUstream stream) {
    const CurrentContext current(device);
    int status = cuda::stream_capture_status_none;
    device.check(device.driver()->cuStreamIsCapturing(stream, &status), "cuStreamIsCapturing");
    return status != cuda::stream_capture_status_none;
}

} // namespace

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
        const CudaDevice &device = devices[ordinal].device();
        const cuda::CUstream stream = stream_on(streams, ordinal);
        if (is_captured(device, stream)) {
            throw CudaFailure(cuda::error_stream_capture_unsupported,
                              "the current stream of device " + std::to_string(ordinal) +
                                  " is being captured into a CUDA graph: save and restore before "
                                  "the capture begins or after it has ended");
        }
        follow(device, ordinal, stream);
    }
}

void CallerOrder::follow(const CudaDevice &device, std::int32_t ordinal, cuda::CUstream stream) {
    const CurrentContext current(device);
    auto event = std::make_unique<CudaEvent>(device);
    event->record(stream);
    events_[ordinal] = std::move(event);
}

} // namespace sucrose
