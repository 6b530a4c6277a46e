// Chunks to zstd frames and back.
//
// A chunk becomes one frame, or with a byte-group filter one for each plane that compresses and one
// for each run of planes that do not. So a file is a valid .zst, whose content is the chunks, split
// into byte groups where they have a filter. Every frame tells the size of its content; none has a
// dictionary or a checksum: digests are of the raw chunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "codec/chunk_frames.h"
#include "codec/content_pieces.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace sucrose {

// As a level: code the entropy of single bytes, and hardly look for repeated strings. Weights have
// none, and nothing is faster.
inline constexpr int entropy_only = 0;
inline constexpr int min_level = -50;
inline constexpr int max_level = 22;
// Throws Error for a level that is not within these.
void check_level(int level);

// What the frames of a chunk may have more than the chunk. Ours have at most 200 bytes.
inline constexpr std::size_t max_frames_overhead_nbytes = 1024;
// Of a frame, in a file that is read. No frame has more content than a chunk.
inline constexpr std::uint64_t max_window_nbytes = std::uint64_t{8} << 20;

// Memory for one chunk, encoded or not, made by its first use and kept.
class ChunkScratch {
public:
    static constexpr std::size_t nbytes = chunk_nbytes + max_frames_overhead_nbytes;

    // Throws OutOfMemory.
    std::byte *data();

private:
    std::unique_ptr<std::byte[]> memory_;
};

// Keeps a chunk of memory, and zstd's own: 0.5 MiB for entropy only and up to 16 MiB for other
// levels. Not thread-safe.
class Encoder {
public:
    // Replaces the `nbytes` raw bytes in the slot of `frames`, which are as good as random
    // afterwards, by frames; returns the item size that was used, 0 where splitting brings nothing.
    // Throws OutOfMemory.
    std::size_t encode(ChunkFrames &frames, std::size_t nbytes, std::size_t itemsize, int level);

private:
    struct Free {
        void operator()(ZSTD_CCtx_s *context) const noexcept;
    };
    bool try_compress(ChunkFrames &frames, std::span<const std::byte> content);
    void prepare(int level);
    void drop_large_context() noexcept;

    ChunkScratch scratch_;
    std::unique_ptr<ZSTD_CCtx_s, Free> context_;
    int level_ = max_level + 1; // that the context is set to
};

// Keeps up to three chunks of memory, and 0.2 MiB of zstd's. Not thread-safe.
class Decoder {
public:
    // Fills `raw`, which shares no memory with them, from the frames in `encoded`, and hands it to
    // `consume`. Returns why that cannot be done, empty on success; `raw` is undefined else, but
    // nothing was consumed. Takes nothing that the frames claim for granted. Throws OutOfMemory.
    std::string decode(std::span<const std::byte> encoded, std::size_t itemsize,
                       std::span<std::byte> raw, const RawConsumer &consume);
    // Memory for a raw chunk, which `decode` itself does not use.
    std::byte *raw_scratch() { return raw_.data(); }
    // The same bytes in one piece.
    std::span<const std::byte> join(std::span<const std::byte> first,
                                    std::span<const std::byte> second);

private:
    struct Free {
        void operator()(ZSTD_DCtx_s *context) const noexcept;
    };
    std::string decode_frames(std::span<const std::byte> encoded, std::span<std::byte> content,
                              bool in_place);

    ChunkScratch planes_;
    ChunkScratch raw_;
    ChunkScratch joined_;
    ContentPieces pieces_;
    std::unique_ptr<ZSTD_DCtx_s, Free> context_;
};

// Lends what is dear to make and used by one thread at a time: as many as threads use at once, the
// one that was used last first. Thread-safe.
template <typename Tool> class ToolPool {
public:
    class Lease {
    public:
        Lease(ToolPool &pool, std::unique_ptr<Tool> tool) : pool_(pool), tool_(std::move(tool)) {}
        ~Lease() { pool_.give_back(std::move(tool_)); }
        Lease(const Lease &) = delete;
        Lease &operator=(const Lease &) = delete;
        Tool *operator->() noexcept { return tool_.get(); }

    private:
        ToolPool &pool_;
        std::unique_ptr<Tool> tool_;
    };

    Lease lease() {
        const std::lock_guard lock(mutex_);
        if (free_.empty()) {
            free_.reserve(++made_); // giving back must not allocate
            return Lease(*this, std::make_unique<Tool>());
        }
        std::unique_ptr<Tool> tool = std::move(free_.back());
        free_.pop_back();
        return Lease(*this, std::move(tool));
    }

private:
    void give_back(std::unique_ptr<Tool> tool) noexcept {
        const std::lock_guard lock(mutex_);
        free_.push_back(std::move(tool));
    }

    std::mutex mutex_;
    std::size_t made_ = 0;
    std::vector<std::unique_ptr<Tool>> free_;
};

} // namespace sucrose
