// The steps of a write that encodes: frame_packer.h has the order.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "error.h"
#include "io/fault.h"
#include "write_job.h"

namespace sucrose {

namespace {

// Stands for all that callers carry bytes to, where storages are told apart.
constexpr dev_t relayed_storage = ~dev_t{0};

} // namespace

struct WriteJob::EncodedChunk final : ChunkFrames {
    explicit EncodedChunk(ChunkPtr raw) : ChunkFrames(raw->slot.data()), chunk(std::move(raw)) {}

    const ChunkPtr chunk;
};

void WriteJob::begin_encoding() {
    if (relay_ != nullptr) {
        encoded_->try_out(relayed_storage, scheduler_.workers().thread_count(), true);
        return;
    }
    struct stat status {};
    if (::fstat(file_->fd(), &status) != 0) {
        throw SystemError(errno, "fstat", file_->path());
    }
    encoded_->try_out(status.st_dev, scheduler_.workers().thread_count(),
                      file_->direct() || !durable_);
}

void WriteJob::encode(const ChunkPtr &chunk) {
    const auto index = static_cast<std::size_t>(offset_of(chunk) / chunk_nbytes);
    const auto frames = std::make_shared<EncodedChunk>(chunk);
    {
        const TraceScope trace(scheduler_.tracer(), chunk->track(), "encode", nbytes_of(chunk));
        if (const int error = fault::error_at(fault::Site::compress); error != 0) {
            throw SystemError(error, "compress", relay_ ? relay_->name() : file_->path());
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
    if (relay_ != nullptr) {
        relay_frames(placed);
        return;
    }
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
    file_->reserve(placed->offset + nbytes);
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

// The caller takes bytes of any number, so the last ones are not padded.
void WriteJob::relay_frames(const std::shared_ptr<FramePacker::Placed> &placed) {
    auto &frames = static_cast<EncodedChunk &>(*placed->frames);
    const std::size_t nbytes =
        placed->last ? frames.nbytes() : frames.nbytes() / block_nbytes * block_nbytes;
    if (placed->last) {
        relay_->end_after(placed->offset + nbytes);
    }
    if (nbytes == 0) {
        chunk_done(frames.chunk, nbytes_of(frames.chunk), nullptr);
        return;
    }
    const std::size_t in_slot = std::min(nbytes, chunk_nbytes);
    const std::array<Piece, 2> pieces{
        Piece{frames.slot(), in_slot, placed->offset},
        Piece{frames.spill(), nbytes - in_slot, placed->offset + chunk_nbytes}};
    const std::size_t count = nbytes == in_slot ? 1 : 2;
    relay_out(frames.chunk, {pieces.data(), count}, placed->frames);
}

void WriteJob::finish_encoding() {
    auto sync = CompressionTrial::Clock::duration::zero();
    if (file_ != nullptr) {
        file_->set_nbytes(encoded_->packer().file_nbytes());
        const auto begin = CompressionTrial::Clock::now();
        file_->finish(durable_);
        sync = durable_ ? CompressionTrial::Clock::now() - begin : sync;
    }
    if (CompressionTrial *trial = encoded_->trial()) {
        trial->file_ended(sync);
    }
}

void WriteJob::drop_waiting() noexcept {
    if (encoded_ != nullptr) {
        for (const std::shared_ptr<ChunkFrames> &frames : encoded_->packer().give_up()) {
            chunk_done(static_cast<EncodedChunk &>(*frames).chunk, 0, nullptr);
        }
    }
    if (relay_ != nullptr) {
        relay_->close();
    }
}

} // namespace sucrose
