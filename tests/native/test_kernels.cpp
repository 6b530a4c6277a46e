// The kernels' bodies, run on the host for every thread, against the host's own code for the same.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "buffer_pool.h"
#include "codec/byte_group.h"
#include "cuda/cuda_driver.h"
#include "fake_cuda/kernels.h"
#include "hash/fingerprint.h"
#include "kernel_bodies.h"
#include "strided.h"

namespace {

using sucrose::DeviceAddress;
using sucrose::KernelLayout;
using sucrose::KernelPiece;
using sucrose::StridedLayout;

DeviceAddress device(const void *memory) {
    return DeviceAddress{reinterpret_cast<std::uint64_t>(memory)};
}

template <typename... Parameters>
void launch(std::string_view name, std::size_t blocks, Parameters... parameters) {
    void *addresses[] = {&parameters...};
    const auto run = fake_cuda::capture_launch(name, static_cast<unsigned>(blocks),
                                               sucrose::kernel_threads, addresses);
    REQUIRE(run);
    run([](DeviceAddress address, std::size_t) {
        return reinterpret_cast<std::byte *>(static_cast<std::uint64_t>(address));
    });
}

std::vector<std::byte> random_bytes(std::size_t nbytes, std::mt19937 &random) {
    std::vector<std::byte> bytes(nbytes);
    for (std::byte &b : bytes) {
        b = static_cast<std::byte>(random());
    }
    return bytes;
}

// A tensor in random memory.
struct Sample {
    std::vector<std::byte> memory;
    std::size_t origin = 0; // of element (0, ..., 0)
    std::optional<StridedLayout> layout;

    const std::byte *tensor() const { return memory.data() + origin; }
    std::byte *tensor() { return memory.data() + origin; }
};

// `order` lists the dimensions from the fastest one; each leaves `gap` elements unused. Dimensions
// in `expanded` have stride 0, those in `reversed` a negative one.
struct Shape {
    std::vector<std::int64_t> sizes;
    std::vector<std::size_t> order;
    std::size_t gap = 0;
    std::vector<std::size_t> expanded = {};
    std::vector<std::size_t> reversed = {};
};

Sample make_sample(const Shape &shape, std::size_t itemsize, std::size_t misaligned,
                   std::mt19937 &random) {
    Sample sample;
    sample.origin = misaligned;
    std::vector<std::int64_t> strides(shape.sizes.size());
    auto reach = static_cast<std::int64_t>(itemsize);
    for (const std::size_t d : shape.order) {
        if (std::count(shape.expanded.begin(), shape.expanded.end(), d) != 0) {
            continue;
        }
        strides[d] = reach;
        reach = reach * shape.sizes[d] + static_cast<std::int64_t>(shape.gap * itemsize);
        if (std::count(shape.reversed.begin(), shape.reversed.end(), d) != 0) {
            sample.origin += static_cast<std::size_t>((shape.sizes[d] - 1) * strides[d]);
            strides[d] = -strides[d];
        }
    }
    sample.memory = random_bytes(static_cast<std::size_t>(reach) + misaligned, random);
    sample.layout.emplace(shape.sizes, strides, itemsize);
    return sample;
}

Shape random_shape(std::mt19937 &random, bool may_repeat) {
    Shape shape;
    const std::size_t rank = random() % 6;
    shape.order.resize(rank);
    std::iota(shape.order.begin(), shape.order.end(), 0U);
    std::shuffle(shape.order.begin(), shape.order.end(), random);
    shape.gap = random() % 3;
    for (std::size_t d = 0; d < rank; ++d) {
        shape.sizes.push_back(1 + random() % 7);
        if (may_repeat && random() % 4 == 0) {
            shape.expanded.push_back(d);
        } else if (random() % 4 == 0) {
            shape.reversed.push_back(d);
        }
    }
    return shape;
}

// Descriptors of all bytes of a sample, cut at random places into pieces that lie in the block one
// after another.
struct Plan {
    std::vector<KernelPiece> pieces;
    std::vector<KernelLayout> layouts;
    std::size_t block_nbytes = 0;

    void add(const Sample &sample, std::size_t max_piece, std::mt19937 &random) {
        layouts.emplace_back();
        REQUIRE(sample.layout->describe(layouts.back()));
        cut(device(sample.tensor()), sample.layout->nbytes(), max_piece, random,
            static_cast<std::uint32_t>(layouts.size() - 1));
    }

    void cut(DeviceAddress tensor, std::size_t nbytes, std::size_t max_piece, std::mt19937 &random,
             std::uint32_t layout) {
        for (std::size_t begin = 0; begin < nbytes;) {
            const std::size_t n = std::min(nbytes - begin, 1 + random() % max_piece);
            pieces.push_back({static_cast<std::uint64_t>(tensor), begin, block_nbytes,
                              static_cast<std::uint32_t>(n), layout});
            begin += n;
            block_nbytes += n;
        }
    }

