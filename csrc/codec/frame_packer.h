// Gives encoded chunks their places in the file.
//
//   1. Chunks are encoded side by side and come here in any order.
//   2. A chunk has its place once all before it have come: behind them, without a gap. To tell
//      places takes sizes, not time, so those that have waited get theirs all at once.
//   3. Writes are of whole blocks. The bytes behind a chunk's last whole block are the head of the
//      next chunk's write; the last chunk writes its own, padded. The file is cut afterwards.
//
// Nobody waits in here: a chunk that has to wait lies in its slot, without a thread. Chunks start
// in the order of the file (those that go through one pool of slots), so the first one without a
// place has always been started, or will be with the next slot of its pool that comes free.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "buffer_pool.h"
#include "codec/chunk_frames.h"

namespace sucrose {

// Thread-safe.
class FramePacker {
public:
    struct Placed {
        std::shared_ptr<ChunkFrames> frames;
        std::uint64_t offset = 0;    // in the file, of the block that the chunk's write begins with
        std::size_t head_nbytes = 0; // what that block has before the chunk
        std::array<std::byte, block_nbytes> head;
        bool last = false;
    };

    explicit FramePacker(std::size_t chunk_count) : sizes_(chunk_count, 0) {}

    // Adds chunk `index`, and to `placed` all that have their places now, in file order. False
    // where the file was given up: the chunk goes nowhere then.
    bool try_add(std::size_t index, std::shared_ptr<ChunkFrames> frames,
                 std::vector<Placed> &placed);
    // Gives the file up, and back the chunks that have waited in vain.
    std::vector<std::shared_ptr<ChunkFrames>> give_up();

    // Of the encoded chunks, and of the file; valid once all have their places.
    const std::vector<std::uint64_t> &sizes() const noexcept { return sizes_; }
    std::uint64_t file_nbytes() const noexcept { return end_; }

private:
    Placed place_locked(std::shared_ptr<ChunkFrames> frames);

    std::mutex mutex_;
    std::vector<std::uint64_t> sizes_;
    std::map<std::size_t, std::shared_ptr<ChunkFrames>> waiting_; // by index
    std::size_t next_ = 0;                     // chunks [0, next_) have their places
    std::uint64_t end_ = 0;                    // of these
    std::array<std::byte, block_nbytes> tail_; // the file's bytes behind its last whole block
    bool given_up_ = false;
};

} // namespace sucrose
