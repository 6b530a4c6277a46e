#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "codec/frame_packer.h"
#include "engine_fixture.h"

namespace {

using namespace engine_fixture;
using sucrose::block_nbytes;
using sucrose::chunk_nbytes;
using sucrose::ChunkFrames;
using sucrose::FramePacker;

// Frames are whatever bytes here.
struct Frames {
    explicit Frames(std::size_t nbytes) : bytes(random_bytes(nbytes)), slot(chunk_nbytes) {
        frames = std::make_shared<ChunkFrames>(slot.data());
        frames->append(bytes);
    }
    std::vector<std::byte> bytes;
    std::vector<std::byte> slot;
    std::shared_ptr<ChunkFrames> frames;
};

// What a write does with a chunk that has its place.
void write(FramePacker::Placed &placed, std::vector<std::byte> &file) {
    CHECK(placed.offset % block_nbytes == 0);
    placed.frames->prepend({placed.head.data(), placed.head_nbytes});
    std::size_t nbytes = placed.frames->nbytes() / block_nbytes * block_nbytes;
    if (placed.last && nbytes != placed.frames->nbytes()) {
        placed.frames->pad_to_block();
        nbytes += block_nbytes;
    }
    file.resize(std::max(file.size(), placed.offset + nbytes));
    const auto in_file = file.begin() + static_cast<std::ptrdiff_t>(placed.offset);
    const auto behind = std::copy_n(placed.frames->slot(), std::min(nbytes, chunk_nbytes), in_file);
    if (nbytes > chunk_nbytes) {
        std::copy_n(placed.frames->spill(), nbytes - chunk_nbytes, behind);
    }
}

} // namespace

TEST_CASE("chunks that come in any order lie in the file in theirs, without a gap") {
    std::mt19937 random(7);
    for (int round = 0; round < 60; ++round) {
        std::vector<std::unique_ptr<Frames>> chunks;
        std::vector<std::byte> expected;
        const std::size_t count = 1 + random() % 12;
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t sizes[] = {
                1 + random() % 100, 4096, 4095, 1 + random() % 20000, chunk_nbytes - random() % 5,
                chunk_nbytes + 105};
            chunks.push_back(std::make_unique<Frames>(sizes[random() % (round % 6 == 0 ? 6 : 4)]));
            expected.insert(expected.end(), chunks[i]->bytes.begin(), chunks[i]->bytes.end());
        }
        std::vector<std::size_t> order(count);
        std::iota(order.begin(), order.end(), 0);
        std::shuffle(order.begin(), order.end(), random);
        FramePacker packer(count);
        std::vector<std::byte> file;
        std::size_t lasts = 0;
        for (const std::size_t index : order) {
            std::vector<FramePacker::Placed> placed;
            REQUIRE(packer.try_add(index, chunks[index]->frames, placed));
            std::shuffle(placed.begin(), placed.end(), random); // writes are in no order either
            for (FramePacker::Placed &place : placed) {
                lasts += place.last ? 1 : 0;
                write(place, file);
            }
        }
        CHECK(lasts == 1);
        CHECK(packer.file_nbytes() == expected.size());
        REQUIRE(file.size() >= expected.size());
        CHECK(file.size() - expected.size() < block_nbytes);
        file.resize(expected.size());
        CHECK(file == expected);
        for (std::size_t i = 0; i < count; ++i) {
            CHECK(packer.sizes()[i] == chunks[i]->bytes.size());
        }
    }
}

TEST_CASE("a file that is given up returns those that wait, and takes no more") {
    FramePacker packer(4);
    Frames one(100);
    Frames two(200);
    Frames three(300);
    std::vector<FramePacker::Placed> placed;
    CHECK(packer.try_add(2, two.frames, placed));
    CHECK(packer.try_add(0, one.frames, placed));
    CHECK(placed.size() == 1);
    const auto in_vain = packer.give_up();
    REQUIRE(in_vain.size() == 1);
    CHECK(in_vain[0] == two.frames);
    CHECK_FALSE(packer.try_add(1, three.frames, placed));
    CHECK(placed.size() == 1);
    CHECK(packer.give_up().empty());
}
