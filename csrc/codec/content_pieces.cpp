#include "codec/content_pieces.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "codec/byte_group.h"
#include "codec/stored_frame.h"

namespace sucrose {

namespace {

// Merged at a time: with its groups it fits into the nearest cache.
constexpr std::size_t merged_nbytes = 16 << 10;

} // namespace

// A place in the pieces.
class ContentPieces::Cursor {
public:
    Cursor() = default;
    Cursor(const std::vector<std::span<const std::byte>> &pieces, std::size_t offset) noexcept
        : next_(pieces.data()), end_(pieces.data() + pieces.size()) {
        skip(offset);
    }

    const std::byte *data() const noexcept { return piece_.data(); }
    // Of the piece; 0 at the end only.
    std::size_t left() const noexcept { return piece_.size(); }
    void skip(std::size_t nbytes) noexcept {
        while (nbytes >= piece_.size()) {
            nbytes -= piece_.size();
            if (next_ == end_) {
                piece_ = {};
                return;
            }
            piece_ = *next_++;
        }
        piece_ = piece_.subspan(nbytes);
    }

private:
    std::span<const std::byte> piece_;
    const std::span<const std::byte> *next_ = nullptr;
    const std::span<const std::byte> *end_ = nullptr;
};

bool ContentPieces::add_stored(std::span<const std::byte> frame, std::size_t content_nbytes) {
    // All that lies between blocks of the full size, and so all lengths, follow from the content's.
    if (content_nbytes > UINT32_MAX || frame.size() != stored_frame_nbytes(content_nbytes)) {
        return false;
    }
    const auto header = stored_frame_header(static_cast<std::uint32_t>(content_nbytes));
    if (!std::equal(header.begin(), header.end(), frame.begin())) {
        return false;
    }
    const std::size_t pieces_before = pieces_.size();
    std::size_t left = content_nbytes;
    for (std::size_t at = header.size(); at < frame.size();) {
        const std::size_t n = std::min(left, frame_block_nbytes);
        const auto expected = raw_block_header(n, n == left);
        if (!std::equal(expected.begin(), expected.end(),
                        frame.begin() + static_cast<std::ptrdiff_t>(at))) {
            pieces_.resize(pieces_before);
            return false;
        }
        at += expected.size();
        add(frame.subspan(at, n));
        at += n;
        left -= n;
    }
    return true;
}

void ContentPieces::merge(std::size_t itemsize, std::span<std::byte> raw,
                          const RawConsumer &consume) const {
    const std::size_t count = raw.size() / itemsize;
    std::array<Cursor, max_group_itemsize> cursors;
    for (std::size_t group = 0; group < itemsize; ++group) {
        cursors[group] = Cursor(pieces_, group * count);
    }
    for (std::size_t item = 0; item < count;) {
        std::size_t n = std::min(count - item, merged_nbytes / itemsize);
        std::array<const std::byte *, max_group_itemsize> groups{};
        for (std::size_t group = 0; group < itemsize; ++group) {
            groups[group] = cursors[group].data();
            n = std::min(n, cursors[group].left());
        }
        merge_groups({groups.data(), itemsize}, n, raw.data() + item * itemsize);
        for (std::size_t group = 0; group < itemsize; ++group) {
            cursors[group].skip(n);
        }
        consume(item * itemsize, raw.subspan(item * itemsize, n * itemsize));
        item += n;
    }
    const std::size_t merged = count * itemsize;
    Cursor tail(pieces_, merged);
    for (std::size_t at = merged; at < raw.size(); ++at) {
        raw[at] = *tail.data();
        tail.skip(1);
    }
    if (merged != raw.size()) {
        consume(merged, raw.subspan(merged));
    }
}

} // namespace sucrose
