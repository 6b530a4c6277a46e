// Chunks to frames and back, without files.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "codec/chunk_frames.h"
#include "codec/chunk_table.h"
#include "codec/codec.h"
#include "codec/entropy.h"
#include "codec/stored_frame.h"
#include "engine_fixture.h"
#include "error.h"

namespace {

using namespace engine_fixture;
using sucrose::chunk_nbytes;
using sucrose::ChunkFrames;
using sucrose::ChunkTable;
using sucrose::Decoder;
using sucrose::Encoder;

// A slot, aligned as those of a pool.
class Slot {
public:
    Slot() : memory_(chunk_nbytes + sucrose::block_nbytes) {
        void *at = memory_.data();
        std::size_t space = memory_.size();
        data_ =
            static_cast<std::byte *>(std::align(sucrose::block_nbytes, chunk_nbytes, at, space));
    }
    std::byte *data() { return data_; }

private:
    std::vector<std::byte> memory_;
    std::byte *data_;
};

// The high bytes of numbers around zero, with low bytes of noise, `itemsize` bytes each.
std::vector<std::byte> weights(std::size_t nbytes, std::size_t itemsize) {
    std::vector<std::byte> bytes = random_bytes(nbytes);
    std::mt19937_64 random(itemsize);
    std::geometric_distribution<int> exponent(0.4);
    for (std::size_t at = itemsize - 1; at < nbytes; at += itemsize) {
        bytes[at] = static_cast<std::byte>(0x3C - exponent(random));
    }
    return bytes;
}

struct Encoded {
    std::vector<std::byte> bytes;
    std::size_t itemsize;
};

Encoded encoded(Encoder &encoder, const std::vector<std::byte> &raw, std::size_t itemsize,
                int level) {
    Slot slot;
    std::copy(raw.begin(), raw.end(), slot.data());
    const auto frames = std::make_unique<ChunkFrames>(slot.data());
    Encoded result;
    result.itemsize = encoder.encode(*frames, raw.size(), itemsize, level);
    result.bytes.resize(frames->nbytes());
    frames->copy_tail(result.bytes);
    return result;
}

// What is consumed has to be what is in `raw`, once and in order.
std::string decoded(Decoder &decoder, const std::vector<std::byte> &bytes, std::size_t itemsize,
                    std::vector<std::byte> &raw) {
    std::size_t end = 0;
    const std::string why_not = decoder.decode(
        bytes, itemsize, raw, [&](std::size_t at, std::span<const std::byte> consumed) {
            REQUIRE(at == end);
            REQUIRE(consumed.data() == raw.data() + at);
            end += consumed.size();
        });
    REQUIRE(end == (why_not.empty() ? raw.size() : 0));
    return why_not;
}

std::string why_not(const std::vector<std::byte> &bytes, std::size_t nbytes,
                    std::size_t itemsize = 0) {
    std::vector<std::byte> raw(nbytes);
    Decoder decoder;
    return decoded(decoder, bytes, itemsize, raw);
}

std::vector<std::byte> stored(const std::vector<std::byte> &content) {
    Slot slot;
    const auto frames = std::make_unique<ChunkFrames>(slot.data());
    frames->append_stored(content);
    std::vector<std::byte> bytes(frames->nbytes());
    frames->copy_tail(bytes);
    return bytes;
}

} // namespace

TEST_CASE("chunks of any size, filter and level come back") {
    Encoder encoder;
    Decoder decoder;
    for (const std::size_t nbytes :
         {std::size_t{1}, std::size_t{7}, std::size_t{4096}, sucrose::frame_block_nbytes,
          sucrose::frame_block_nbytes + 1, std::size_t{1000003}, chunk_nbytes}) {
        for (const std::size_t itemsize : {0, 2, 4, 8}) {
            for (const int level : {0, 3, -50}) {
                for (const bool noise : {false, true}) {
                    CAPTURE(nbytes);
                    CAPTURE(itemsize);
                    CAPTURE(level);
                    const auto raw = noise ? random_bytes(nbytes)
                                           : weights(nbytes, std::max<std::size_t>(2, itemsize));
                    const Encoded chunk = encoded(encoder, raw, itemsize, level);
                    CHECK((chunk.itemsize == itemsize || chunk.itemsize == 0));
                    CHECK(chunk.bytes.size() <= nbytes + sucrose::max_frames_overhead_nbytes);
                    std::vector<std::byte> back(nbytes);
                    REQUIRE(decoded(decoder, chunk.bytes, chunk.itemsize, back) == "");
                    REQUIRE(back == raw);
                }
            }
        }
        if (nbytes == chunk_nbytes) { // level 22 takes seconds
            const auto raw = weights(200000, 2);
            const Encoded chunk = encoded(encoder, raw, 2, 22);
            std::vector<std::byte> back(raw.size());
            REQUIRE(decoded(decoder, chunk.bytes, chunk.itemsize, back) == "");
            CHECK(back == raw);
        }
    }
}

