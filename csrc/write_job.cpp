#include "write_job.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "cuda/device_transfer.h"
#include "error.h"

namespace sucrose {

namespace {

// Gathered and digested at a time, so that the digest reads from the nearest cache.
constexpr std::size_t piece_nbytes = 128 << 10;

// Of a device's memory staging leaves a tenth to the program, and never less than this.
constexpr std::size_t min_margin_nbytes = std::size_t{512} << 20;
constexpr std::size_t margin_divisor = 10;

std::size_t chunk_count(std::uint64_t nbytes) noexcept {
    return (nbytes + chunk_nbytes - 1) / chunk_nbytes;
}

std::unique_ptr<EncodedWrite> make_encoded_write(Scheduler &scheduler,
                                                 const std::optional<Encoding> &encoding,
                                                 std::uint64_t nbytes) {
    return encoding
               ? std::make_unique<EncodedWrite>(scheduler.codecs(), *encoding, chunk_count(nbytes))
               : nullptr;
}

std::uint64_t encoded_bound(std::uint64_t nbytes) noexcept {
    return nbytes + chunk_count(nbytes) * max_frames_overhead_nbytes;
}

std::unique_ptr<OutputFile> make_file(std::string path, std::uint64_t nbytes,
                                      const WriteJob::Options &options) {
    if (options.encoding) {
        return std::make_unique<OutputFile>(std::move(path), encoded_bound(nbytes),
                                            options.direct_min_nbytes, OutputFile::Size::at_most);
    }
    return std::make_unique<OutputFile>(std::move(path), nbytes, options.direct_min_nbytes);
}

} // namespace

std::shared_ptr<WriteJob> WriteJob::create(Scheduler &scheduler, std::string path,
                                           ExtentList sources,
                                           std::span<const CallerStream> streams,
                                           const Options &options) {
    std::shared_ptr<WriteJob> job(
        new WriteJob(scheduler, std::move(path), std::move(sources), options));
    job->prepare(streams, options);
    return job;
}

WriteJob::WriteJob(Scheduler &scheduler, std::string path, ExtentList sources,
                   const Options &options)
    : Job(scheduler, chunk_count(sources.end()),
          options.max_in_flight == 0 ? SIZE_MAX : options.max_in_flight, sources.end(),
          options.relayed ? std::make_shared<Relay>(path, Relay::Order::of_the_file) : nullptr),
      sources_(std::move(sources)), durable_(options.durable), digest_kind_(options.digest_kind),
      digests_(options.digest ? chunk_count(sources_.end()) : 0),
      encoded_(make_encoded_write(scheduler, options.encoding, sources_.end())),
      file_(relay_ ? nullptr : make_file(std::move(path), sources_.end(), options)) {
    if (encoded_) {
        begin_encoding();
    }
    if (relay_ && (!encoded_ || sources_.end() == 0)) {
        relay_->end_after(sources_.end());
    }
    if (file_) {
        Counters &counters = scheduler.counters();
        ++(file_->direct() ? counters.direct_files : counters.buffered_files);
    }
}

void WriteJob::prepare(std::span<const CallerStream> streams, const Options &options) {
    if (!sources_.devices().empty()) {
        ready_ = std::make_unique<CallerOrder>(scheduler_.devices(), sources_.devices(), streams);
    }
    if (options.staging == Staging::none) {
        return;
    }
    const bool on_devices = options.staging != Staging::host && !sources_.devices().empty() &&
                            try_stage_on_devices(streams);
    staged_ = on_devices ? Staged::on_device : Staged::on_host;
    put_staged_chunks_first();
    if (scheduler_.limit_staging(options.staging_nbytes) < unsafe_chunks_) {
        staged_ = Staged::blocking;
    }
}

// All devices or none, as a state is only safe when the last of it is.
bool WriteJob::try_stage_on_devices(std::span<const CallerStream> streams) {
    std::vector<DeviceAddress> targets;
    for (const std::int32_t ordinal : sources_.devices()) {
        CudaLanes &lanes = scheduler_.devices()[ordinal];
        const CurrentContext current(lanes.device());
        const std::size_t margin =
            std::max(min_margin_nbytes, lanes.device().total_nbytes() / margin_divisor);
        const std::uint64_t nbytes = std::max<std::uint64_t>(1, sources_.nbytes_on(ordinal));
        auto memory = DeviceMemory::try_allocate(lanes.device(), nbytes, margin,
                                                 lanes.within_device().stream());
        if (memory == nullptr) {
            on_devices_.clear();
            return false;
        }
        targets.push_back(memory->address());
        on_devices_.push_back(std::move(memory));
    }
    const ExtentList live = sources_;
    sources_ = live.packed_on_devices(targets);
    auto self = std::static_pointer_cast<WriteJob>(shared_from_this());
    for (std::size_t i = 0; i < targets.size(); ++i) {
        const std::int32_t ordinal = live.devices()[i];
        CopyLane &lane = scheduler_.devices()[ordinal].within_device();
        begin_side_work();
        lane.within_device(live.packed_parts(ordinal), targets[i], ready_->on(ordinal),
                           stream_on(streams, ordinal), [self](std::exception_ptr error) {
                               self->end_side_work(std::move(error));
                           });
        ready_->follow(scheduler_.devices()[ordinal].device(), ordinal, lane.stream());
    }
    return true;
}

void WriteJob::put_staged_chunks_first() {
    const std::size_t count = chunk_count(sources_.end());
    const bool on_devices = staged_ == Staged::on_device;
    unsafe_chunks_ = count;
    if (on_devices) {
        for (std::uint32_t i = 0; i < count; ++i) {
            order_.push_back(i);
        }
        const auto rest = std::stable_partition(order_.begin(), order_.end(), [&](auto index) {
            const std::uint64_t begin = std::uint64_t{index} * chunk_nbytes;
            return sources_.any_on_host(begin, std::min(chunk_nbytes, sources_.end() - begin));
        });
        unsafe_chunks_ = static_cast<std::size_t>(rest - order_.begin());
    }
    // In a file with an order chunks wait for those before them, whichever slots they need.
    stage_first(unsafe_chunks_, chunks_wait());
}

bool WriteJob::wait_safe(std::chrono::milliseconds timeout) {
    return wait_until(timeout,
                      [this] { return staged_ != Staged::not_asked && unsafe_chunks_ == 0; });
}

bool WriteJob::wait_staged(std::chrono::milliseconds timeout) {
    return wait_until(timeout, [this] {
        return staged_ != Staged::not_asked && unsafe_chunks_ == 0 && !side_work_under_way();
    });
}

std::uint64_t WriteJob::offset_of(const ChunkPtr &chunk) const noexcept {
    const std::size_t index = order_.empty() ? chunk->ordinal : order_[chunk->ordinal];
    return std::uint64_t{index} * chunk_nbytes;
}

std::size_t WriteJob::nbytes_of(const ChunkPtr &chunk) const noexcept {
    return std::min<std::uint64_t>(chunk_nbytes, sources_.end() - offset_of(chunk));
}

void WriteJob::process(const ChunkPtr &chunk) {
    const std::vector<DevicePart> parts = sources_.device_parts(offset_of(chunk), nbytes_of(chunk));
    if (parts.empty() && !chunk->staged) {
        gather_and_digest(chunk);
        write(chunk);
        return;
    }
    if (sources_.any_on_host(offset_of(chunk), nbytes_of(chunk))) {
        const TraceScope trace(scheduler_.tracer(), chunk->track(), "stage", nbytes_of(chunk));
        sources_.gather(offset_of(chunk), nbytes_of(chunk), chunk->slot.data(), true);
    }
    if (parts.empty()) {
        note_safe();
        post(chunk, [this, chunk] { digest_and_write(chunk); });
    } else {
        copy_from_devices(chunk, parts);
    }
}

// Of what will be written, even if the source changes meanwhile.
void WriteJob::gather_and_digest(const ChunkPtr &chunk) {
    const std::uint64_t begin = offset_of(chunk);
    const std::size_t nbytes = nbytes_of(chunk);
    const TraceScope trace(scheduler_.tracer(), chunk->track(), "gather and digest", nbytes);
    std::byte *slot = chunk->slot.data();
    Digester digester(digest_kind_);
    for (std::size_t at = 0; at < nbytes; at += piece_nbytes) {
        const std::size_t n = std::min(piece_nbytes, nbytes - at);
        sources_.gather(begin + at, n, slot + at);
        if (!digests_.empty()) {
            digester.update({slot + at, n});
        }
    }
    if (!digests_.empty()) {
        digests_[begin / chunk_nbytes] = digester.finish();
    }
}

void WriteJob::copy_from_devices(const ChunkPtr &chunk, std::span<const DevicePart> parts) {
    // Copies that were staged on the device are ours: only host memory is still the program's.
    const bool safe_already = chunk->staged && !on_devices_.empty();
    if (safe_already) {
        note_safe();
    }
    auto done = [this, chunk, safe_already](std::exception_ptr error) {
        if (error) {
            chunk_done(chunk, 0, error);
            return;
        }
        if (chunk->staged && !safe_already) {
            note_safe();
        }
        post(chunk, [this, chunk] { digest_and_write(chunk); });
    };
    scheduler_.counters().from_device_nbytes += sucrose::nbytes_of(parts);
    copy_to_slot(scheduler_, *ready_, parts, chunk->slot, chunk->track(), std::move(done));
}

void WriteJob::note_safe() {
    announce([this] { --unsafe_chunks_; });
}

void WriteJob::digest_and_write(const ChunkPtr &chunk) {
    if (!digests_.empty()) {
        const TraceScope trace(scheduler_.tracer(), chunk->track(), "digest", nbytes_of(chunk));
        digests_[offset_of(chunk) / chunk_nbytes] =
            digest({chunk->slot.data(), nbytes_of(chunk)}, digest_kind_);
    }
    write(chunk);
}

void WriteJob::write(const ChunkPtr &chunk) {
    if (encoded_ != nullptr) {
        encode(chunk);
        return;
    }
    const std::size_t nbytes = nbytes_of(chunk);
    if (relay_ != nullptr) {
        const Piece whole{chunk->slot.data(), nbytes, offset_of(chunk)};
        relay_out(chunk, {&whole, 1}, nullptr);
        return;
    }
    std::size_t padded = nbytes;
    if (file_->direct()) {
        padded = (nbytes + block_nbytes - 1) / block_nbytes * block_nbytes;
        std::memset(chunk->slot.data() + nbytes, 0, padded - nbytes);
    }
    write_out(chunk, {chunk->slot.data(), padded, offset_of(chunk)}, [this, chunk, nbytes] {
        scheduler_.counters().written_nbytes += nbytes;
        chunk_done(chunk, nbytes, nullptr);
    });
}

void WriteJob::write_out(const ChunkPtr &chunk, const Piece &piece, std::function<void()> then) {
    const bool direct = file_->direct();
    CompressionTrial *trial = encoded_ == nullptr ? nullptr : encoded_->trial();
    if (trial != nullptr) {
        trial->write_began();
    }
    auto done = [this, chunk, piece, then = std::move(then), direct, trial,
                 begin = TraceClock::now()](int error) {
        if (trial != nullptr) {
            trial->write_ended(error == 0 ? piece.nbytes : 0);
        }
        if (error == EINVAL && direct) { // the file system let the probe pass, and refuses this one
            if (file_->fall_back_to_buffered()) {
                post_front(chunk, [this, chunk, piece, then] { write_out(chunk, piece, then); });
                return;
            }
        }
        if (error != 0) {
            chunk_done(chunk, 0,
                       std::make_exception_ptr(SystemError(error, "pwrite", file_->path())));
            return;
        }
        if (Tracer *tracer = scheduler_.tracer()) {
            tracer->span(chunk->track(), "write", begin, TraceClock::now(), piece.nbytes);
        }
        if (direct) {
            then();
            return;
        }
        post_front(chunk, [this, piece, then] {
            file_->start_write_back(piece.offset, piece.nbytes);
            then();
        });
    };
    scheduler_.io().submit(std::make_unique<IoRequest>(IoRequest{
        .kind = IoRequest::Kind::write,
        .fd = file_->fd(),
        .data = piece.data,
        .nbytes = piece.nbytes,
        .offset = piece.offset,
        .required_nbytes = piece.nbytes,
        .alignment = direct ? block_nbytes : 1,
        .done = std::move(done),
    }));
}

void WriteJob::relay_out(const ChunkPtr &chunk, std::span<const Piece> pieces,
                         std::shared_ptr<void> memory) {
    const auto begin = TraceClock::now();
    std::size_t nbytes = 0;
    for (const Piece &piece : pieces) {
        nbytes += piece.nbytes;
    }
    CompressionTrial *trial = encoded_ == nullptr ? nullptr : encoded_->trial();
    if (trial != nullptr) {
        trial->write_began();
    }
    hand_over(chunk, pieces, std::move(memory), [this, chunk, nbytes, trial, begin] {
        if (trial != nullptr) {
            trial->write_ended(nbytes);
        }
        if (Tracer *tracer = scheduler_.tracer()) {
            tracer->span(chunk->track(), "relay", begin, TraceClock::now(), nbytes);
        }
        scheduler_.counters().written_nbytes += nbytes;
        chunk_done(chunk, nbytes_of(chunk), nullptr);
    });
}

// Of a relayed file whoever has carried the bytes makes it whole.
void WriteJob::complete() {
    const TraceScope trace(file_ ? scheduler_.tracer() : nullptr, {TraceTrack::Kind::files},
                           "fsync", sources_.end());
    if (encoded_ != nullptr) {
        finish_encoding();
    } else if (file_ != nullptr) {
        file_->finish(durable_);
    }
}

void WriteJob::release() noexcept {
    on_devices_.clear();
    ready_.reset(); // whoever keeps the job must not keep the device
    if (file_ != nullptr) {
        file_->abandon(); // nothing to do after complete()
    }
}

} // namespace sucrose
