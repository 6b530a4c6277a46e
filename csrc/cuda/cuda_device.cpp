#include "cuda/cuda_device.h"

#include <sys/mman.h>

#include <utility>

#include "io/system_calls.h"

namespace sucrose {

using namespace cuda;

CudaDevice::CudaDevice(std::shared_ptr<const CudaDriver> driver, int ordinal)
    : driver_(std::move(driver)) {
    check((*driver_)->cuDeviceGet(&device_, ordinal), "cuDeviceGet");
    check((*driver_)->cuDevicePrimaryCtxRetain(&context_, device_), "cuDevicePrimaryCtxRetain");
}

CudaDevice::~CudaDevice() {
    (*driver_)->cuDevicePrimaryCtxRelease_v2(device_);
}

std::size_t CudaDevice::total_nbytes() const {
    std::size_t free_nbytes = 0;
    std::size_t total_nbytes = 0;
    check((*driver_)->cuMemGetInfo_v2(&free_nbytes, &total_nbytes), "cuMemGetInfo");
    return total_nbytes;
}

CurrentContext::CurrentContext(const CudaDevice &device) : device_(device) {
    device.check(device.driver()->cuCtxPushCurrent_v2(device.context()), "cuCtxPushCurrent");
    relaxed_ = device.driver()->cuThreadExchangeStreamCaptureMode(&capture_mode_) == success;
}

CurrentContext::~CurrentContext() {
    if (relaxed_) {
        device_.driver()->cuThreadExchangeStreamCaptureMode(&capture_mode_);
    }
    CUcontext popped = nullptr;
    device_.driver()->cuCtxPopCurrent_v2(&popped);
}

CudaStream::CudaStream(const CudaDevice &device) : device_(device) {
    device.check(device.driver()->cuStreamCreate(&stream_, stream_non_blocking), "cuStreamCreate");
}

CudaStream::~CudaStream() {
    in_context(device_, [this] { device_.driver()->cuStreamDestroy_v2(stream_); });
}

CudaEvent::CudaEvent(const CudaDevice &device) : device_(device) {
    device.check(
        device.driver()->cuEventCreate(&event_, event_disable_timing | event_blocking_sync),
        "cuEventCreate");
}

CudaEvent::~CudaEvent() {
    in_context(device_, [this] { device_.driver()->cuEventDestroy_v2(event_); });
}

void CudaEvent::record(CUstream stream) const {
    device_.check(device_.driver()->cuEventRecord(event_, stream), "cuEventRecord");
}

void CudaEvent::order(CUstream stream) const {
    device_.check(device_.driver()->cuStreamWaitEvent(stream, event_, 0), "cuStreamWaitEvent");
}

void CudaEvent::wait() const {
    device_.check(device_.driver()->cuEventSynchronize(event_), "cuEventSynchronize");
}

bool CudaEvent::is_over() const {
    const CUresult result = device_.driver()->cuEventQuery(event_);
    if (result != error_not_ready) {
        device_.check(result, "cuEventQuery");
    }
    return result == success;
}

std::unique_ptr<DeviceMemory> DeviceMemory::try_allocate(const CudaDevice &device,
                                                         std::size_t nbytes,
                                                         std::size_t margin_nbytes,
                                                         CUstream stream) {
    const CudaDriver &driver = device.driver();
    std::size_t free_nbytes = 0;
    std::size_t total_nbytes = 0;
    if (driver->cuMemGetInfo_v2(&free_nbytes, &total_nbytes) != success ||
        free_nbytes < margin_nbytes || free_nbytes - margin_nbytes < nbytes) {
        return nullptr;
    }
    DeviceAddress address{};
    CUresult result = driver->cuMemAllocAsync(&address, nbytes, stream);
    const bool in_stream_order = result != error_not_supported;
    if (!in_stream_order) {
        result = driver->cuMemAlloc_v2(&address, nbytes);
    }
    if (result != success) {
        return nullptr;
    }
    return std::unique_ptr<DeviceMemory>(
        new DeviceMemory(device, address, stream, in_stream_order));
}

DeviceMemory::~DeviceMemory() {
    in_context(device_, [this] {
        if (in_stream_order_) {
            device_.driver()->cuMemFreeAsync(address_, stream_);
        } else {
            device_.driver()->cuMemFree_v2(address_);
        }
    });
}

bool CudaPinner::pin(std::byte *address, std::size_t nbytes) noexcept {
    try {
        const CurrentContext current(device_);
        device_.check(
            fault::error_at(fault::Site::allocate) != 0
                ? error_out_of_memory
                : device_.driver()->cuMemHostRegister_v2(address, nbytes, host_register_portable),
            "cuMemHostRegister");
        return true;
    } catch (const Error &error) {
        const std::lock_guard lock(mutex_);
        if (why_refused_.empty()) {
            why_refused_ = error.what();
        }
        return false;
    }
}

void CudaPinner::unpin(std::byte *address) noexcept {
    in_context(device_, [this, address] { device_.driver()->cuMemHostUnregister(address); });
}

std::string CudaPinner::why_refused() const {
    const std::lock_guard lock(mutex_);
    return why_refused_;
}

std::unique_ptr<PinnedMemory> PinnedMemory::try_allocate(CudaPinner &pinner, std::size_t nbytes) {
    void *address = system_calls::mmap(nullptr, nbytes, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (address == MAP_FAILED) {
        return nullptr;
    }
    UniqueMapping mapping({static_cast<std::byte *>(address), nbytes});
    ::madvise(address, nbytes, MADV_DONTFORK); // as for slots
    if (!pinner.pin(mapping.get().data, nbytes)) {
        return nullptr;
    }
    return std::unique_ptr<PinnedMemory>(new PinnedMemory(pinner, std::move(mapping)));
}

} // namespace sucrose