TEST_CASE("planes that compress do, noise is stored for a header in each block") {
    Encoder encoder;
    const Encoded numbers = encoded(encoder, weights(chunk_nbytes, 2), 2, sucrose::entropy_only);
    CHECK(numbers.itemsize == 2);
    CHECK(numbers.bytes.size() < chunk_nbytes * 7 / 10);
    const Encoded noise = encoded(encoder, random_bytes(chunk_nbytes), 2, sucrose::entropy_only);
    CHECK(noise.itemsize == 0);
    CHECK(noise.bytes.size() == sucrose::stored_frame_nbytes(chunk_nbytes));
    const Encoded zeros =
        encoded(encoder, std::vector<std::byte>(chunk_nbytes), 4, sucrose::entropy_only);
    CHECK(zeros.bytes.size() < chunk_nbytes / 500);
}

TEST_CASE("a look at the bytes tells which planes compress") {
    CHECK(sucrose::compressible_planes(weights(1 << 20, 2), 2) == 0b10);
    CHECK(sucrose::compressible_planes(weights(1 << 20, 4), 4) == 0b1000);
    CHECK(sucrose::compressible_planes(random_bytes(1 << 20), 8) == 0);
    CHECK(sucrose::compressible_planes({}, 2) == 0);
    // A tensor behind another one counts as well.
    std::vector<std::byte> two = random_bytes(1 << 20);
    std::fill(two.begin() + (1 << 19), two.end(), std::byte{3});
    CHECK(sucrose::compressible_planes(two, 1) == 1);
}

TEST_CASE("stored frames are the same in place and from elsewhere") {
    for (const std::size_t nbytes : {std::size_t{0}, std::size_t{1}, sucrose::frame_block_nbytes,
                                     std::size_t{300001}, chunk_nbytes}) {
        const std::vector<std::byte> raw = random_bytes(nbytes);
        Slot slot;
        std::copy(raw.begin(), raw.end(), slot.data());
        const auto frames = std::make_unique<ChunkFrames>(slot.data());
        frames->store_in_place(nbytes);
        std::vector<std::byte> in_place(frames->nbytes());
        frames->copy_tail(in_place);
        CHECK(in_place == stored(raw));
        CHECK(in_place.size() == sucrose::stored_frame_nbytes(nbytes));
        CHECK(why_not(in_place, nbytes) == "");
    }
}

TEST_CASE("what is put before frames moves them, into the spill if need be") {
    const std::vector<std::byte> head = random_bytes(4095);
    for (const std::size_t nbytes : {std::size_t{100}, chunk_nbytes - 4000, chunk_nbytes}) {
        const std::vector<std::byte> raw = random_bytes(nbytes);
        Slot slot;
        std::copy(raw.begin(), raw.end(), slot.data());
        const auto frames = std::make_unique<ChunkFrames>(slot.data());
        frames->store_in_place(nbytes);
        frames->prepend(head);
        std::vector<std::byte> expected = head;
        const std::vector<std::byte> frame = stored(raw);
        expected.insert(expected.end(), frame.begin(), frame.end());
        std::vector<std::byte> found(frames->nbytes());
        frames->copy_tail(found);
        CHECK(found == expected);
        frames->pad_to_block();
        const std::size_t in_slot = std::min(expected.size(), chunk_nbytes);
        CHECK(std::memcmp(frames->slot(), expected.data(), in_slot) == 0);
        CHECK(std::memcmp(frames->spill(), expected.data() + in_slot, expected.size() - in_slot) ==
              0);
    }
}

