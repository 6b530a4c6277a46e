#include "cuda/part_mover.h"

#include <algorithm>
#include <utility>

#include "buffer_pool.h"

namespace sucrose {

namespace {

constexpr std::size_t table_nbytes = std::size_t{1} << 20;
constexpr std::size_t max_tables = 64;
constexpr std::size_t max_layouts = 2048;
constexpr std::size_t max_pieces =
    (table_nbytes - max_layouts * sizeof(KernelLayout)) / sizeof(KernelPiece);

} // namespace

// In each memory layouts first, then pieces.
struct PartMover::Table {
    Table(const CudaDevice &device, std::unique_ptr<PinnedMemory> host_memory,
          std::unique_ptr<DeviceMemory> device_memory)
        : host(std::move(host_memory)), on_device(std::move(device_memory)),
          layouts(reinterpret_cast<KernelLayout *>(host->data())),
          pieces(
              reinterpret_cast<KernelPiece *>(host->data() + max_layouts * sizeof(KernelLayout))),
          device_layouts(on_device->address()),
          device_pieces(on_device->address() + max_layouts * sizeof(KernelLayout)), used(device) {}

    std::unique_ptr<PinnedMemory> host;
    std::unique_ptr<DeviceMemory> on_device;
    KernelLayout *layouts;
    KernelPiece *pieces;
    DeviceAddress device_layouts;
    DeviceAddress device_pieces;
    std::size_t layout_count = 0;
    std::size_t piece_count = 0;
    CudaEvent used; // the last launch with it is over
};

std::unique_ptr<PartMover> PartMover::try_create(const CudaDevice &device,
                                                 const CudaKernels &kernels, CudaPinner &pinner,
                                                 cuda::CUstream stream) {
    std::unique_ptr<PartMover> mover(new PartMover(device, kernels, pinner, stream));
    return mover->try_add_table() ? std::move(mover) : nullptr;
}

PartMover::PartMover(const CudaDevice &device, const CudaKernels &kernels, CudaPinner &pinner,
                     cuda::CUstream stream)
    : device_(device), kernels_(kernels), pinner_(pinner), stream_(stream) {}

bool PartMover::try_add_table() {
    auto host = PinnedMemory::try_allocate(pinner_, table_nbytes);
    auto on_device = DeviceMemory::try_allocate(device_, table_nbytes, table_nbytes, stream_);
    if (host == nullptr || on_device == nullptr) {
        return false;
    }
    tables_.insert(tables_.begin() + static_cast<std::ptrdiff_t>(next_),
                   std::make_unique<Table>(device_, std::move(host), std::move(on_device)));
    return true;
}

PartMover::~PartMover() {
    in_context(device_, [this] { device_.driver()->cuStreamSynchronize(stream_); });
}

bool PartMover::can_move(const DevicePart &part) noexcept {
    KernelLayout layout;
    return part.layout == nullptr || part.layout->describe(layout);
}

void PartMover::gather(std::span<const DevicePart> parts, DeviceAddress block) {
    move(parts, block, Direction::gather);
}

void PartMover::scatter(std::span<const DevicePart> parts, DeviceAddress block) {
    move(parts, block, Direction::scatter);
}

void PartMover::move(std::span<const DevicePart> parts, DeviceAddress block, Direction direction) {
    Table *table = &next_table();
    for (const DevicePart &part : parts) {
        std::uint32_t layout = no_layout;
        for (std::size_t at = 0; at < part.nbytes; at += kernel_piece_nbytes) {
            if (table->piece_count == max_pieces ||
                (layout == no_layout && part.layout != nullptr &&
                 table->layout_count == max_layouts)) {
                launch(*table, block, direction);
                table = &next_table();
                layout = no_layout;
            }
            if (layout == no_layout && part.layout != nullptr) {
                layout = static_cast<std::uint32_t>(table->layout_count);
                part.layout->describe(table->layouts[table->layout_count++]);
            }
            const std::size_t n = std::min<std::size_t>(kernel_piece_nbytes, part.nbytes - at);
            table->pieces[table->piece_count++] = {
                .tensor = static_cast<std::uint64_t>(part.tensor),
                .begin = part.begin + at,
                .block_offset = part.offset + at,
                .nbytes = static_cast<std::uint32_t>(n),
                .layout = layout,
            };
        }
    }
    if (table->piece_count != 0) {
        launch(*table, block, direction);
    }
}

PartMover::Table &PartMover::next_table() {
    const bool over = tables_[next_]->used.is_over();
    if (!over && (tables_.size() == max_tables || !try_add_table())) {
        tables_[next_]->used.wait();
    }
    Table &table = *tables_[next_];
    next_ = (next_ + 1) % tables_.size();
    table.layout_count = 0;
    table.piece_count = 0;
    return table;
}

void PartMover::launch(Table &table, DeviceAddress block, Direction direction) {
    const CudaDriver &driver = device_.driver();
    auto put = [&](DeviceAddress target, const void *source, std::size_t nbytes) {
        driver.check(driver->cuMemcpyHtoDAsync_v2(target, source, nbytes, stream_),
                     "cuMemcpyHtoDAsync");
    };
    if (table.layout_count != 0) {
        put(table.device_layouts, table.layouts, table.layout_count * sizeof(KernelLayout));
    }
    put(table.device_pieces, table.pieces, table.piece_count * sizeof(KernelPiece));
    const auto count = static_cast<std::uint32_t>(table.piece_count);
    if (direction == Direction::gather) {
        kernels_.gather(block, table.device_pieces, count, table.device_layouts, stream_);
    } else {
        kernels_.scatter(block, table.device_pieces, count, table.device_layouts, stream_);
    }
    table.used.record(stream_);
}

} // namespace sucrose
