// Fingerprints of extents: cut into pieces, on the host and on a fake device, by kernels and
// without.
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "engine.h"
#include "engine_fixture.h"
#include "fake_cuda_program.h"

namespace {

using namespace engine_fixture;
using fake_cuda_tests::number;
using fake_cuda_tests::Program;
using sucrose::CallerStream;
using sucrose::chunk_nbytes;
using sucrose::DeviceAddress;
using sucrose::Engine;
using sucrose::EngineOptions;
using sucrose::ExtentList;
using sucrose::Fingerprint;
using sucrose::fingerprint_chunk;
using sucrose::StridedLayout;

void nothing() {}

std::vector<Fingerprint> expected_of(std::span<const std::byte> bytes, std::size_t piece) {
    std::vector<Fingerprint> found;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
        const auto of_piece =
            sucrose::fingerprint(bytes.subspan(at, std::min(piece, bytes.size() - at)));
        found.insert(found.end(), of_piece.begin(), of_piece.end());
    }
    return found;
}

void append(std::vector<Fingerprint> &all, const std::vector<Fingerprint> &more) {
    all.insert(all.end(), more.begin(), more.end());
}

// Rows of a matrix of 4-byte elements that lies column by column.
StridedLayout turned(std::int64_t rows, std::int64_t columns) {
    const std::vector<std::int64_t> shape{rows, columns};
    const std::vector<std::int64_t> strides{4, rows * 4};
    return {shape, strides, 4};
}

// Three extents in the memory of the device, or of the host: what they are is told by `expected`.
struct State {
    State(const FakeCuda &fake, const Program *program) {
        for (const std::size_t size :
             {3 * chunk_nbytes + 5, std::size_t{4 * 300 * 500}, std::size_t{77}}) {
            bytes.push_back(random_bytes(size));
            std::uint64_t at = address(bytes.back());
            if (program != nullptr) {
                const DeviceAddress tensor = program->allocate(size);
                std::memcpy(fake.shadow_of(tensor), bytes.back().data(), size);
                at = number(tensor);
            }
            extents.append(extents.end(), size, at);
            if (program != nullptr) {
                extents.set_device(extents.all().size() - 1, program->device);
            }
        }
        extents.set_layout(1, turned(300, 500));
        std::vector<std::byte> packed(bytes[1].size());
        turned(300, 500).gather(bytes[1].data(), 0, packed.size(), packed.data());
        append(expected, expected_of(bytes[0], pieces[0]));
        append(expected, expected_of(packed, pieces[1]));
        append(expected, expected_of(bytes[2], pieces[2]));
    }

    std::vector<std::uint64_t> pieces{chunk_nbytes + 100, 2000 * 30, 78};
    std::vector<std::vector<std::byte>> bytes;
    ExtentList extents;
    std::vector<Fingerprint> expected;
};

EngineOptions options(const std::string &driver = "off") {
    return {.slot_count = 4, .worker_count = 3, .cuda_driver = driver};
}

} // namespace

TEST_CASE("host memory is cut into pieces, and pieces into chunks") {
    const FakeCuda fake(1, std::size_t{1} << 30);
    Engine engine(options());
    const State state(fake, nullptr);
    CHECK(engine.fingerprint(state.extents, state.pieces, {}, nothing) == state.expected);
}

TEST_CASE("device memory has the fingerprints that it would have on the host") {
    for (const unsigned max_delay_us : {0U, 400U}) {
        for (const bool kernels : {true, false}) {
            CAPTURE(max_delay_us);
            CAPTURE(kernels);
            const FakeCuda fake(1, std::size_t{1} << 30, max_delay_us, 3);
            if (!kernels) {
                fake.fail("cuModuleLoadData", 1, 209, 1);
            }
            const Program program(fake);
            Engine engine(options(FAKE_CUDA_LIBRARY));
            const State state(fake, &program);
            CHECK(engine.fingerprint(state.extents, state.pieces, {}, nothing) == state.expected);
            CHECK(engine.fingerprint(state.extents, state.pieces, {}, nothing) == state.expected);
            CHECK((fake.stats().kernels > 0) == kernels);
            CHECK(fake.violations() == 0);
            CHECK(fake.first_violation() == "");
        }
    }
}

TEST_CASE("a fingerprint is of what the caller's stream has put there") {
    const FakeCuda fake(1, std::size_t{1} << 30, 100, 5);
    const Program program(fake);
    Engine engine(options(FAKE_CUDA_LIBRARY));
    const sucrose::cuda::CUstream side = program.stream();
    const DeviceAddress tensor = program.allocate();
    ExtentList extents;
    extents.append(0, fake_cuda_tests::nbytes, number(tensor));
    extents.set_device(0, program.device);
    program.fill(side, tensor, 7, 20000);
    const std::vector<CallerStream> streams{{program.device, side}};
    const std::vector<std::uint64_t> pieces{chunk_nbytes};
    const std::vector<std::byte> filled(fake_cuda_tests::nbytes, std::byte{7});
    CHECK(engine.fingerprint(extents, pieces, streams, nothing) ==
          expected_of(filled, chunk_nbytes));
    CHECK(fake.violations() == 0);
}

TEST_CASE("what a poll throws ends the work and is rethrown") {
    Engine engine(options());
    const std::vector<std::byte> bytes = random_bytes(std::size_t{64} << 20);
    ExtentList extents;
    std::vector<std::uint64_t> pieces;
    for (int repeat = 0; repeat < 100; ++repeat) {
        extents.append(extents.end(), bytes.size(), address(bytes));
        pieces.push_back(chunk_nbytes);
    }
    const auto interrupt = [] { throw std::runtime_error("Ctrl-C"); };
    CHECK_THROWS_WITH_AS(engine.fingerprint(extents, pieces, {}, interrupt), "Ctrl-C",
                         std::runtime_error);
}

TEST_CASE("sizes of pieces that do not fit are refused") {
    Engine engine(options());
    const std::vector<std::byte> bytes = random_bytes(10);
    ExtentList extents;
    extents.append(0, bytes.size(), address(bytes));
    const std::vector<std::uint64_t> none;
    const std::vector<std::uint64_t> empty{0};
    CHECK_THROWS_AS(engine.fingerprint(extents, none, {}, nothing), sucrose::Error);
    CHECK_THROWS_AS(engine.fingerprint(extents, empty, {}, nothing), sucrose::Error);
}
