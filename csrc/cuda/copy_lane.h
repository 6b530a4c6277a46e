// One direction of copies of one device: a stream of its own, and a thread that waits for it.
//
// To the host, a chunk goes through these steps:
//
//   1. the stream waits for the event that the caller's stream recorded when the job was submitted
//   2. large contiguous parts are copied straight into the slot
//   3. small and strided parts are gathered by a kernel into one of two blocks on the device, on a
//      second stream, and copied from there: the other block is gathered into meanwhile
//   4. an event behind all of that is waited for by the lane's thread, which then says `done`
//
// To the device it is the reverse. Nothing here waits for the caller's stream.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "cuda/cuda_device.h"
#include "cuda/part_mover.h"
#include "extents.h"
#include "worker_pool.h"

namespace sucrose {

// Thread-safe.
class CopyLane {
public:
    // On the lane's thread, or on the caller's where nothing could be begun; must not block.
    using Done = std::function<void(std::exception_ptr error)>;

    // Without kernels every piece is a copy of its own.
    CopyLane(const CudaDevice &device, const CudaKernels *kernels, CudaPinner &pinner,
             const char *thread_name);
    // Waits for what is under way.
    ~CopyLane();
    CopyLane(const CopyLane &) = delete;
    CopyLane &operator=(const CopyLane &) = delete;

    // Parts to their offsets in the slot at `slot`, after the event `after`. Throws CudaFailure
    // where that could not be begun; nothing is under way then, and `done` is not called.
    void to_host(std::span<const DevicePart> parts, std::byte *slot, const CudaEvent &after,
                 Done done);
    void to_device(std::span<const DevicePart> parts, const std::byte *slot, const CudaEvent &after,
                   Done done);
    // To their offsets in device memory. What is put on `caller` from now on comes after the copy.
    void within_device(std::span<const DevicePart> parts, DeviceAddress target,
                       const CudaEvent &after, cuda::CUstream caller, Done done);

    cuda::CUstream stream() const noexcept { return copies_.get(); }
    // Whether kernels would have been used, had there been memory for what they need.
    bool lacks_memory() const noexcept { return lacks_memory_; }

private:
    struct Split {
        std::vector<DevicePart> plain; // one copy each
        std::vector<DevicePart> moved; // by kernels
    };
    // A block on the device, and when it may be used again.
    struct Block {
        std::unique_ptr<DeviceMemory> memory;
        std::unique_ptr<CudaEvent> filled;
        std::unique_ptr<CudaEvent> emptied;
    };
    // Where parts go or come from: one side is their tensors, the other is this.
    struct Place {
        enum class Kind { to_host, from_host, to_device };
        Kind kind;
        std::byte *host = nullptr;
        DeviceAddress device{};

        Place at(std::size_t offset) const noexcept;
    };

    Split split(std::span<const DevicePart> parts);
    bool ready_for_kernels();
    void copy_plain(std::span<const DevicePart> parts, const Place &place);
    void copy_bytes(DeviceAddress tensor, const Place &place, std::size_t nbytes);
    void copy_rows(DeviceAddress tensor, const StridedLayout::Runs &runs, const Place &place);
    void move_to_host(std::span<const DevicePart> parts, const Place &slot);
    void move_to_device(std::span<const DevicePart> parts, const Place &slot);
    // Enqueues in the order of the lane, and calls `done` when it is over.
    template <typename Enqueue>
    void run(std::span<const DevicePart> parts, const CudaEvent &after, Done done, Enqueue enqueue);
    // On the lane's thread.
    void conclude(const std::shared_ptr<CudaEvent> &over, const Done &done);
    void synchronize() noexcept;
    Block &next_block();
    std::shared_ptr<CudaEvent> take_event();

    const CudaDevice &device_;
    const CudaKernels *const kernels_;
    CudaPinner &pinner_;
    std::mutex mutex_; // of everything below, and of the order on the streams
    CudaStream copies_;
    CudaStream moves_; // kernels
    std::unique_ptr<PartMover> mover_;
    bool mover_tried_ = false;
    std::atomic<bool> lacks_memory_ = false;
    std::array<Block, 2> blocks_;
    std::size_t next_block_ = 0;
    std::vector<std::shared_ptr<CudaEvent>> spare_events_; // shared, as tasks are copied
    WorkerPool waiter_;                                    // last: joined before the rest goes
};

} // namespace sucrose
