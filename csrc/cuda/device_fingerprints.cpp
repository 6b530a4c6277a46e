#include "cuda/device_fingerprints.h"

#include <cstdint>
#include <memory>

#include "buffer_pool.h"

namespace sucrose {

namespace {

// Chunks that follow each other in memory, all but the last whole: one launch for all of them.
std::size_t run_length(std::span<const DeviceChunk> chunks) noexcept {
    std::size_t count = 1;
    while (count < chunks.size() && chunks[count - 1].nbytes == chunk_nbytes &&
           chunks[count].address == chunks[count - 1].address + chunk_nbytes) {
        ++count;
    }
    return count;
}

} // namespace

std::vector<Fingerprint> try_fingerprint_on_device(CudaLanes &lanes,
                                                   std::span<const DeviceChunk> chunks,
                                                   const CudaEvent &after) {
    const CudaKernels *kernels = lanes.kernels();
    if (kernels == nullptr) {
        return {};
    }
    const CudaDevice &device = lanes.device();
    const CurrentContext current(device);
    const CudaStream stream(device);
    const std::size_t nbytes = chunks.size() * sizeof(Fingerprint);
    const std::unique_ptr<DeviceMemory> sums =
        DeviceMemory::try_allocate(device, nbytes, nbytes, stream.get());
    if (sums == nullptr) {
        return {};
    }
    after.order(stream.get());
    for (std::size_t i = 0; i < chunks.size();) {
        const std::size_t count = run_length(chunks.subspan(i));
        const std::uint64_t run_nbytes = (count - 1) * chunk_nbytes + chunks[i + count - 1].nbytes;
        kernels->fingerprint(chunks[i].address, run_nbytes,
                             sums->address() + i * sizeof(Fingerprint), stream.get());
        i += count;
    }
    std::vector<Fingerprint> results(chunks.size());
    device.check(device.driver()->cuMemcpyDtoHAsync_v2(results.data(), sums->address(), nbytes,
                                                       stream.get()),
                 "cuMemcpyDtoHAsync");
    const CudaEvent copied(device);
    copied.record(stream.get());
    copied.wait();
    return results;
}

} // namespace sucrose
