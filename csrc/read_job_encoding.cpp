// The steps of a read that decodes.
//
//   1. A chunk's frames are decoded where they lie in the page cache. Where they do not they are
//      read into the slot; the few bytes for which it has no room go into memory of their own.
//   2. A worker decodes them, straight to where all of the chunk belongs if that is one piece of
//      host memory, else into memory for a chunk that is not the frames' own.
//   3. What comes out is digested and taken where it is wanted while it is in the nearest cache.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "codec/codec.h"
#include "error.h"
#include "read_job.h"

namespace sucrose {

namespace {

// Read at a time through the page cache.
constexpr std::size_t read_nbytes = 1 << 20;

} // namespace

// The part of the file that has a chunk's frames, in whole blocks where it is read directly.
struct ReadJob::EncodedRange {
    ChunkPtr chunk;
    std::uint64_t begin;
    std::size_t skip;   // before the frames
    std::size_t nbytes; // of the frames
    // What has no room in the slot: a chunk that does not compress, and what blocks add to it.
    alignas(block_nbytes) std::array<std::byte, 3 * block_nbytes> rest;
};

void ReadJob::process_encoded(const ChunkPtr &chunk) {
    const ChunkTable &table = *options_.stored;
    const auto index = static_cast<std::size_t>(chunks_[chunk->ordinal]);
    const std::uint64_t begin = table.offset(index);
    const std::size_t nbytes = table.nbytes(index);
    // Whoever can write to the file could change pages while they are decoded.
    if (options_.mode == ReadMode::automatic && options_.digest_kind == DigestKind::xxh3_128) {
        const std::span<const std::byte> cached = file_->resident(begin, nbytes);
        if (!cached.empty()) {
            scheduler_.counters().resident_nbytes += nbytes;
            decode(chunk, cached, {});
            return;
        }
    }
    auto range = std::make_shared<EncodedRange>();
    range->chunk = chunk;
    range->skip = file_->direct() ? begin % block_nbytes : 0;
    range->begin = begin - range->skip;
    range->nbytes = nbytes;
    scheduler_.readers().post(guarded(chunk, [this, range] { read_encoded(range); }));
}

void ReadJob::read_encoded(const std::shared_ptr<EncodedRange> &range) {
    const ChunkPtr &chunk = range->chunk;
    const std::size_t required = range->skip + range->nbytes;
    const std::size_t in_slot = std::min(required, chunk_nbytes);
    const TraceScope trace(scheduler_.tracer(), chunk->track(), "read", required);
    const std::size_t step = file_->direct() ? chunk_nbytes : read_nbytes;
    int error = 0;
    for (std::size_t at = 0; at < in_slot && error == 0; at += step) {
        const std::size_t n = std::min(step, in_slot - at);
        error =
            read_piece(chunk, {chunk->slot.data() + at, chunk_nbytes - at}, range->begin + at, n);
    }
    if (error == 0 && required > in_slot) {
        error = read_piece(chunk, range->rest, range->begin + in_slot, required - in_slot);
    }
    if (error != 0) {
        chunk_done(chunk, 0, std::make_exception_ptr(SystemError(error, "pread", file_->path())));
        return;
    }
    post_front(chunk, [this, range, in_slot, required] {
        const std::span<const std::byte> first{range->chunk->slot.data() + range->skip,
                                               in_slot - range->skip};
        decode(range->chunk, first, {range->rest.data(), required - in_slot});
    });
}

// Reads `required_nbytes` bytes, and what blocks have beyond if the file is read directly: `target`
// has room for it. Returns 0 or an errno.
int ReadJob::read_piece(const ChunkPtr &chunk, std::span<std::byte> target, std::uint64_t offset,
                        std::size_t required_nbytes) const noexcept {
    const bool direct = file_->direct();
    IoRequest request{
        .kind = IoRequest::Kind::read,
        .fd = direct ? file_->fd() : file_->lane_fd(chunk->ordinal % read_lanes),
        .data = target.data(),
        .nbytes = direct ? (required_nbytes + block_nbytes - 1) / block_nbytes * block_nbytes
                         : required_nbytes,
        .offset = offset,
        .required_nbytes = required_nbytes,
        .alignment = direct ? block_nbytes : 1,
        .done = nullptr,
    };
    return transfer(request);
}

void ReadJob::decode(const ChunkPtr &chunk, std::span<const std::byte> encoded,
                     std::span<const std::byte> rest) {
    const Range range = range_of(chunk->ordinal);
    const std::size_t itemsize =
        options_.stored->itemsize(static_cast<std::size_t>(chunks_[chunk->ordinal]));
    std::byte *slot = chunk->slot.data();
    std::byte *straight = destinations_.contiguous(range.begin, range.nbytes);
    auto decoder = scheduler_.codecs().decoders.lease();
    if (!rest.empty()) {
        encoded = decoder->join(encoded, rest);
    }
    const bool in_slot = encoded.data() >= slot && encoded.data() < slot + chunk_nbytes;
    std::byte *raw = straight;
    if (straight == nullptr) { // not into the memory that it is decoded from
        raw = in_slot ? decoder->raw_scratch() : slot;
    }
    Findings findings = no_findings();
    {
        const TraceScope trace(scheduler_.tracer(), chunk->track(), "decode, digest and scatter",
                               range.nbytes);
        std::string why_not =
            decoder->decode(encoded, itemsize, {raw, range.nbytes},
                            [&](std::size_t at, std::span<const std::byte> bytes) {
                                consume(findings, range.begin + at, bytes, straight != nullptr);
                            });
        if (!why_not.empty()) {
            conclude_undecodable(chunk, range, std::move(why_not));
            return;
        }
    }
    scheduler_.codecs().counters.decoded_nbytes += range.nbytes;
    if (raw != slot && ready_ != nullptr) { // devices copy from the slot, which is pinned
        std::memcpy(slot, raw, range.nbytes);
    }
    deliver(chunk, range, 0, findings);
}

void ReadJob::conclude_undecodable(const ChunkPtr &chunk, const Range &range, std::string why) {
    {
        const std::lock_guard lock(findings_mutex_);
        const std::uint64_t index = chunks_[chunk->ordinal];
        CorruptChunk corrupt{index, std::nullopt, {}, std::move(why)};
        if (!options_.digests.empty()) {
            corrupt.expected = options_.digests[index];
        }
        corrupt_.push_back(std::move(corrupt));
    }
    scheduler_.counters().read_nbytes += range.nbytes;
    chunk_done(chunk, range.nbytes, nullptr);
}

} // namespace sucrose
