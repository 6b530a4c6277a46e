// The steps of a read whose bytes the caller brings.
//
//   1. Each chunk asks for its part of the file: in the order of the file, but for workers that
//      overtake one another.
//   2. The caller fills memory of ours, never the destinations: one that is late would write into
//      what the program has got back already.
//   3. A worker digests or decodes it, and takes it where it is wanted.
#include <utility>

#include "read_job.h"

namespace sucrose {

// The part of the file, as it is stored, that the chunk comes from.
ReadJob::Range ReadJob::stored_range_of(std::size_t ordinal) const noexcept {
    if (!options_.stored) {
        return range_of(ordinal);
    }
    const auto index = static_cast<std::size_t>(chunks_[ordinal]);
    return {options_.stored->offset(index), options_.stored->nbytes(index)};
}

void ReadJob::end_relay() {
    std::uint64_t nbytes = 0;
    for (std::size_t ordinal = 0; ordinal < chunks_.size(); ++ordinal) {
        nbytes += stored_range_of(ordinal).nbytes;
    }
    relay_->end_after(nbytes);
}

void ReadJob::request(const ChunkPtr &chunk) {
    const Range range = stored_range_of(chunk->ordinal);
    std::shared_ptr<std::byte[]> roomy; // for frames that are larger than what is in them
    if (range.nbytes > chunk_nbytes) {
        roomy = std::make_shared_for_overwrite<std::byte[]>(range.nbytes);
    }
    std::byte *target = roomy ? roomy.get() : chunk->slot.data();
    const Piece piece{target, range.nbytes, range.begin};
    hand_over(chunk, {&piece, 1}, roomy, [this, chunk, piece, roomy, begin = TraceClock::now()] {
        if (Tracer *tracer = scheduler_.tracer()) {
            tracer->span(chunk->track(), "relay", begin, TraceClock::now(), piece.nbytes);
        }
        post_front(chunk, [this, chunk, piece, roomy] {
            take_relayed(chunk, {piece.data, piece.nbytes});
        });
    });
}

void ReadJob::take_relayed(const ChunkPtr &chunk, std::span<const std::byte> bytes) {
    if (options_.stored) {
        decode(chunk, bytes, {});
        return;
    }
    const Range range = range_of(chunk->ordinal);
    Findings findings = no_findings();
    {
        const TraceScope trace(scheduler_.tracer(), chunk->track(), "digest and scatter",
                               range.nbytes);
        consume(findings, range.begin, bytes, false);
    }
    deliver(chunk, range, 0, findings);
}

void ReadJob::drop_waiting() noexcept {
    if (relay_ != nullptr) {
        relay_->close();
    }
}

} // namespace sucrose