TEST_CASE("frames that are not what a chunk needs are refused with the reason") {
    Encoder encoder;
    const std::vector<std::byte> raw = weights(100000, 2);
    const std::vector<std::byte> good = encoded(encoder, raw, 2, 0).bytes;
    REQUIRE(why_not(good, raw.size(), 2) == "");

    const auto with = [&](std::size_t at, std::vector<int> values) {
        std::vector<std::byte> bytes = good;
        for (std::size_t i = 0; i < values.size(); ++i) {
            bytes[at + i] = static_cast<std::byte>(values[i]);
        }
        return why_not(bytes, raw.size(), 2);
    };
    const auto says = [](const std::string &why, const char *what) {
        CAPTURE(why);
        return why.find(what) != std::string::npos;
    };
    CHECK(says(with(0, {0x50, 0x2A, 0x4D, 0x18}), "no zstd frame")); // skippable
    CHECK(says(with(0, {1, 2, 3, 4}), "no zstd frame"));
    // A window of 2^60 bytes, and as much content; a dictionary; a window of 2^31 bytes
    CHECK(says(with(4, {0xE0, 0, 0, 0, 0, 0, 0, 0, 0x10}), "window"));
    CHECK(says(with(4, {0xC0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10}), "more than the chunk's"));
    CHECK(says(with(4, {0xA1, 7}), "dictionary"));
    CHECK(says(with(4, {0x80, 21 << 3}), "window"));
    CHECK(says(why_not(good, raw.size() - 2, 2), "more than the chunk's"));
    CHECK(says(why_not(good, raw.size() + 2, 2), "not 100002"));

    std::vector<std::byte> longer = good;
    longer.push_back(std::byte{0});
    CHECK(says(why_not(longer, raw.size(), 2), "no zstd frame"));
    CHECK(says(why_not({}, 10), "frames of 0 bytes, not 10"));
    for (std::size_t n = 0; n < good.size(); n += 997) {
        CHECK(why_not({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n)}, raw.size(),
                      2) != "");
    }
}

TEST_CASE("damaged frames are refused or are other bytes, and nothing worse") {
    Encoder encoder;
    const std::vector<std::byte> raw = weights(30000, 4);
    const Encoded good = encoded(encoder, raw, 4, 0);
    std::mt19937 random(1);
    Decoder decoder;
    std::vector<std::byte> back(raw.size());
    for (int i = 0; i < 3000; ++i) {
        std::vector<std::byte> bytes = good.bytes;
        for (unsigned k = 0; k <= random() % 3; ++k) {
            bytes[random() % bytes.size()] = static_cast<std::byte>(random());
        }
        if (decoded(decoder, bytes, good.itemsize, back).empty() && bytes != good.bytes) {
            CHECK(back.size() == raw.size());
        }
    }
    REQUIRE(decoded(decoder, good.bytes, good.itemsize, back) == "");
    CHECK(back == raw); // the decoder is none the worse for it
}

TEST_CASE("a bomb of frames does not get more memory than the chunk has") {
    // Frames of one run of 128 KiB each, in 13 bytes.
    std::vector<std::byte> bomb;
    for (int i = 0; i < 100000; ++i) {
        for (const int value : {0x28, 0xB5, 0x2F, 0xFD, 0xA0, 0, 0, 2, 0, 3, 0, 0x10, 7}) {
            bomb.push_back(static_cast<std::byte>(value));
        }
    }
    CHECK(why_not(bomb, chunk_nbytes).find("more than the chunk's") != std::string::npos);
    bomb.resize(32 * 13);
    CHECK(why_not(bomb, chunk_nbytes) == "");
}

TEST_CASE("a chunk table has to fit its file") {
    constexpr std::uint64_t nbytes = 2 * chunk_nbytes + 10;
    const ChunkTable table({100, 200, 30}, {2, 0, 8}, nbytes);
    CHECK(table.offset(2) == 300);
    CHECK(table.nbytes(1) == 200);
    CHECK(table.itemsize(2) == 8);
    CHECK(table.stored_nbytes() == 330);
    CHECK(ChunkTable({}, {}, 0).stored_nbytes() == 0);
    CHECK_THROWS_AS(ChunkTable({100, 200}, {}, nbytes), sucrose::Error);
    CHECK_THROWS_AS(ChunkTable({100, 200, 0}, {}, nbytes), sucrose::Error);
    CHECK_THROWS_AS(ChunkTable({100, 200, 2000}, {}, nbytes), sucrose::Error);
    CHECK_THROWS_AS(ChunkTable({100, UINT64_MAX, 20}, {}, nbytes), sucrose::Error);
    CHECK_THROWS_AS(ChunkTable({100, 200, 30}, {2, 0}, nbytes), sucrose::Error);
    CHECK_THROWS_AS(ChunkTable({100, 200, 30}, {2, 0, 3}, nbytes), sucrose::Error);
    CHECK_THROWS_AS(ChunkTable({}, {}, UINT64_MAX), sucrose::Error);
}
