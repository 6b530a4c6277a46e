// The steps of a write that encodes: frame_packer.h has the order.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "error.h"
#include "io/fault.h"
#include "write_job.h"

namespace sucrose {

struct WriteJob::EncodedChunk final : ChunkFrames {
    explicit EncodedChunk(ChunkPtr raw) : ChunkFrames(raw->slot.data()), chunk(std::move(raw)) {}

    const ChunkPtr chunk;
};

void WriteJob::begin_encoding() {
    struct stat status {};
    if (::fstat(file_.fd(), &status) != 0) {
        throw SystemError(errno, "fstat", file_.path());
    }
    encoded_->try_out(status.st_dev, scheduler_.workers().thread_count(),
                      file_.direct() || !durable_);
}

void WriteJob::encode(const ChunkPtr &chunk) {
    const auto index = static_cast<std::size_t>(offset_of(chunk) / chunk_nbytes);
    const auto frames = std::make_shared<EncodedChunk>(chunk);
    {
        const TraceScope trace(scheduler_.tracer(), chunk->track(), "encode", nbytes_of(chunk));
        if (const int error = fault::error_at(fault::Site::compress); error != 0) {
            throw SystemError(error, "compress", file_.path());
        }
        encoded_->encode(index, *frames, nbytes_of(chunk));
    }
    std::vector<FramePacker::Placed> placed;
    if (!encoded_->packer().try_add(index, frames, placed)) {
        chunk_done(chunk, 0, nullptr); // the job has failed
        return;
    }
    for (FramePacker::Placed &place : placed) {
        const ChunkPtr &its = static_cast<EncodedChunk &>(*place.frames).chunk;
        const auto shared = std::make_shared<FramePacker::Placed>(std::move(place));
        post_front(its, [this, shared] { write_frames(shared); });
    }
}

void WriteJob::write_frames(const std::shared_ptr<FramePacker::Placed> &placed) {
    auto &frames = static_cast<EncodedChunk &>(*placed->frames);
    const ChunkPtr &chunk = frames.chunk;
    frames.prepend({placed->head.data(), placed->head_nbytes});
    std::size_t nbytes = frames.nbytes() / block_nbytes * block_nbytes;
    if (placed->last && nbytes != frames.nbytes()) {
        frames.pad_to_block();
        nbytes += block_nbytes;
    }
    const auto done = [this, chunk, nbytes] {
        scheduler_.counters().written_nbytes += nbytes;
        chunk_done(chunk, nbytes_of(chunk), nullptr);
    };
    if (nbytes == 0) { // all of it is the head of the next chunk's
        done();
        return;
    }
    file_.reserve(placed->offset + nbytes);
    const std::size_t in_slot = std::min(nbytes, chunk_nbytes);
    const Piece spill{frames.spill(), nbytes - in_slot, placed->offset + chunk_nbytes};
    write_out(chunk, {frames.slot(), in_slot, placed->offset}, [this, placed, chunk, spill, done] {
        if (spill.nbytes == 0) {
            done();
        } else { // not on a thread of the backend, which may have to make room for it
            post_front(chunk, [this, placed, chunk, spill, done] {
                write_out(chunk, spill, [placed, done] { done(); });
            });
        }
    });
}

void WriteJob::finish_encoding() {
    file_.set_nbytes(encoded_->packer().file_nbytes());
    const auto begin = CompressionTrial::Clock::now();
    file_.finish(durable_);
    if (CompressionTrial *trial = encoded_->trial()) {
        trial->file_ended(durable_ ? CompressionTrial::Clock::now() - begin
                                   : CompressionTrial::Clock::duration::zero());
    }
}

void WriteJob::drop_waiting() noexcept {
    if (encoded_ == nullptr) {
        return;
    }
    for (const std::shared_ptr<ChunkFrames> &frames : encoded_->packer().give_up()) {
        chunk_done(static_cast<EncodedChunk &>(*frames).chunk, 0, nullptr);
    }
}

} // namespace sucrose
