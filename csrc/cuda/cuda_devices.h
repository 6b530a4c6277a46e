// The CUDA devices of this machine, with the lanes that copy from and to each of them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "cuda/copy_lane.h"
#include "cuda/cuda_device.h"
#include "cuda/cuda_driver.h"
#include "cuda/cuda_kernels.h"

namespace sucrose {

// Which of the caller's streams its tensors on a device are in use on.
struct CallerStream {
    std::int32_t device;
    cuda::CUstream stream;
};

// The stream of `device` among them; the legacy default stream where it is not named.
cuda::CUstream stream_on(std::span<const CallerStream> streams, std::int32_t device) noexcept;

// What the core has on one device, made when it is first needed. Thread-safe.
class CudaLanes {
public:
    CudaLanes(std::shared_ptr<const CudaDriver> driver, int ordinal);
    ~CudaLanes();
    CudaLanes(const CudaLanes &) = delete;
    CudaLanes &operator=(const CudaLanes &) = delete;

    const CudaDevice &device() const noexcept { return device_; }
    CudaPinner &pinner() noexcept { return pinner_; }
    CopyLane &to_host() { return lane(to_host_, "sucrose-d2h"); }
    CopyLane &to_device() { return lane(to_device_, "sucrose-h2d"); }
    CopyLane &within_device() { return lane(within_device_, "sucrose-d2d"); }
    // nullptr where the build or the driver has none.
    const CudaKernels *kernels() const noexcept { return kernels_.get(); }
    // Why kernels are not used; empty where they are.
    std::string why_no_kernels();

private:
    CopyLane &lane(std::unique_ptr<CopyLane> &lane, const char *thread_name);

    CudaDevice device_;
    CudaPinner pinner_;
    std::string why_no_kernels_;
    std::unique_ptr<CudaKernels> kernels_;
    std::mutex mutex_;
    std::unique_ptr<CopyLane> to_host_;
    std::unique_ptr<CopyLane> to_device_;
    std::unique_ptr<CopyLane> within_device_;
};

// Thread-safe. The driver is opened by the first question about it; after a failure, the next one
// tries again.
class CudaDevices {
public:
    explicit CudaDevices(std::string library) : library_(std::move(library)) {}

    // Whether there is a driver, and a device of that ordinal.
    bool reaches(std::int32_t ordinal);
    // Throws CudaFailure where the device cannot be used.
    CudaLanes &operator[](std::int32_t ordinal);
    // Reasons why something is slower than it could be, with what it is.
    std::vector<std::pair<std::string, std::string>> fallbacks();

private:
    const std::string library_;
    std::mutex mutex_;
    std::string why_not_;
    std::shared_ptr<const CudaDriver> driver_;
    std::map<std::int32_t, std::unique_ptr<CudaLanes>> lanes_;
};

// Points in the caller's streams: what was put on them before this was made is over, for whoever
// waits for `on(device)`. Made on the caller's thread, as some handles mean a stream of the thread.
class CallerOrder {
public:
    // Throws CudaFailure.
    CallerOrder(CudaDevices &devices, std::span<const std::int32_t> used,
                std::span<const CallerStream> streams);

    const CudaEvent &on(std::int32_t device) const { return *events_.at(device); }
    // on(ordinal) is from now on what is on `stream` by now.
    void follow(const CudaDevice &device, std::int32_t ordinal, cuda::CUstream stream);

private:
    std::map<std::int32_t, std::unique_ptr<CudaEvent>> events_;
};

} // namespace sucrose
