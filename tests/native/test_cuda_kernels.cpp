// Launches of the kernels through the driver, in stream order, with no preparation by the caller.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "buffer_pool.h"
#include "codec/byte_group.h"
#include "cuda/cuda_kernels.h"
#include "error.h"
#include "fake_cuda_program.h"
#include "hash/fingerprint.h"
#include "kernel_bodies.h"

using namespace fake_cuda_tests;

namespace {

constexpr std::byte image[] = {std::byte{1}}; // the fake looks into none

std::unique_ptr<CudaKernels> load(const Program &program) {
    std::string why_not;
    auto kernels = CudaKernels::load(program.driver, why_not, image);
    REQUIRE(kernels != nullptr);
    return kernels;
}

std::vector<std::byte> random_bytes(std::size_t count) {
    std::mt19937 random(1);
    std::vector<std::byte> bytes(count);
    for (std::byte &b : bytes) {
        b = static_cast<std::byte>(random());
    }
    return bytes;
}

DeviceAddress upload(const Program &program, CUstream stream, const void *bytes,
                     std::size_t count) {
    const DeviceAddress address = program.allocate(count);
    program.must(program->cuMemcpyHtoDAsync_v2(address, bytes, count, stream));
    return address;
}

std::vector<std::byte> download(const Program &program, CUstream stream, DeviceAddress address,
                                std::size_t count) {
    std::vector<std::byte> bytes(count);
    program.must(program->cuMemcpyDtoHAsync_v2(bytes.data(), address, count, stream));
    program.must(program->cuStreamSynchronize(stream));
    return bytes;
}

} // namespace

TEST_CASE("pieces are gathered on the device and scattered back") {
    const FakeCuda fake;
    const Program program(fake);
    const auto kernels = load(program);
    const CUstream stream = program.stream();
    const std::vector<std::byte> bytes = random_bytes(6000);
    const DeviceAddress tensor = upload(program, stream, bytes.data(), bytes.size());
    const KernelPiece pieces[] = {{number(tensor), 5000, 0, 1000, no_layout},
                                  {number(tensor), 0, 1000, 5000, no_layout}};
    const DeviceAddress table = upload(program, stream, pieces, sizeof pieces);
    const DeviceAddress block = program.allocate(bytes.size());
    kernels->gather(block, table, 2, DeviceAddress{}, stream);
    std::vector<std::byte> expected(bytes.begin() + 5000, bytes.end());
    expected.insert(expected.end(), bytes.begin(), bytes.begin() + 5000);
    CHECK(download(program, stream, block, bytes.size()) == expected);

    const std::vector<std::byte> zeros(bytes.size());
    program.must(program->cuMemcpyHtoDAsync_v2(tensor, zeros.data(), zeros.size(), stream));
    kernels->scatter(block, table, 2, DeviceAddress{}, stream);
    CHECK(download(program, stream, tensor, bytes.size()) == bytes);
    kernels->gather(block, table, 0, DeviceAddress{}, stream); // nothing to do is no error
    CHECK(fake.violations() == 0);
}

TEST_CASE("bytes are grouped on the device and merged again") {
    const FakeCuda fake;
    const Program program(fake);
    const auto kernels = load(program);
    const CUstream stream = program.stream();
    for (const std::size_t count : {std::size_t{1}, std::size_t{7}, std::size_t{70003}}) {
        for (const std::uint32_t itemsize : {2U, 4U, 8U}) {
            const std::vector<std::byte> bytes = random_bytes(count);
            std::vector<std::byte> expected(count);
            split_bytes(bytes, itemsize, expected.data());
            const DeviceAddress source = upload(program, stream, bytes.data(), count);
            const DeviceAddress grouped = program.allocate(count);
            const DeviceAddress merged = program.allocate(count);
            kernels->split_bytes(source, grouped, count, itemsize, stream);
            CHECK(download(program, stream, grouped, count) == expected);
            kernels->merge_bytes(grouped, merged, count, itemsize, stream);
            CHECK(download(program, stream, merged, count) == bytes);
        }
    }
    CHECK_THROWS_AS(kernels->split_bytes({}, {}, 0, 3, stream), Error);
    CHECK(fake.violations() == 0);
}

TEST_CASE("fingerprints made on the device are those of the host") {
    const FakeCuda fake;
    const Program program(fake);
    const auto kernels = load(program);
    const CUstream stream = program.stream();
    const std::vector<std::byte> bytes = random_bytes(2 * chunk_nbytes + 12345);
    const DeviceAddress source = upload(program, stream, bytes.data(), bytes.size());
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, chunk_nbytes, bytes.size()}) {
        const std::vector<Fingerprint> expected = fingerprint(std::span(bytes).first(count));
        const DeviceAddress results = program.allocate(16 * expected.size() + 1);
        kernels->fingerprint(source, count, results, stream);
        const auto found = download(program, stream, results, 16 * expected.size() + 1);
        CHECK(std::ranges::equal(std::span(found).first(16 * expected.size()),
                                 std::as_bytes(std::span(expected))));
        CHECK(found.back() == std::byte{fake_cuda_poison_fresh});
    }
    CHECK(fake.violations() == 0);
}

TEST_CASE("a driver that does not take the image is told apart, and nothing is left") {
    const FakeCuda fake;
    const Program program(fake);
    constexpr CUresult no_binary_for_gpu = 209;
    std::string why_not;
    fake.fail("cuModuleLoadData", 1, no_binary_for_gpu, 0);
    CHECK(CudaKernels::load(program.driver, why_not, image) == nullptr);
    CHECK(why_not.find("cuModuleLoadData") == 0);
    fake.fail("cuModuleGetFunction", 3, no_binary_for_gpu, 0);
    CHECK(CudaKernels::load(program.driver, why_not, image) == nullptr);
    CHECK(why_not.find("cuModuleGetFunction") == 0);
    load(program);
    CHECK(fake.stats().modules == 0);
}

TEST_CASE("a launch that fails is an error of its own type") {
    const FakeCuda fake;
    const Program program(fake);
    const auto kernels = load(program);
    fake.fail("cuLaunchKernel", 1, error_out_of_memory, 0);
    CHECK_THROWS_AS(
        kernels->fingerprint(program.allocate(), 8, program.allocate(), program.stream()),
        CudaFailure);
}

TEST_CASE("without an image there are no kernels, and a reason why") {
    std::string why_not;
    CHECK(CudaKernels::load(nullptr, why_not, {}) == nullptr);
    CHECK(why_not.find("nvcc") != std::string::npos);
}

TEST_CASE("the embedded image of a build with nvcc has every kernel that the core launches") {
    const auto image = embedded_kernels();
    const std::string_view text(reinterpret_cast<const char *>(image.data()), image.size());
    for (const char *name :
         {"sucrose_gather", "sucrose_scatter", "sucrose_split_bytes", "sucrose_merge_bytes",
          "sucrose_fingerprint_begin", "sucrose_fingerprint"}) {
        CAPTURE(name);
        // With what begins the section of its code, since names are also parts of others.
        CHECK((image.empty() || text.find(std::string(".text.") + name + '\0') != text.npos));
    }
    CHECK(reinterpret_cast<std::uintptr_t>(image.data()) % 8 == 0);
}
