// One CUDA device as the core uses it: its primary context (the one that torch uses, too), and
// owners of streams, events and memory in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "buffer_pool.h"
#include "cuda/cuda_driver.h"
#include "error.h"
#include "handle.h"

namespace sucrose {

// Thread-safe.
class CudaDevice {
public:
    // Throws CudaFailure, also where there is no such device.
    CudaDevice(std::shared_ptr<const CudaDriver> driver, int ordinal);
    ~CudaDevice();
    CudaDevice(const CudaDevice &) = delete;
    CudaDevice &operator=(const CudaDevice &) = delete;

    const CudaDriver &driver() const noexcept { return *driver_; }
    cuda::CUcontext context() const noexcept { return context_; }
    // Of its memory; its context must be current.
    std::size_t total_nbytes() const;
    void check(cuda::CUresult result, const char *call) const { driver_->check(result, call); }

private:
    std::shared_ptr<const CudaDriver> driver_;
    cuda::CUdevice device_ = 0;
    cuda::CUcontext context_ = nullptr;
};

// Makes a device's context the current one of this thread, and then the one before it again. While
// another thread captures a graph, calls that might disturb one are refused and the capture with
// them; ours have nothing to do with it, which the relaxed mode says.
class CurrentContext {
public:
    explicit CurrentContext(const CudaDevice &device);
    ~CurrentContext();
    CurrentContext(const CurrentContext &) = delete;
    CurrentContext &operator=(const CurrentContext &) = delete;

private:
    const CudaDevice &device_;
    int capture_mode_ = cuda::stream_capture_mode_relaxed; // the thread's own, while this lives
    bool relaxed_ = false;
};

// For destructors and after failures, on any thread: calls use() with the device's context current,
// unless that is gone, and everything in it.
template <typename Use> void in_context(const CudaDevice &device, Use use) noexcept {
    try {
        const CurrentContext current(device);
        use();
    } catch (const Error &) {
    }
}

// A stream of the core's own, which does not wait for the legacy default stream. Whoever calls a
// member has the device's context current.
class CudaStream {
public:
    explicit CudaStream(const CudaDevice &device);
    ~CudaStream();
    CudaStream(const CudaStream &) = delete;
    CudaStream &operator=(const CudaStream &) = delete;

    cuda::CUstream get() const noexcept { return stream_; }

private:
    const CudaDevice &device_;
    cuda::CUstream stream_ = nullptr;
};

// A point in a stream. Likewise.
class CudaEvent {
public:
    explicit CudaEvent(const CudaDevice &device);
    ~CudaEvent();
    CudaEvent(const CudaEvent &) = delete;
    CudaEvent &operator=(const CudaEvent &) = delete;

    void record(cuda::CUstream stream) const;
    // What is put on `stream` from now on comes after the event.
    void order(cuda::CUstream stream) const;
    // Blocks until it has happened, without spinning.
    void wait() const;
    // True where it was never recorded, too.
    bool is_over() const;

private:
    const CudaDevice &device_;
    cuda::CUevent event_ = nullptr;
};

// Device memory that is allocated and freed in the order of a stream, so that freeing it makes
// nobody wait.
class DeviceMemory {
public:
    // Empty where the device has no room for it, with `margin_nbytes` left to the program.
    static std::unique_ptr<DeviceMemory> try_allocate(const CudaDevice &device, std::size_t nbytes,
                                                      std::size_t margin_nbytes,
                                                      cuda::CUstream stream);
    // Frees it once what is on the stream by now has run.
    ~DeviceMemory();
    DeviceMemory(const DeviceMemory &) = delete;
    DeviceMemory &operator=(const DeviceMemory &) = delete;

    DeviceAddress address() const noexcept { return address_; }

private:
    DeviceMemory(const CudaDevice &device, DeviceAddress address, cuda::CUstream stream,
                 bool in_stream_order) noexcept
        : device_(device), address_(address), stream_(stream), in_stream_order_(in_stream_order) {}

    const CudaDevice &device_;
    const DeviceAddress address_;
    const cuda::CUstream stream_;
    const bool in_stream_order_; // false with drivers that cannot
};

// Pins host memory for every device. Thread-safe.
class CudaPinner final : public PagePinner {
public:
    explicit CudaPinner(const CudaDevice &device) noexcept : device_(device) {}

    bool pin(std::byte *address, std::size_t nbytes) noexcept override;
    void unpin(std::byte *address) noexcept override;
    // Why memory could not be pinned the first time that happened; empty where it never did.
    std::string why_refused() const;

private:
    const CudaDevice &device_;
    mutable std::mutex mutex_;
    std::string why_refused_;
};

// Page-aligned host memory that is pinned while it lives.
class PinnedMemory {
public:
    // nullptr where it cannot be had.
    static std::unique_ptr<PinnedMemory> try_allocate(CudaPinner &pinner, std::size_t nbytes);
    ~PinnedMemory() { pinner_.unpin(data()); }
    PinnedMemory(const PinnedMemory &) = delete;
    PinnedMemory &operator=(const PinnedMemory &) = delete;

    std::byte *data() const noexcept { return mapping_.get().data; }

private:
    PinnedMemory(CudaPinner &pinner, UniqueMapping mapping) noexcept
        : pinner_(pinner), mapping_(std::move(mapping)) {}

    CudaPinner &pinner_;
    UniqueMapping mapping_;
};

} // namespace sucrose
