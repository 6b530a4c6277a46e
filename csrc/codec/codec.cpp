#define ZSTD_STATIC_LINKING_ONLY // literal compression mode, frame headers
#include "codec/codec.h"

#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "codec/byte_group.h"
#include "codec/entropy.h"
#include "error.h"

namespace sucrose {

namespace {

// The lower the level the further apart zstd looks for matches. In planes of exponents these are
// hardly ever worth it, and the literals between them are all the Huffman coder gets.
constexpr int entropy_only_level = -5000;
constexpr int entropy_only_min_match = 7;
// ZSTD_ps_enable, or ZSTD_lcm_huffman before zstd 1.5.1. Levels below 0 do without by themselves.
constexpr int huffman_literals = 1;

// A frame has to be smaller than its content by one part in this many, else the content is stored:
// decoding is not free either.
constexpr std::size_t min_gain_divisor = 64;

// Contexts of high levels are not kept.
constexpr std::size_t kept_context_nbytes = std::size_t{16} << 20;

void set(ZSTD_CCtx *context, ZSTD_cParameter parameter, int value) {
    const std::size_t result = ZSTD_CCtx_setParameter(context, parameter, value);
    if (ZSTD_isError(result) != 0) {
        throw Error(std::string("zstd refuses a parameter: ") + ZSTD_getErrorName(result));
    }
}

} // namespace

void check_level(int level) {
    if (level < min_level || level > max_level) {
        throw Error("compression level " + std::to_string(level) + " is not within " +
                    std::to_string(min_level) + " to " + std::to_string(max_level));
    }
}

std::byte *ChunkScratch::data() {
    if (memory_ == nullptr) {
        memory_.reset(new (std::nothrow) std::byte[nbytes]);
        if (memory_ == nullptr) {
            throw OutOfMemory(nbytes);
        }
    }
    return memory_.get();
}

void Encoder::Free::operator()(ZSTD_CCtx_s *context) const noexcept {
    ZSTD_freeCCtx(context);
}

std::size_t Encoder::encode(ChunkFrames &frames, std::size_t nbytes, std::size_t itemsize,
                            int level) {
    const std::span<const std::byte> raw{frames.slot(), nbytes};
    const bool filter = itemsize != 0;
    const std::size_t plane_count = filter ? itemsize : 1;
    // Without a filter other levels are tried out: repeated strings compress whatever the entropy.
    const bool told_by_entropy = filter || level == entropy_only;
    const std::uint32_t planes = told_by_entropy ? compressible_planes(raw, plane_count) : 1;
    if (planes == 0) {
        frames.store_in_place(nbytes);
        return 0;
    }
    prepare(level);
    std::byte *content = scratch_.data();
    if (filter) {
        split_bytes(raw, itemsize, content);
    } else {
        std::memcpy(content, raw.data(), nbytes);
    }
    const std::size_t plane_nbytes = nbytes / plane_count;
    std::size_t stored_from = 0; // planes [stored_from, plane) do not compress
    bool any_compressed = false;
    const auto end_of = [&](std::size_t plane) { // behind the last one come the odd bytes
        return plane == plane_count ? nbytes : plane * plane_nbytes;
    };
    const auto store_until = [&](std::size_t plane) {
        if (stored_from != plane) {
            const std::size_t begin = stored_from * plane_nbytes;
            frames.append_stored({content + begin, end_of(plane) - begin});
        }
    };
    for (std::size_t plane = 0; plane < plane_count; ++plane) {
        const std::size_t begin = plane * plane_nbytes;
        if ((planes >> plane & 1U) == 0) {
            continue;
        }
        store_until(plane);
        stored_from = plane;
        if (try_compress(frames, {content + begin, end_of(plane + 1) - begin})) {
            stored_from = plane + 1;
            any_compressed = true;
        }
    }
    drop_large_context();
    if (!any_compressed) { // the look was wrong: the raw bytes go where they came from
        if (filter) {
            merge_bytes({content, nbytes}, itemsize, frames.slot());
        } else {
            std::memcpy(frames.slot(), content, nbytes);
        }
        frames.store_in_place(nbytes);
        return 0;
    }
    store_until(plane_count);
    return itemsize;
}

bool Encoder::try_compress(ChunkFrames &frames, std::span<const std::byte> content) {
    const std::span<std::byte> room = frames.room();
    const std::size_t enough = content.size() - content.size() / min_gain_divisor - 1;
    const std::size_t result = ZSTD_compress2(
        context_.get(), room.data(), std::min(room.size(), enough), content.data(), content.size());
    if (ZSTD_isError(result) != 0) {
        if (ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation) {
            throw OutOfMemory(ZSTD_sizeof_CCtx(context_.get()));
        }
        return false; // it does not fit
    }
    frames.grow(result);
    return true;
}

void Encoder::prepare(int level) {
    if (context_ == nullptr) {
        context_.reset(ZSTD_createCCtx());
        if (context_ == nullptr) {
            throw OutOfMemory(sizeof(void *));
        }
        level_ = max_level + 1;
    }
    if (level == level_) {
        return;
    }
    ZSTD_CCtx_reset(context_.get(), ZSTD_reset_session_and_parameters);
    if (level == entropy_only) {
        set(context_.get(), ZSTD_c_compressionLevel, entropy_only_level);
        set(context_.get(), ZSTD_c_minMatch, entropy_only_min_match);
        set(context_.get(), ZSTD_c_literalCompressionMode, huffman_literals);
    } else {
        set(context_.get(), ZSTD_c_compressionLevel, level);
    }
    level_ = level;
}

void Encoder::drop_large_context() noexcept {
    if (ZSTD_sizeof_CCtx(context_.get()) > kept_context_nbytes) {
        context_.reset();
    }
}

void Decoder::Free::operator()(ZSTD_DCtx_s *context) const noexcept {
    ZSTD_freeDCtx(context);
}

std::string Decoder::decode(std::span<const std::byte> encoded, std::size_t itemsize,
                            std::span<std::byte> raw, const RawConsumer &consume) {
    if (context_ == nullptr) {
        context_.reset(ZSTD_createDCtx());
        if (context_ == nullptr) {
            throw OutOfMemory(sizeof(void *));
        }
    }
    const bool in_groups = itemsize != 0;
    const std::span<std::byte> content = in_groups ? std::span{planes_.data(), raw.size()} : raw;
    std::string why_not = decode_frames(encoded, content, !in_groups);
    if (!why_not.empty()) {
        return why_not;
    }
    if (in_groups) {
        pieces_.merge(itemsize, raw, consume);
    } else {
        consume(0, raw);
    }
    return "";
}

std::span<const std::byte> Decoder::join(std::span<const std::byte> first,
                                         std::span<const std::byte> second) {
    std::byte *joined = joined_.data();
    std::memcpy(joined, first.data(), first.size());
    std::memcpy(joined + first.size(), second.data(), second.size());
    return {joined, first.size() + second.size()};
}

// Frame by frame, each into exactly the memory that it is to fill. Unless all are wanted there,
// stored ones stay where they are.
std::string Decoder::decode_frames(std::span<const std::byte> encoded, std::span<std::byte> content,
                                   bool in_place) {
    pieces_.clear();
    const std::size_t encoded_nbytes = encoded.size();
    const std::size_t content_nbytes = content.size();
    while (!encoded.empty()) {
        const std::string where =
            " at byte " + std::to_string(encoded_nbytes - encoded.size()) + " of the chunk";
        ZSTD_frameHeader header;
        if (ZSTD_getFrameHeader(&header, encoded.data(), encoded.size()) != 0 ||
            header.frameType != ZSTD_frame) {
            return "no zstd frame" + where;
        }
        if (header.dictID != 0) {
            return "a frame with a dictionary" + where;
        }
        if (header.windowSize > max_window_nbytes) {
            return "a frame with a window of " + std::to_string(header.windowSize) + " bytes" +
                   where;
        }
        if (header.frameContentSize > content.size()) { // unknown is the largest number of all
            return "a frame of more than the chunk's " + std::to_string(content_nbytes) + " bytes" +
                   where;
        }
        const std::size_t frame_nbytes =
            ZSTD_findFrameCompressedSize(encoded.data(), encoded.size());
        if (ZSTD_isError(frame_nbytes) != 0) {
            return std::string(ZSTD_getErrorName(frame_nbytes)) + where;
        }
        const auto wanted = static_cast<std::size_t>(header.frameContentSize);
        if (in_place || !pieces_.add_stored(encoded.first(frame_nbytes), wanted)) {
            const std::size_t got = ZSTD_decompressDCtx(context_.get(), content.data(), wanted,
                                                        encoded.data(), frame_nbytes);
            if (ZSTD_isError(got) != 0) {
                return std::string(ZSTD_getErrorName(got)) + where;
            }
            pieces_.add(content.first(wanted));
        }
        encoded = encoded.subspan(frame_nbytes);
        content = content.subspan(wanted); // of other sizes zstd says that they are an error
    }
    if (!content.empty()) {
        return "frames of " + std::to_string(content_nbytes - content.size()) + " bytes, not " +
               std::to_string(content_nbytes);
    }
    return "";
}

} // namespace sucrose
