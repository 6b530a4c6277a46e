#include "codec/encoded_write.h"

#include <string>
#include <utility>

#include "codec/chunk_table.h"
#include "error.h"

namespace sucrose {

EncodedWrite::EncodedWrite(Codecs &codecs, Encoding encoding, std::size_t chunk_count)
    : codecs_(codecs), encoding_(std::move(encoding)), packer_(chunk_count),
      used_itemsizes_(chunk_count, 0) {
    check_itemsizes(encoding_.itemsizes, chunk_count);
    check_level(encoding_.level);
}

void EncodedWrite::try_out(dev_t storage, std::size_t worker_count, bool written_through) {
    if (encoding_.adaptive) {
        trial_.emplace(codecs_.history, storage, worker_count, written_through);
    }
}

void EncodedWrite::encode(std::size_t index, ChunkFrames &frames, std::size_t nbytes) {
    EncodingCounters &counters = codecs_.counters;
    if (trial_ && !trial_->compressing()) {
        frames.store_in_place(nbytes);
        counters.left_nbytes += nbytes;
        return;
    }
    const std::size_t itemsize = encoding_.itemsizes.empty() ? 0 : encoding_.itemsizes[index];
    const auto begin = CompressionTrial::Clock::now();
    used_itemsizes_[index] = static_cast<std::uint8_t>(
        codecs_.encoders.lease()->encode(frames, nbytes, itemsize, encoding_.level));
    if (trial_) {
        trial_->chunk_compressed(nbytes, frames.nbytes(), CompressionTrial::Clock::now() - begin);
    }
    counters.compressed_nbytes += nbytes;
    counters.compressed_to_nbytes += frames.nbytes();
}

} // namespace sucrose