    void run(std::string_view name, std::byte *block) const {
        launch(name, pieces.size(), device(block), device(pieces.data()), device(layouts.data()));
    }
};

std::vector<std::byte> row_major(const Sample &sample) {
    std::vector<std::byte> bytes(sample.layout->nbytes());
    sample.layout->gather(sample.tensor(), 0, bytes.size(), bytes.data());
    return bytes;
}

constexpr std::size_t itemsizes[] = {1, 2, 3, 4, 8, 16};

const std::vector<Shape> named_shapes{
    {{300, 200}, {0, 1}},                                 // transposed
    {{4, 16, 9, 11}, {1, 3, 2, 0}},                       // channels last
    {{100, 77}, {1, 0}, 5},                               // a slice of columns
    {{64, 64}, {1, 0}, 0, {0}},                           // expanded
    {{64, 64}, {1, 0}, 0, {1}},                           // expanded in the fastest dimension
    {{64, 64}, {1, 0}, 0, {}, {0, 1}},                    // flipped
    {{3, 2, 3, 2, 3, 2, 3, 2}, {7, 0, 6, 1, 5, 2, 4, 3}}, // as many dimensions as there may be
};

} // namespace

TEST_CASE("the gather kernel takes strided tensors together as the host does") {
    std::mt19937 random(1);
    for (const std::size_t itemsize : itemsizes) {
        for (const std::size_t max_piece : {std::size_t{37}, std::size_t{16 << 10}}) {
            std::vector<Sample> samples;
            for (const Shape &shape : named_shapes) {
                samples.push_back(make_sample(shape, itemsize, random() % 17, random));
            }
            Plan plan;
            std::vector<std::byte> expected;
            for (const Sample &sample : samples) {
                plan.add(sample, max_piece, random);
                const std::vector<std::byte> bytes = row_major(sample);
                expected.insert(expected.end(), bytes.begin(), bytes.end());
            }
            expected.resize(expected.size() + 16); // zeros that must stay
            std::vector<std::byte> block(expected.size());
            plan.run("sucrose_gather", block.data());
            CHECK(block == expected);
        }
    }
}

TEST_CASE("any cut of any layout is gathered and scattered as on the host") {
    std::mt19937 random(2);
    for (int round = 0; round < 2000; ++round) {
        const std::size_t itemsize = itemsizes[random() % std::size(itemsizes)];
        const bool scattered = round % 2 == 0; // needs elements that do not share memory
        const Sample sample =
            make_sample(random_shape(random, !scattered), itemsize, random() % 17, random);
        const std::vector<std::byte> expected = row_major(sample);
        Sample target = sample;
        std::fill(target.memory.begin(), target.memory.end(), std::byte{0xEE});
        Plan plan;
        plan.add(scattered ? target : sample, 1 + random() % 200, random);
        // An offset in the block makes all its alignments occur.
        const std::size_t shift = random() % 17;
        std::vector<std::byte> block(shift);
        block.insert(block.end(), expected.begin(), expected.end());
        block.resize(block.size() + 16);
        if (!scattered) {
            std::vector<std::byte> found(block.size());
            plan.run("sucrose_gather", found.data() + shift);
            REQUIRE(found == block);
            continue;
        }
        plan.run("sucrose_scatter", block.data() + shift);
        std::vector<std::byte> filled(sample.memory.size(), std::byte{0xEE}); // gaps stay
        sample.layout->scatter(filled.data() + sample.origin, 0, expected.size(), expected.data());
        REQUIRE(target.memory == filled);
    }
}

TEST_CASE("a piece of a strided tensor touches no bytes but its own") {
    std::mt19937 random(6);
    for (int round = 0; round < 2000; ++round) {
        const std::size_t itemsize = itemsizes[random() % std::size(itemsizes)];
        const Sample sample = make_sample(random_shape(random, false), itemsize, 0, random);
        const std::size_t begin = random() % sample.layout->nbytes() & ~(random() % 16);
        const std::size_t nbytes = 1 + random() % (sample.layout->nbytes() - begin);
        KernelLayout layout;
        REQUIRE(sample.layout->describe(layout));
        KernelPiece piece{static_cast<std::uint64_t>(device(sample.tensor())), begin, 16,
                          static_cast<std::uint32_t>(nbytes), 0};

        std::vector<std::byte> block(16 + nbytes + 16);
        std::vector<std::byte> expected = block;
        sample.layout->gather(sample.tensor(), begin, nbytes, expected.data() + 16);
        launch("sucrose_gather", 1, device(block.data()), device(&piece), device(&layout));
        REQUIRE(block == expected);

        std::vector<std::byte> target(sample.memory.size(), std::byte{0xEE});
        std::vector<std::byte> filled = target;
        sample.layout->scatter(filled.data() + sample.origin, begin, nbytes, block.data() + 16);
        piece.tensor = static_cast<std::uint64_t>(device(target.data() + sample.origin));
        launch("sucrose_scatter", 1, device(block.data()), device(&piece), device(&layout));
        REQUIRE(target == filled);
    }
}

