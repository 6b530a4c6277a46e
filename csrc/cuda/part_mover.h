// Many small or strided tensors of one device, moved by kernels instead of one copy for each piece.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "cuda/cuda_device.h"
#include "cuda/cuda_kernels.h"
#include "extents.h"
#include "kernel_bodies.h"

namespace sucrose {

// Puts descriptors of parts where kernels read them, and launches. The device's context must be
// current. Not thread-safe.
class PartMover {
public:
    // nullptr where the device or the host has no memory left for descriptors.
    static std::unique_ptr<PartMover> try_create(const CudaDevice &device,
                                                 const CudaKernels &kernels, CudaPinner &pinner,
                                                 cuda::CUstream stream);
    ~PartMover();
    PartMover(const PartMover &) = delete;
    PartMover &operator=(const PartMover &) = delete;

    // Whether the kernels can address it.
    static bool can_move(const DevicePart &part) noexcept;

    // On the stream: parts to their offsets in `block`, and the reverse.
    void gather(std::span<const DevicePart> parts, DeviceAddress block);
    void scatter(std::span<const DevicePart> parts, DeviceAddress block);

private:
    enum class Direction { gather, scatter };
    // Descriptors of one launch: in pinned memory, and their copy on the device.
    struct Table;

    PartMover(const CudaDevice &device, const CudaKernels &kernels, CudaPinner &pinner,
              cuda::CUstream stream);
    // False where there is no memory for it.
    bool try_add_table();
    void move(std::span<const DevicePart> parts, DeviceAddress block, Direction direction);
    // The table that was used longest ago, where the kernels have done with it. Else a new one, as
    // they may have to wait for long; only with very many of them, this waits.
    Table &next_table();
    void launch(Table &table, DeviceAddress block, Direction direction);

    const CudaDevice &device_;
    const CudaKernels &kernels_;
    CudaPinner &pinner_;
    const cuda::CUstream stream_;
    std::vector<std::unique_ptr<Table>> tables_;
    std::size_t next_ = 0; // the one that was used longest ago, before those that follow it
};

} // namespace sucrose
