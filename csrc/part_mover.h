// Many small or strided tensors of one device, moved by kernels instead of one copy for each piece.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "cuda_device.h"
#include "cuda_kernels.h"
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
    static constexpr std::size_t table_count = 4;

    PartMover(const CudaDevice &device, const CudaKernels &kernels, cuda::CUstream stream,
              std::unique_ptr<PinnedMemory> host, std::unique_ptr<DeviceMemory> memory);
    void move(std::span<const DevicePart> parts, DeviceAddress block, Direction direction);
    // Waits until the kernels have done with the table that was used longest ago.
    Table &next_table();
    void launch(Table &table, DeviceAddress block, Direction direction);

    const CudaDevice &device_;
    const CudaKernels &kernels_;
    const cuda::CUstream stream_;
    std::unique_ptr<PinnedMemory> host_;
    std::unique_ptr<DeviceMemory> memory_;
    std::array<std::unique_ptr<Table>, table_count> tables_;
    std::size_t next_ = 0;
};

} // namespace sucrose
