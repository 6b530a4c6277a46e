#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "error.h"
#include "extents.h"

namespace {

using sucrose::ExtentList;
using sucrose::StridedLayout;

std::uint64_t address(const std::vector<std::byte> &memory) {
    return reinterpret_cast<std::uint64_t>(memory.data());
}

std::vector<std::byte> counted(std::size_t nbytes) {
    std::vector<std::byte> bytes(nbytes);
    for (std::size_t i = 0; i < nbytes; ++i) {
        bytes[i] = static_cast<std::byte>(i * 7 + i / 251);
    }
    return bytes;
}

// Pieces of memory of random sizes, none among them, and the file that they make up.
struct Pieces {
    std::vector<std::vector<std::byte>> memory;
    std::vector<std::byte> file;
    ExtentList extents;

    Pieces(std::mt19937 &random, std::size_t count) {
        std::uniform_int_distribution<std::size_t> size(0, 40'000);
        for (std::size_t i = 0; i < count; ++i) {
            memory.push_back(counted(i % 4 == 3 ? 0 : size(random)));
            extents.append(file.size(), memory.back().size(), address(memory.back()));
            file.insert(file.end(), memory.back().begin(), memory.back().end());
        }
    }
};

} // namespace

TEST_CASE("any range of a file is gathered from the extents that make it up") {
    std::mt19937 random(3);
    for (int round = 0; round < 50; ++round) {
        const Pieces pieces(random, 9);
        std::uniform_int_distribution<std::size_t> at(0, pieces.file.size());
        auto [begin, end] = std::minmax({at(random), at(random)});
        std::vector<std::byte> got(end - begin);
        pieces.extents.gather(begin, got.size(), got.data());
        REQUIRE(std::equal(got.begin(), got.end(),
                           pieces.file.begin() + static_cast<std::ptrdiff_t>(begin)));
    }
}

TEST_CASE(
    "what is scattered piece by piece lands in the extents, and what no extent wants is dropped") {
    std::mt19937 random(4);
    for (int round = 0; round < 20; ++round) {
        const std::vector<std::byte> file = counted(200'000);
        std::vector<std::vector<std::byte>> targets;
        std::vector<std::size_t> offsets;
        ExtentList extents;
        std::uniform_int_distribution<std::size_t> step(0, 30'000);
        for (std::size_t at = step(random); at < 150'000; at += step(random)) {
            targets.emplace_back(step(random));
            offsets.push_back(at);
            extents.append(at, targets.back().size(), address(targets.back()));
            at += targets.back().size();
        }
        for (std::size_t at = 0; at < file.size();) {
            const std::size_t n = std::min(step(random) + 1, file.size() - at);
            extents.scatter(at, {file.data() + at, n});
            at += n;
        }
        for (std::size_t i = 0; i < targets.size(); ++i) {
            REQUIRE(std::equal(targets[i].begin(), targets[i].end(),
                               file.begin() + static_cast<std::ptrdiff_t>(offsets[i])));
        }
    }
}

TEST_CASE("extents of no bytes need no address") {
    const std::vector<std::byte> file = counted(10);
    std::vector<std::byte> target(10);
    ExtentList extents;
    extents.append(0, 0, 0);
    extents.append(0, 4, address(target));
    extents.append(4, 0, 0);
    extents.append(4, 6, address(target) + 4);
    std::vector<std::size_t> visited;
    extents.for_each_part(0, file, [&](std::size_t index, std::span<const std::byte> part) {
        CHECK(!part.empty());
        visited.push_back(index);
    });
    CHECK(visited == std::vector<std::size_t>{1, 3});
    extents.scatter(0, file);
    CHECK(target == file);
    std::vector<std::byte> got(file.size());
    extents.gather(0, got.size(), got.data());
    CHECK(got == file);
}

TEST_CASE("strided and contiguous extents follow one another") {
    const std::vector<std::byte> memory = counted(24);
    const std::vector<std::int64_t> shape{2, 3};
    const std::vector<std::int64_t> strides{12, 4}; // every other pair of bytes, twice
    ExtentList extents;
    extents.append(0, 5, address(memory));
    extents.append(5, 12, address(memory));
    extents.append(17, 2, address(memory));
    extents.set_layout(1, StridedLayout(shape, strides, 2));
    std::vector<std::byte> expected(memory.begin(), memory.begin() + 5);
    for (const std::ptrdiff_t at : {0, 4, 8, 12, 16, 20}) {
        expected.insert(expected.end(), memory.begin() + at, memory.begin() + at + 2);
    }
    expected.insert(expected.end(), memory.begin(), memory.begin() + 2);
    std::vector<std::byte> got(expected.size());
    extents.gather(0, got.size(), got.data());
    CHECK(got == expected);
    CHECK(extents.contiguous(1, 4) == memory.data() + 1);
    CHECK(extents.contiguous(1, 5) == nullptr);
    CHECK(extents.contiguous(6, 2) == nullptr);
    CHECK(extents.contiguous(19, 1) == nullptr);
}

TEST_CASE("extents that overlap, go back or wrap around are refused") {
    ExtentList extents;
    extents.append(10, 10, 0x1000);
    CHECK_THROWS_AS(extents.append(19, 1, 0x2000), sucrose::Error);
    CHECK_THROWS_AS(extents.append(0, 5, 0x2000), sucrose::Error);
    CHECK_THROWS_AS(extents.append(30, UINT64_MAX, 0x2000), sucrose::Error);
    extents.append(20, 4, 0x2000);
    CHECK(extents.end() == 24);
    const std::vector<std::int64_t> three{3};
    const std::vector<std::int64_t> one{1};
    CHECK_THROWS_AS(extents.set_layout(1, StridedLayout(three, one, 1)), sucrose::Error);
    CHECK_THROWS_AS(extents.set_layout(2, StridedLayout(three, one, 1)), sucrose::Error);
}
