// Fingerprints of memory of the host and of devices, cut into pieces.
//
//   1. Every extent is cut into pieces, and every piece into chunks, counted from where it begins:
//      each of these has one fingerprint (fingerprint.h), in order.
//   2. What lies in host memory is summed up by the workers; strided, it is gathered first.
//   3. What is contiguous on a device is summed up there, behind what is on the caller's stream,
//      and only the fingerprints are copied.
//   4. Anything else on a device, and all of it in a build without kernels, is copied to the host
//      chunk by chunk and treated there as in step 2.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cuda/cuda_devices.h"
#include "extents.h"
#include "hash/fingerprint.h"
#include "pipeline.h"

namespace sucrose {

// Blocks until all is done. `poll` is called by the calling thread every now and then; what it
// throws ends the work and is rethrown once no memory is touched any more. `piece_nbytes` has one
// size for each extent. Throws Error where one of them is 0, CudaFailure where a device fails.
std::vector<Fingerprint> fingerprint_extents(Scheduler &scheduler, const ExtentList &sources,
                                             std::span<const std::uint64_t> piece_nbytes,
                                             std::span<const CallerStream> streams,
                                             const std::function<void()> &poll);

} // namespace sucrose
