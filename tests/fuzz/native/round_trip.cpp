// What is encoded is decoded to the same bytes, whatever they are.
//
// Input: item size of the filter, level, how often the bytes are repeated, and the bytes.
#include "codec/codec.h"
#include "fuzzed_bytes.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

using namespace sucrose;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t nbytes) {
    static Encoder encoder;
    static Decoder decoder;
    FuzzedBytes input(data, nbytes);
    const std::size_t itemsize = fuzzed_itemsizes[input.byte() % 4];
    const int level = static_cast<int>(input.byte() % 60) + min_level; // the highest take too long
    const std::size_t repeats = 1 + input.byte() % 64;
    const std::span<const std::byte> piece = input.rest();
    std::vector<std::byte> raw;
    for (std::size_t i = 0; i < repeats && raw.size() + piece.size() <= chunk_nbytes; ++i) {
        raw.insert(raw.end(), piece.begin(), piece.end());
    }
    if (raw.empty()) {
        return 0; // no chunk is
    }
    alignas(block_nbytes) static std::byte slot[chunk_nbytes];
    std::memcpy(slot, raw.data(), raw.size());
    const auto frames = std::make_unique<ChunkFrames>(slot);
    const std::size_t used = encoder.encode(*frames, raw.size(), itemsize, level);
    if (used != 0 && used != itemsize) {
        std::abort();
    }
    std::vector<std::byte> encoded(frames->nbytes());
    if (encoded.size() > raw.size() + max_frames_overhead_nbytes) {
        std::abort();
    }
    frames->copy_tail(encoded);
    std::vector<std::byte> found(raw.size());
    if (!decoder.decode(encoded, used, found, [](std::size_t, std::span<const std::byte>) {})
             .empty() ||
        found != raw) {
        std::abort();
    }
    return 0;
}