TEST_CASE("contiguous pieces are copied whatever their alignments") {
    std::mt19937 random(3);
    for (std::size_t tensor_shift = 0; tensor_shift < 17; ++tensor_shift) {
        for (std::size_t block_shift = 0; block_shift < 17; ++block_shift) {
            for (const std::size_t nbytes : {1U, 7U, 15U, 16U, 17U, 100U, 5000U}) {
                const std::vector<std::byte> tensor = random_bytes(tensor_shift + nbytes, random);
                const KernelPiece piece{static_cast<std::uint64_t>(device(tensor.data())),
                                        tensor_shift, block_shift,
                                        static_cast<std::uint32_t>(nbytes), sucrose::no_layout};
                std::vector<std::byte> block(block_shift + nbytes + 1);
                launch("sucrose_gather", 1, device(block.data()), device(&piece), DeviceAddress{});
                REQUIRE(std::memcmp(block.data() + block_shift, tensor.data() + tensor_shift,
                                    nbytes) == 0);
                REQUIRE(block.back() == std::byte{0});

                std::vector<std::byte> restored(tensor.size() + 1);
                KernelPiece reverse = piece;
                reverse.tensor = static_cast<std::uint64_t>(device(restored.data()));
                launch("sucrose_scatter", 1, device(block.data()), device(&reverse),
                       DeviceAddress{});
                REQUIRE(std::memcmp(restored.data() + tensor_shift, tensor.data() + tensor_shift,
                                    nbytes) == 0);
                REQUIRE(restored.back() == std::byte{0});
            }
        }
    }
}

TEST_CASE("layouts that the kernels do not take are told apart") {
    const std::vector<std::int64_t> sizes(9, 2);
    std::vector<std::int64_t> strides(9);
    for (std::size_t d = 0; d < strides.size(); ++d) {
        strides[d] = std::int64_t{4} << (2 * d); // in the wrong order, with gaps
    }
    KernelLayout layout;
    CHECK_FALSE(StridedLayout(sizes, strides, 4).describe(layout));
    const std::vector<std::int64_t> huge{2, std::int64_t{1} << 30};
    const std::vector<std::int64_t> gap{std::int64_t{1} << 33, 4};
    CHECK_FALSE(StridedLayout(huge, gap, 4).describe(layout));
}

TEST_CASE("the kernels group bytes as the host does") {
    std::mt19937 random(4);
    std::vector<std::size_t> sizes(150);
    std::iota(sizes.begin(), sizes.end(), std::size_t{1});
    sizes.insert(sizes.end(), {8192, 8200, 40000, 40001, 65536});
    for (const std::size_t nbytes : sizes) {
        for (const std::uint32_t itemsize : {2U, 4U, 8U}) {
            for (const std::size_t shift : {0U, 1U, 4U}) {
                CAPTURE(nbytes);
                CAPTURE(itemsize);
                const std::vector<std::byte> memory = random_bytes(shift + nbytes, random);
                const std::span<const std::byte> bytes(memory.data() + shift, nbytes);
                std::vector<std::byte> expected(nbytes);
                sucrose::split_bytes(bytes, itemsize, expected.data());
                std::vector<std::byte> found(nbytes);
                launch("sucrose_split_bytes", 3, device(found.data()), device(bytes.data()),
                       std::uint64_t{nbytes}, itemsize);
                REQUIRE(found == expected);
                std::vector<std::byte> merged(shift + nbytes);
                launch("sucrose_merge_bytes", 3, device(merged.data() + shift),
                       device(found.data()), std::uint64_t{nbytes}, itemsize);
                REQUIRE(std::memcmp(merged.data() + shift, bytes.data(), nbytes) == 0);
            }
        }
    }
}

TEST_CASE("the kernels' fingerprints are those of the host") {
    std::mt19937 random(5);
    const std::size_t chunk = sucrose::chunk_nbytes;
    for (const std::size_t nbytes :
         {std::size_t{1}, std::size_t{7}, std::size_t{8}, std::size_t{9}, std::size_t{131073},
          chunk - 1, chunk, chunk + 1, 2 * chunk + 12345}) {
        for (const std::size_t shift : {0U, 3U}) {
            CAPTURE(nbytes);
            CAPTURE(shift);
            const std::vector<std::byte> memory = random_bytes(shift + nbytes, random);
            const std::span<const std::byte> bytes(memory.data() + shift, nbytes);
            const std::vector<sucrose::Fingerprint> expected = sucrose::fingerprint(bytes);
            std::vector<sucrose::Fingerprint> found(expected.size());
            std::memset(found.data(), 0xEE, found.size() * sizeof found[0]);
            launch("sucrose_fingerprint_begin", 1, device(found.data()), std::uint64_t{nbytes});
            const std::size_t share_nbytes = sucrose::kernel::fingerprint_share_nbytes;
            launch("sucrose_fingerprint", (nbytes + share_nbytes - 1) / share_nbytes,
                   device(found.data()), device(bytes.data()), std::uint64_t{nbytes});
            CHECK(found == expected);
        }
    }
}

TEST_CASE("only kernels that exist are launched") {
    CHECK(fake_cuda::knows("sucrose_gather"));
    CHECK_FALSE(fake_cuda::knows("sucrose_gathe"));
    CHECK_FALSE(fake_cuda::capture_launch("sucrose_gathe", 1, 1, nullptr));
}
