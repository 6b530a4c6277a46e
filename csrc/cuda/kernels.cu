// The device kernels: the bodies of kernel_bodies.h, each thread of them at its place.
//
// Compiled by nvcc to one image that the core embeds and hands to the driver; no CUDA runtime.
#include "kernel_bodies.h"

namespace kernel = sucrose::kernel;
using sucrose::kernel_threads;
using sucrose::KernelLayout;
using sucrose::KernelPiece;

namespace {

template <typename Direction>
__device__ void copy_piece_strided(std::byte *block, const KernelPiece &piece,
                                   const KernelLayout *layouts) {
    kernel::copy_strided<Direction>(block + piece.block_offset,
                                    reinterpret_cast<std::byte *>(piece.tensor), piece,
                                    layouts[piece.layout], threadIdx.x, blockDim.x);
}

// Of all threads of the block; the result is thread 0's.
__device__ std::uint64_t sum_of_block(std::uint64_t value) {
    __shared__ std::uint64_t of_warp[kernel_threads / 32];
    for (unsigned distance = 16; distance > 0; distance /= 2) {
        value += __shfl_down_sync(0xFFFFFFFF, value, distance);
    }
    if (threadIdx.x % 32 == 0) {
        of_warp[threadIdx.x / 32] = value;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (unsigned warp = 1; warp < kernel_threads / 32; ++warp) {
            value += of_warp[warp];
        }
    }
    __syncthreads(); // before the next sum overwrites of_warp
    return value;
}

__device__ std::uint64_t thread_of_all() {
    return std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}

__device__ std::uint64_t threads_of_all() {
    return std::uint64_t{gridDim.x} * blockDim.x;
}

} // namespace

extern "C" {

__global__ void __launch_bounds__(kernel_threads)
    sucrose_gather(std::byte *block, const KernelPiece *pieces, const KernelLayout *layouts) {
    const KernelPiece piece = pieces[blockIdx.x];
    if (piece.layout != sucrose::no_layout) {
        return copy_piece_strided<kernel::Gather>(block, piece, layouts);
    }
    kernel::copy_contiguous(block + piece.block_offset,
                            reinterpret_cast<const std::byte *>(piece.tensor + piece.begin),
                            piece.nbytes, threadIdx.x, blockDim.x);
}

__global__ void __launch_bounds__(kernel_threads)
    sucrose_scatter(std::byte *block, const KernelPiece *pieces, const KernelLayout *layouts) {
    const KernelPiece piece = pieces[blockIdx.x];
    if (piece.layout != sucrose::no_layout) {
        return copy_piece_strided<kernel::Scatter>(block, piece, layouts);
    }
    kernel::copy_contiguous(reinterpret_cast<std::byte *>(piece.tensor + piece.begin),
                            block + piece.block_offset, piece.nbytes, threadIdx.x, blockDim.x);
}

__global__ void __launch_bounds__(kernel_threads)
    sucrose_split_bytes(std::byte *target, const std::byte *source, std::uint64_t nbytes,
                        std::uint32_t itemsize) {
    kernel::split_bytes(target, source, nbytes, itemsize, thread_of_all(), threads_of_all());
}

__global__ void __launch_bounds__(kernel_threads)
    sucrose_merge_bytes(std::byte *target, const std::byte *source, std::uint64_t nbytes,
                        std::uint32_t itemsize) {
    kernel::merge_bytes(target, source, nbytes, itemsize, thread_of_all(), threads_of_all());
}

// One thread for each chunk of `nbytes`.
__global__ void __launch_bounds__(kernel_threads)
    sucrose_fingerprint_begin(kernel::FingerprintSums *results, std::uint64_t nbytes) {
    const std::uint64_t chunk = thread_of_all();
    const std::uint64_t begin = chunk * kernel::fingerprint_chunk_nbytes;
    if (begin < nbytes) {
        results[chunk] = kernel::fingerprint_begin(kernel::chunk_length(nbytes, begin));
    }
}

// One block for each share.
__global__ void __launch_bounds__(kernel_threads)
    sucrose_fingerprint(kernel::FingerprintSums *results, const std::byte *source,
                        std::uint64_t nbytes) {
    const kernel::FingerprintSums sums =
        kernel::fingerprint_share(source, nbytes, blockIdx.x, threadIdx.x, blockDim.x);
    kernel::FingerprintSums &result = results[kernel::chunk_of_share(blockIdx.x)];
    for (unsigned lane = 0; lane < 2; ++lane) {
        const std::uint64_t sum = sum_of_block(sums.lane[lane]);
        if (threadIdx.x == 0) {
            atomicAdd(reinterpret_cast<unsigned long long *>(&result.lane[lane]), sum);
        }
    }
}

} // extern "C"
