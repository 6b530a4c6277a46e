// The kernels as nvcc compiled them, on a real device: elsewhere these tests are skipped.
// SUCROSE_TEST_CUDA_DRIVER names another driver than the system's.
#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "codec/byte_group.h"
#include "cuda/cuda_device.h"
#include "cuda/cuda_driver.h"
#include "cuda/cuda_kernels.h"
#include "cuda/part_mover.h"
#include "engine_fixture.h"
#include "extents.h"
#include "hash/fingerprint.h"
#include "strided.h"

namespace {

using namespace sucrose;
using engine_fixture::random_bytes;

std::shared_ptr<const CudaDriver> real_driver() {
    const char *name = std::getenv("SUCROSE_TEST_CUDA_DRIVER");
    std::string why_not;
    return CudaDriver::open(name != nullptr ? name : "auto", why_not);
}

bool no_gpu() {
    return real_driver() == nullptr;
}

// A device with memory that is copied to and from in order.
class Gpu {
public:
    Gpu() : device_(real_driver(), 0), current_(device_), stream_(device_), pinner_(device_) {}

    DeviceAddress put(std::span<const std::byte> bytes) {
        const DeviceAddress address = reserve(bytes.size());
        device_.check(device_.driver()->cuMemcpyHtoDAsync_v2(address, bytes.data(), bytes.size(),
                                                             stream_.get()),
                      "cuMemcpyHtoDAsync");
        synchronize();
        return address;
    }
    DeviceAddress reserve(std::size_t nbytes) {
        auto memory = DeviceMemory::try_allocate(device_, nbytes + 1, 0, stream_.get());
        REQUIRE(memory != nullptr);
        memories_.push_back(std::move(memory));
        return memories_.back()->address();
    }
    std::vector<std::byte> get(DeviceAddress address, std::size_t nbytes) {
        std::vector<std::byte> bytes(nbytes);
        device_.check(
            device_.driver()->cuMemcpyDtoHAsync_v2(bytes.data(), address, nbytes, stream_.get()),
            "cuMemcpyDtoHAsync");
        synchronize();
        return bytes;
    }
    std::unique_ptr<CudaKernels> kernels() {
        std::string why_not;
        auto kernels = CudaKernels::load(real_driver(), why_not);
        REQUIRE_MESSAGE(kernels != nullptr, why_not);
        return kernels;
    }
    const CudaDevice &device() const { return device_; }
    CudaPinner &pinner() { return pinner_; }
    cuda::CUstream stream() const { return stream_.get(); }
    void synchronize() {
        device_.check(device_.driver()->cuStreamSynchronize(stream_.get()), "cuStreamSynchronize");
    }

private:
    CudaDevice device_;
    CurrentContext current_;
    CudaStream stream_;
    CudaPinner pinner_;
    std::vector<std::unique_ptr<DeviceMemory>> memories_;
};

struct Layout {
    std::vector<std::int64_t> shape;
    std::vector<std::int64_t> strides;
    std::size_t itemsize;
};

const std::vector<Layout> layouts{
    {{300, 700}, {4, 1200}, 4},             // transposed
    {{4, 16, 9, 7}, {4032, 4, 448, 64}, 4}, // channels last
    {{50, 31}, {1024, 2}, 2},               // sliced, odd rows
    {{1001}, {3}, 1},                       // every third byte
    {{20, 20, 20}, {16, 6400, 320}, 16},    // wide items
};

std::size_t span_of(const Layout &layout) {
    std::size_t span = layout.itemsize;
    for (std::size_t i = 0; i < layout.shape.size(); ++i) {
        span += static_cast<std::size_t>((layout.shape[i] - 1) * layout.strides[i]);
    }
    return span;
}

} // namespace

