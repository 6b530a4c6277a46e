// The content of a chunk's frames where it lies: compressed frames are decoded into memory, stored
// ones need not be copied.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

namespace sucrose {

// Is told of each stretch of a raw chunk once it is complete, in order, while it is in the nearest
// cache.
using RawConsumer = std::function<void(std::size_t offset, std::span<const std::byte> bytes)>;

// One after another. Not thread-safe.
class ContentPieces {
public:
    void clear() noexcept { pieces_.clear(); }
    void add(std::span<const std::byte> piece) { pieces_.push_back(piece); }
    // Adds the content of a frame of `content_nbytes` bytes if it is stored as we store it, else
    // adds nothing and returns false. `frame` has the whole frame and nothing else.
    bool add_stored(std::span<const std::byte> frame, std::size_t content_nbytes);

    // Undoes byte groups into `raw`, which has as many bytes as all pieces together and shares none
    // with them.
    void merge(std::size_t itemsize, std::span<std::byte> raw, const RawConsumer &consume) const;

private:
    class Cursor;

    std::vector<std::span<const std::byte>> pieces_;
};

} // namespace sucrose
