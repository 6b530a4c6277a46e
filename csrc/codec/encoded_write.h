// What a write with compression does besides one without: see frame_packer.h for the order.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "codec/codec.h"
#include "codec/compression_trial.h"
#include "codec/frame_packer.h"

namespace sucrose {

// How the chunks of a file are encoded.
struct Encoding {
    int level = entropy_only;
    std::vector<std::uint8_t> itemsizes; // of each chunk's byte-group filter; empty: no filters
    bool adaptive = false;               // stop where it does not pay
};

// Totals since the engine was started, in bytes.
struct EncodingCounters {
    std::atomic<std::uint64_t> compressed_nbytes = 0;    // raw bytes of chunks that were compressed
    std::atomic<std::uint64_t> compressed_to_nbytes = 0; // and what was written of them
    std::atomic<std::uint64_t> left_nbytes = 0; // raw bytes that adaptive files left as they are
    std::atomic<std::uint64_t> decoded_nbytes = 0;
};

// What all encoded reads and writes of an engine share. Thread-safe.
struct Codecs {
    ToolPool<Encoder> encoders;
    ToolPool<Decoder> decoders;
    CompressionHistory history;
    EncodingCounters counters;
};

// Thread-safe.
class EncodedWrite {
public:
    // Throws Error where the encoding does not fit a file of so many chunks.
    EncodedWrite(Codecs &codecs, Encoding encoding, std::size_t chunk_count);
    // Lets an adaptive encoding find out whether it pays.
    void try_out(dev_t storage, std::size_t worker_count, bool written_through);

    // Replaces the `nbytes` raw bytes of chunk `index` by frames.
    void encode(std::size_t index, ChunkFrames &frames, std::size_t nbytes);

    FramePacker &packer() noexcept { return packer_; }
    const FramePacker &packer() const noexcept { return packer_; }
    // nullptr where the encoding is not adaptive.
    CompressionTrial *trial() noexcept { return trial_ ? &*trial_ : nullptr; }
    // Of the chunks as they have been encoded.
    const std::vector<std::uint8_t> &itemsizes() const noexcept { return used_itemsizes_; }

private:
    Codecs &codecs_;
    const Encoding encoding_;
    FramePacker packer_;
    std::optional<CompressionTrial> trial_;
    std::vector<std::uint8_t> used_itemsizes_;
};

} // namespace sucrose