TEST_CASE("a GPU gathers and scatters what the host gathers and scatters" *
          doctest::skip(no_gpu())) {
    Gpu gpu;
    const auto kernels = gpu.kernels();
    const auto mover = PartMover::try_create(gpu.device(), *kernels, gpu.pinner(), gpu.stream());
    REQUIRE(mover != nullptr);
    std::mt19937 random(1);
    std::vector<StridedLayout> strided;
    for (const Layout &layout : layouts) {
        strided.emplace_back(layout.shape, layout.strides, layout.itemsize);
    }
    std::vector<DevicePart> parts;
    std::vector<std::vector<std::byte>> memories;
    std::vector<std::byte> expected;
    for (int i = 0; i < 500; ++i) {
        const std::size_t kind = random() % (layouts.size() + 1);
        const StridedLayout *layout = kind == layouts.size() ? nullptr : &strided[kind];
        const std::size_t total = layout == nullptr ? 1 + random() % 5000 : layout->nbytes();
        memories.push_back(random_bytes(layout == nullptr ? total : span_of(layouts[kind])));
        const std::size_t begin = random() % total;
        const std::size_t nbytes = 1 + random() % std::min<std::size_t>(total - begin, 5000);
        parts.push_back({0, gpu.put(memories.back()), layout, begin, nbytes, expected.size()});
        expected.resize(expected.size() + nbytes);
        std::byte *place = expected.data() + expected.size() - nbytes;
        if (layout == nullptr) {
            std::copy_n(memories.back().data() + begin, nbytes, place);
        } else {
            layout->gather(memories.back().data(), begin, nbytes, place);
        }
    }
    const DeviceAddress block = gpu.reserve(expected.size());
    mover->gather(parts, block);
    CHECK(gpu.get(block, expected.size()) == expected);

    const std::vector<std::byte> other = random_bytes(expected.size());
    const DeviceAddress source = gpu.put(other);
    mover->scatter(parts, source);
    int wrong = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const DevicePart &part = parts[i];
        const std::byte *bytes = other.data() + part.offset;
        if (part.layout == nullptr) {
            std::copy_n(bytes, part.nbytes, memories[i].data() + part.begin);
        } else {
            part.layout->scatter(memories[i].data(), part.begin, part.nbytes, bytes);
        }
        wrong += gpu.get(part.tensor, memories[i].size()) != memories[i];
    }
    CHECK(wrong == 0);
}

TEST_CASE("a GPU splits and merges byte groups as the host does" * doctest::skip(no_gpu())) {
    Gpu gpu;
    const auto kernels = gpu.kernels();
    for (const std::uint32_t itemsize : {2U, 4U, 8U}) {
        for (const std::size_t nbytes : {std::size_t{1}, std::size_t{7}, std::size_t{4096},
                                         std::size_t{100003}, 3 * chunk_nbytes + 5}) {
            CAPTURE(itemsize);
            CAPTURE(nbytes);
            const std::vector<std::byte> bytes = random_bytes(nbytes);
            std::vector<std::byte> groups(nbytes);
            split_bytes(bytes, itemsize, groups.data());
            const DeviceAddress source = gpu.put(bytes);
            const DeviceAddress target = gpu.reserve(nbytes);
            kernels->split_bytes(source, target, nbytes, itemsize, gpu.stream());
            CHECK(gpu.get(target, nbytes) == groups);
            const DeviceAddress back = gpu.reserve(nbytes);
            kernels->merge_bytes(target, back, nbytes, itemsize, gpu.stream());
            CHECK(gpu.get(back, nbytes) == bytes);
        }
    }
}

TEST_CASE("a GPU gives the fingerprints that the host gives" * doctest::skip(no_gpu())) {
    Gpu gpu;
    const auto kernels = gpu.kernels();
    for (const std::size_t nbytes :
         {std::size_t{1}, std::size_t{8}, std::size_t{9}, std::size_t{131072}, chunk_nbytes - 1,
          chunk_nbytes, 3 * chunk_nbytes + 12345}) {
        CAPTURE(nbytes);
        const std::vector<std::byte> bytes = random_bytes(nbytes);
        const std::vector<Fingerprint> expected = fingerprint(bytes);
        const DeviceAddress source = gpu.put(bytes);
        const DeviceAddress results = gpu.reserve(expected.size() * sizeof(Fingerprint));
        kernels->fingerprint(source, nbytes, results, gpu.stream());
        const std::vector<std::byte> found =
            gpu.get(results, expected.size() * sizeof(Fingerprint));
        CHECK(std::memcmp(found.data(), expected.data(), found.size()) == 0);
    }
}
