#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "error.h"
#include "strided.h"

namespace {

using sucrose::StridedLayout;

// A tensor of random bytes whose dimensions have been permuted, with gaps between the rows.
struct Sample {
    std::vector<std::int64_t> shape;
    std::vector<std::int64_t> strides;
    std::size_t itemsize;
    std::vector<std::byte> memory;

    explicit Sample(std::mt19937 &random) {
        const std::size_t ndim = random() % 5;
        itemsize = std::vector<std::size_t>{1, 2, 3, 4, 8, 16}[random() % 6];
        std::vector<std::size_t> order(ndim);
        std::iota(order.begin(), order.end(), 0U);
        std::shuffle(order.begin(), order.end(), random);
        shape.resize(ndim);
        strides.resize(ndim);
        auto reach = static_cast<std::int64_t>(itemsize);
        for (const std::size_t dimension : order) {
            shape[dimension] = 1 + static_cast<std::int64_t>(random() % 6);
            strides[dimension] = reach;
            reach *= shape[dimension];
            reach += static_cast<std::int64_t>(itemsize * (random() % 3));
        }
        memory.resize(static_cast<std::size_t>(reach));
        for (std::byte &b : memory) {
            b = static_cast<std::byte>(random());
        }
    }

    // Offsets in memory of the elements in row-major order, one at a time.
    std::vector<std::size_t> offsets() const {
        std::vector<std::size_t> found;
        std::vector<std::int64_t> index(shape.size(), 0);
        for (;;) {
            std::int64_t offset = 0;
            for (std::size_t d = 0; d < shape.size(); ++d) {
                offset += index[d] * strides[d];
            }
            found.push_back(static_cast<std::size_t>(offset));
            std::size_t d = shape.size();
            while (d > 0 && ++index[d - 1] == shape[d - 1]) {
                index[--d] = 0;
            }
            if (d == 0) {
                return found;
            }
        }
    }

    std::vector<std::byte> row_major() const {
        std::vector<std::byte> bytes;
        for (const std::size_t offset : offsets()) {
            const auto *element = memory.data() + offset;
            bytes.insert(bytes.end(), element, element + itemsize);
        }
        return bytes;
    }
};

} // namespace

TEST_CASE("any range of a strided tensor is gathered in row-major order") {
    std::mt19937 random(1);
    for (int round = 0; round < 2000; ++round) {
        const Sample sample(random);
        const StridedLayout layout(sample.shape, sample.strides, sample.itemsize);
        const std::vector<std::byte> expected = sample.row_major();
        REQUIRE(layout.nbytes() == expected.size());
        const std::size_t begin = random() % expected.size();
        const std::size_t nbytes = 1 + random() % (expected.size() - begin);
        std::vector<std::byte> found(nbytes);
        layout.gather(sample.memory.data(), begin, nbytes, found.data());
        REQUIRE(std::memcmp(found.data(), expected.data() + begin, nbytes) == 0);
    }
}

TEST_CASE("scattering in pieces fills exactly the elements and leaves the gaps") {
    std::mt19937 random(2);
    for (int round = 0; round < 2000; ++round) {
        const Sample sample(random);
        const StridedLayout layout(sample.shape, sample.strides, sample.itemsize);
        const std::vector<std::byte> bytes = sample.row_major();
        std::vector<std::byte> target(sample.memory.size(), std::byte{0xEE});
        std::vector<std::byte> expected = target;
        for (const std::size_t offset : sample.offsets()) {
            std::memcpy(expected.data() + offset, sample.memory.data() + offset, sample.itemsize);
        }
        for (std::size_t begin = 0; begin < bytes.size();) {
            const std::size_t nbytes = std::min(bytes.size() - begin, 1 + random() % 40);
            layout.scatter(target.data(), begin, nbytes, bytes.data() + begin);
            begin += nbytes;
        }
        REQUIRE(target == expected);
    }
}

TEST_CASE("strides of zero and below zero repeat and reverse") {
    const std::vector<std::byte> memory{std::byte{1}, std::byte{2}, std::byte{3}};
    std::vector<std::byte> found(6);
    StridedLayout(std::vector<std::int64_t>{2, 3}, std::vector<std::int64_t>{0, -1}, 1)
        .gather(memory.data() + 2, 0, 6, found.data());
    CHECK(found == std::vector<std::byte>{std::byte{3}, std::byte{2}, std::byte{1}, std::byte{3},
                                          std::byte{2}, std::byte{1}});
}

TEST_CASE("a malformed layout is refused") {
    const std::vector<std::int64_t> two{2, 2};
    const std::vector<std::int64_t> one{1};
    CHECK_THROWS_AS(StridedLayout(two, one, 4), sucrose::Error);
    CHECK_THROWS_AS(StridedLayout(one, one, 0), sucrose::Error);
    CHECK_THROWS_AS(StridedLayout(std::vector<std::int64_t>{-1}, one, 4), sucrose::Error);
}
