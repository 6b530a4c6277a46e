// Copies between a slot and all devices that have a part of its chunk.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "buffer_pool.h"
#include "extents.h"
#include "pipeline.h"

namespace sucrose {

// The parts that lie on `device`, in order.
std::vector<DevicePart> parts_on(std::span<const DevicePart> parts, std::int32_t device);
// Their bytes.
std::uint64_t nbytes_of(std::span<const DevicePart> parts) noexcept;

using TransferDone = std::function<void(std::exception_ptr error)>;

// Begins the copies, each device's after its event in `ready`. `done` is called once, when nothing
// is under way any more, with the first error; it must not block.
void copy_to_slot(Scheduler &scheduler, const CallerOrder &ready, std::span<const DevicePart> parts,
                  const SlotLease &slot, TraceTrack track, TransferDone done);
void copy_from_slot(Scheduler &scheduler, const CallerOrder &ready,
                    std::span<const DevicePart> parts, const SlotLease &slot, TraceTrack track,
                    TransferDone done);

} // namespace sucrose
