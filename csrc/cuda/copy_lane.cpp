#include "cuda/copy_lane.h"

#include <utility>

#include "error.h"

namespace sucrose {

using namespace cuda;

namespace {

// A copy costs the driver and the copy engine a few microseconds, whatever its size.
constexpr std::size_t plain_min_nbytes = 256 << 10;
constexpr std::size_t few_copies = 4;

// Of what drivers accept; 2 GiB on all that we know.
constexpr std::int64_t max_pitch_nbytes = std::int64_t{1} << 30;

// Calls visit(offset, nbytes) for each stretch that parts cover without a gap; they are in order.
template <typename Visit> void for_each_stretch(std::span<const DevicePart> parts, Visit visit) {
    for (std::size_t i = 0; i < parts.size();) {
        const std::size_t begin = parts[i].offset;
        std::size_t end = begin;
        for (; i < parts.size() && parts[i].offset == end; ++i) {
            end += parts[i].nbytes;
        }
        visit(begin, end - begin);
    }
}

} // namespace

CopyLane::CopyLane(const CudaDevice &device, const CudaKernels *kernels, CudaPinner &pinner,
                   const char *thread_name)
    : device_(device), kernels_(kernels), pinner_(pinner), copies_(device), moves_(device),
      waiter_(thread_name, 1) {}

CopyLane::~CopyLane() {
    synchronize();
}

CopyLane::Place CopyLane::Place::at(std::size_t offset) const noexcept {
    return {kind, host + offset, device + offset};
}

void CopyLane::to_host(std::span<const DevicePart> parts, std::byte *slot, const CudaEvent &after,
                       Done done) {
    const Place place{.kind = Place::Kind::to_host, .host = slot};
    run(parts, after, std::move(done), [&](const Split &by) {
        copy_plain(by.plain, place);
        if (!by.moved.empty()) {
            move_to_host(by.moved, place);
        }
        return copies_.get();
    });
}

void CopyLane::to_device(std::span<const DevicePart> parts, const std::byte *slot,
                         const CudaEvent &after, Done done) {
    const Place place{.kind = Place::Kind::from_host, .host = const_cast<std::byte *>(slot)};
    run(parts, after, std::move(done), [&](const Split &by) {
        copy_plain(by.plain, place);
        if (by.moved.empty()) {
            return copies_.get();
        }
        move_to_device(by.moved, place);
        return moves_.get();
    });
}

void CopyLane::within_device(std::span<const DevicePart> parts, DeviceAddress target,
                             const CudaEvent &after, CUstream caller, Done done) {
    run(parts, after, std::move(done), [&](const Split &by) {
        const CudaEvent order(device_);
        order.record(copies_.get()); // the target was allocated in the order of that stream
        order.order(moves_.get());
        copy_plain(by.plain, {.kind = Place::Kind::to_device, .device = target});
        if (!by.moved.empty()) { // no block between: the target is on the device
            mover_->gather(by.moved, target);
        }
        order.record(moves_.get());
        order.order(copies_.get());
        order.record(copies_.get());
        order.order(caller);
        return copies_.get();
    });
}

// `enqueue` returns the stream that ends last.
template <typename Enqueue>
void CopyLane::run(std::span<const DevicePart> parts, const CudaEvent &after, Done done,
                   Enqueue enqueue) {
    const std::lock_guard lock(mutex_);
    const CurrentContext current(device_);
    const Split by = split(parts);
    std::shared_ptr<CudaEvent> over = take_event();
    try {
        after.order(copies_.get());
        after.order(moves_.get());
        over->record(enqueue(by));
        waiter_.post([this, over, done = std::move(done)] { conclude(over, done); });
    } catch (...) { // what was begun must not go on with memory that is somebody else's soon
        synchronize();
        throw;
    }
}

void CopyLane::conclude(const std::shared_ptr<CudaEvent> &over, const Done &done) {
    std::exception_ptr error;
    try {
        const CurrentContext current(device_);
        over->wait();
    } catch (...) {
        error = std::current_exception();
        synchronize();
    }
    {
        const std::lock_guard lock(mutex_);
        spare_events_.push_back(over);
    }
    done(error);
}

void CopyLane::synchronize() noexcept {
    in_context(device_, [this] {
        device_.driver()->cuStreamSynchronize(copies_.get());
        device_.driver()->cuStreamSynchronize(moves_.get());
    });
}

std::shared_ptr<CudaEvent> CopyLane::take_event() {
    if (spare_events_.empty()) {
        return std::make_shared<CudaEvent>(device_);
    }
    std::shared_ptr<CudaEvent> event = std::move(spare_events_.back());
    spare_events_.pop_back();
    return event;
}

// Kernels where they save copies: for strided parts, and for many small ones.
CopyLane::Split CopyLane::split(std::span<const DevicePart> parts) {
    Split split;
    const bool many = parts.size() > few_copies;
    for (const DevicePart &part : parts) {
        const bool moved = (part.layout != nullptr || (many && part.nbytes < plain_min_nbytes)) &&
                           PartMover::can_move(part) && ready_for_kernels();
        (moved ? split.moved : split.plain).push_back(part);
    }
    return split;
}

bool CopyLane::ready_for_kernels() {
    if (!mover_tried_ && kernels_ != nullptr) {
        auto mover = PartMover::try_create(device_, *kernels_, pinner_, moves_.get());
        bool complete = mover != nullptr;
        for (Block &block : blocks_) {
            block.memory =
                DeviceMemory::try_allocate(device_, chunk_nbytes, chunk_nbytes, moves_.get());
            block.filled = std::make_unique<CudaEvent>(device_);
            block.emptied = std::make_unique<CudaEvent>(device_);
            block.emptied->record(moves_.get()); // not there for the other stream before this
            complete = complete && block.memory != nullptr;
        }
        if (complete) {
            mover_ = std::move(mover);
        } else {
            blocks_ = {};
            lacks_memory_ = true;
        }
    }
    mover_tried_ = true;
    return mover_ != nullptr;
}

void CopyLane::copy_plain(std::span<const DevicePart> parts, const Place &place) {
    for (const DevicePart &part : parts) {
        const Place target = place.at(part.offset);
        if (part.layout == nullptr) {
            copy_bytes(part.tensor + part.begin, target, part.nbytes);
            continue;
        }
        std::size_t at = 0;
        part.layout->for_each_runs(part.begin, part.nbytes, [&](const StridedLayout::Runs &runs) {
            copy_rows(part.tensor + static_cast<std::uint64_t>(runs.offset), runs, target.at(at));
            at += runs.nbytes * runs.count;
        });
    }
}

void CopyLane::copy_bytes(DeviceAddress tensor, const Place &place, std::size_t nbytes) {
    const CudaDriver &driver = device_.driver();
    const CUstream stream = copies_.get();
    switch (place.kind) {
    case Place::Kind::to_host:
        return driver.check(driver->cuMemcpyDtoHAsync_v2(place.host, tensor, nbytes, stream),
                            "cuMemcpyDtoHAsync");
    case Place::Kind::from_host:
        return driver.check(driver->cuMemcpyHtoDAsync_v2(tensor, place.host, nbytes, stream),
                            "cuMemcpyHtoDAsync");
    case Place::Kind::to_device:
        return driver.check(driver->cuMemcpyDtoDAsync_v2(place.device, tensor, nbytes, stream),
                            "cuMemcpyDtoDAsync");
    }
}

// As one copy with a pitch where there is one that the driver takes.
void CopyLane::copy_rows(DeviceAddress tensor, const StridedLayout::Runs &runs,
                         const Place &place) {
    if (runs.count == 1 || runs.stride < static_cast<std::int64_t>(runs.nbytes) ||
        runs.stride > max_pitch_nbytes) {
        for (std::size_t i = 0; i < runs.count; ++i) {
            const std::int64_t skip = static_cast<std::int64_t>(i) * runs.stride;
            copy_bytes(tensor + static_cast<std::uint64_t>(skip), place.at(i * runs.nbytes),
                       runs.nbytes);
        }
        return;
    }
    const auto pitch = static_cast<std::size_t>(runs.stride);
    Memcpy2D copy{.width_nbytes = runs.nbytes, .height = runs.count};
    if (place.kind == Place::Kind::from_host) {
        copy.src_memory_type = memory_type_host;
        copy.src_host = place.host;
        copy.src_pitch = runs.nbytes;
        copy.dst_memory_type = memory_type_device;
        copy.dst_device = tensor;
        copy.dst_pitch = pitch;
    } else {
        const bool to_host = place.kind == Place::Kind::to_host;
        copy.src_memory_type = memory_type_device;
        copy.src_device = tensor;
        copy.src_pitch = pitch;
        copy.dst_memory_type = to_host ? memory_type_host : memory_type_device;
        copy.dst_host = place.host;
        copy.dst_device = place.device;
        copy.dst_pitch = runs.nbytes;
    }
    device_.check(device_.driver()->cuMemcpy2DAsync_v2(&copy, copies_.get()), "cuMemcpy2DAsync");
}

void CopyLane::move_to_host(std::span<const DevicePart> parts, const Place &slot) {
    Block &block = next_block();
    block.emptied->order(moves_.get());
    mover_->gather(parts, block.memory->address());
    block.filled->record(moves_.get());
    block.filled->order(copies_.get());
    for_each_stretch(parts, [&](std::size_t offset, std::size_t nbytes) {
        copy_bytes(block.memory->address() + offset, slot.at(offset), nbytes);
    });
    block.emptied->record(copies_.get());
}

void CopyLane::move_to_device(std::span<const DevicePart> parts, const Place &slot) {
    Block &block = next_block();
    block.emptied->order(copies_.get());
    for_each_stretch(parts, [&](std::size_t offset, std::size_t nbytes) {
        copy_bytes(block.memory->address() + offset, slot.at(offset), nbytes);
    });
    block.filled->record(copies_.get());
    block.filled->order(moves_.get());
    mover_->scatter(parts, block.memory->address());
    block.emptied->record(moves_.get());
}

CopyLane::Block &CopyLane::next_block() {
    Block &block = blocks_[next_block_];
    next_block_ = (next_block_ + 1) % blocks_.size();
    return block;
}

} // namespace sucrose
