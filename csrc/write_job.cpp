#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "error.h"
#include "pipeline.h"

namespace sucrose {

namespace {

// Gathered and digested at a time, so that the digest reads from the nearest cache.
constexpr std::size_t piece_nbytes = 128 << 10;

std::size_t chunk_count(std::uint64_t nbytes) noexcept {
    return (nbytes + chunk_nbytes - 1) / chunk_nbytes;
}

} // namespace

WriteJob::WriteJob(Scheduler &scheduler, std::string path, ExtentList sources,
                   const Options &options)
    : Job(scheduler, chunk_count(sources.end()), SIZE_MAX, sources.end()),
      sources_(std::move(sources)), durable_(options.durable),
      digests_(options.digest ? chunk_count(sources_.end()) : 0),
      file_(std::move(path), sources_.end(), options.direct_min_nbytes) {
    ++(file_.direct() ? scheduler.counters().direct_files : scheduler.counters().buffered_files);
}

void WriteJob::process(const ChunkPtr &chunk) {
    const std::uint64_t begin = std::uint64_t{chunk->ordinal} * chunk_nbytes;
    const std::size_t nbytes = std::min<std::uint64_t>(chunk_nbytes, sources_.end() - begin);
    std::byte *slot = chunk->slot.data();
    Digester digester;
    for (std::size_t at = 0; at < nbytes; at += piece_nbytes) {
        const std::size_t n = std::min(piece_nbytes, nbytes - at);
        sources_.gather(begin + at, n, slot + at);
        if (!digests_.empty()) { // of what will be written, even if the source changes meanwhile
            digester.update({slot + at, n});
        }
    }
    if (!digests_.empty()) {
        digests_[chunk->ordinal] = digester.finish();
    }
    write(chunk, nbytes);
}

void WriteJob::write(const ChunkPtr &chunk, std::size_t nbytes) {
    const bool direct = file_.direct();
    std::size_t padded = nbytes;
    if (direct) {
        padded = (nbytes + block_nbytes - 1) / block_nbytes * block_nbytes;
        std::memset(chunk->slot.data() + nbytes, 0, padded - nbytes);
    }
    const std::uint64_t offset = std::uint64_t{chunk->ordinal} * chunk_nbytes;
    auto done = [this, chunk, nbytes, offset, direct](int error) {
        if (error == EINVAL && direct) { // the file system let the probe pass, and refuses this one
            if (file_.fall_back_to_buffered()) {
                scheduler_.workers().post_front([this, chunk, nbytes] { write(chunk, nbytes); });
                return;
            }
        }
        if (error != 0) {
            chunk_done(chunk, 0,
                       std::make_exception_ptr(SystemError(error, "pwrite", file_.path())));
            return;
        }
        scheduler_.counters().written_nbytes += nbytes;
        if (direct) {
            chunk_done(chunk, nbytes, nullptr);
            return;
        }
        scheduler_.workers().post_front([this, chunk, nbytes, offset] {
            file_.start_write_back(offset, nbytes);
            chunk_done(chunk, nbytes, nullptr);
        });
    };
    scheduler_.io().submit(std::make_unique<IoRequest>(IoRequest{
        .kind = IoRequest::Kind::write,
        .fd = file_.fd(),
        .data = chunk->slot.data(),
        .nbytes = padded,
        .offset = offset,
        .required_nbytes = padded,
        .alignment = direct ? block_nbytes : 1,
        .done = std::move(done),
    }));
}

void WriteJob::complete() {
    file_.finish(durable_);
}

} // namespace sucrose
