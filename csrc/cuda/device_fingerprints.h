// Fingerprints that a device makes of its own memory.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "cuda/cuda_devices.h"
#include "hash/fingerprint.h"

namespace sucrose {

// Contiguous device memory of at most chunk_nbytes.
struct DeviceChunk {
    DeviceAddress address;
    std::size_t nbytes;
};

// One fingerprint for each chunk, of what it holds after the event `after`. Blocks until they are
// there, but not for what else is on the caller's stream. Empty where the device has no kernels or
// no memory for the results. Throws CudaFailure.
std::vector<Fingerprint> try_fingerprint_on_device(CudaLanes &lanes,
                                                   std::span<const DeviceChunk> chunks,
                                                   const CudaEvent &after);

} // namespace sucrose
