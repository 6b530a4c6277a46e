#include "read_job.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "cuda/device_transfer.h"
#include "error.h"
#include "hash/crc32.h"

namespace sucrose {

namespace {

// Digested and copied at a time: what the digest has pulled into the nearest cache is copied from
// there.
constexpr std::size_t piece_nbytes = 32 << 10;

// Read at a time through the page cache.
constexpr std::size_t read_nbytes = 1 << 20;

// New pages of a large destination come as huge ones: 512 times fewer faults.
void prepare_fresh_pages(const ExtentList &destinations) noexcept {
    constexpr std::uintptr_t huge_page_nbytes = std::uintptr_t{2} << 20;
    for (const Extent &extent : destinations.all()) {
        const std::uintptr_t begin = extent.address;
        const std::uintptr_t first =
            (begin + huge_page_nbytes - 1) / huge_page_nbytes * huge_page_nbytes;
        const std::uintptr_t last = (begin + extent.nbytes) / huge_page_nbytes * huge_page_nbytes;
        if (extent.on_host() && extent.layout < 0 && first < last) {
            ::madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE);
        }
    }
}

// The order in which `read_lanes` readers, each beginning at a place of its own, meet the chunks:
// every reader then reads forwards without gaps, which is what kernels read ahead for.
std::vector<std::uint64_t> in_lanes(const std::vector<std::uint64_t> &chunks) {
    std::vector<std::uint64_t> order;
    order.reserve(chunks.size());
    const std::size_t length = (chunks.size() + read_lanes - 1) / read_lanes;
    for (std::size_t at = 0; at < length; ++at) {
        for (std::size_t lane = 0; lane < read_lanes; ++lane) {
            if (const std::size_t index = lane * length + at; index < chunks.size()) {
                order.push_back(chunks[index]);
            }
        }
    }
    return order;
}

std::unique_ptr<InputFile> open_file(std::string path, const ReadJob::Options &options) {
    return std::make_unique<InputFile>(
        std::move(path), options.stored ? options.stored->stored_nbytes() : options.file_nbytes,
        options.mode == ReadMode::direct);
}

} // namespace

std::shared_ptr<ReadJob> ReadJob::create(Scheduler &scheduler, std::string path,
                                         ExtentList destinations,
                                         std::span<const CallerStream> streams, Options options) {
    Plan chunks = plan(destinations, options);
    if (!options.relayed) {
        chunks.chunks = in_lanes(chunks.chunks);
    }
    std::shared_ptr<ReadJob> job(new ReadJob(scheduler, std::move(path), std::move(destinations),
                                             std::move(options), std::move(chunks)));
    if (const auto devices = job->destinations_.devices(); !devices.empty()) {
        job->ready_ = std::make_unique<CallerOrder>(scheduler.devices(), devices, streams);
    }
    return job;
}

ReadJob::ReadJob(Scheduler &scheduler, std::string path, ExtentList destinations, Options options,
                 Plan plan)
    : Job(scheduler, plan.chunks.size(),
          options.max_in_flight == 0 ? SIZE_MAX : options.max_in_flight, plan.nbytes,
          options.relayed ? std::make_shared<Relay>(path, Relay::Order::lowest_first) : nullptr),
      destinations_(std::move(destinations)), options_(std::move(options)),
      chunks_(std::move(plan.chunks)),
      file_(relay_ ? nullptr : open_file(std::move(path), options_)) {
    if (relay_) {
        end_relay();
    }
    if (options_.fresh) {
        prepare_fresh_pages(destinations_);
    }
}

ReadJob::Plan ReadJob::plan(const ExtentList &destinations, const Options &options) {
    if (destinations.end() > options.file_nbytes) {
        throw Error("an extent lies beyond the end of the file");
    }
    const std::uint64_t chunk_count = (options.file_nbytes + chunk_nbytes - 1) / chunk_nbytes;
    if (!options.digests.empty() && options.digests.size() != chunk_count) {
        throw Error("the number of digests does not fit the size of the file");
    }
    Plan plan;
    auto add = [&](std::uint64_t index) {
        plan.chunks.push_back(index);
        plan.nbytes +=
            std::min<std::uint64_t>(chunk_nbytes, options.file_nbytes - index * chunk_nbytes);
    };
    if (options.whole_file) {
        for (std::uint64_t index = 0; index < chunk_count; ++index) {
            add(index);
        }
        return plan;
    }
    std::uint64_t next = 0;
    for (const Extent &extent : destinations.all()) {
        if (extent.nbytes == 0) {
            continue;
        }
        const std::uint64_t last = (extent.offset + extent.nbytes - 1) / chunk_nbytes;
        for (next = std::max(next, extent.offset / chunk_nbytes); next <= last; ++next) {
            add(next);
        }
    }
    return plan;
}

// All of the chunk where it is to be digested or decoded, else no more than extents want.
ReadJob::Range ReadJob::range_of(std::size_t ordinal) const noexcept {
    const std::uint64_t chunk_begin = chunks_[ordinal] * chunk_nbytes;
    const std::uint64_t chunk_end =
        std::min<std::uint64_t>(chunk_begin + chunk_nbytes, options_.file_nbytes);
    if (whole_chunks()) {
        return {chunk_begin, chunk_end - chunk_begin};
    }
    const std::span<const Extent> extents = destinations_.all();
    const Extent &first = extents[destinations_.first_after(chunk_begin)];
    std::size_t last = destinations_.first_after(chunk_end - 1);
    if (last == extents.size() || extents[last].offset >= chunk_end) {
        --last;
    }
    const std::uint64_t begin = std::max(chunk_begin, first.offset);
    const std::uint64_t end = std::min(chunk_end, extents[last].offset + extents[last].nbytes);
    return {begin, end - begin};
}

void ReadJob::process(const ChunkPtr &chunk) {
    if (relay_ != nullptr) {
        request(chunk);
        return;
    }
    if (options_.stored) {
        process_encoded(chunk);
        return;
    }
    const Range range = range_of(chunk->ordinal);
    if (options_.mode == ReadMode::automatic) {
        const std::span<const std::byte> cached = file_->resident(range.begin, range.nbytes);
        if (!cached.empty()) {
            scheduler_.counters().resident_nbytes += range.nbytes;
            take_cached(chunk, range, cached);
            return;
        }
    }
    if (file_->direct()) {
        read_direct(chunk, range);
    } else {
        // A reader waits for the disk; a worker has better things to do. io_uring would hand such
        // reads to threads of the kernel's.
        scheduler_.readers().post(
            guarded(chunk, [this, chunk, range] { read_buffered(chunk, range); }));
    }
}

void ReadJob::release() noexcept {
    ready_.reset(); // whoever keeps the job must not keep the device
}

void ReadJob::take_cached(const ChunkPtr &chunk, const Range &range,
                          std::span<const std::byte> cached) {
    const TraceScope trace(scheduler_.tracer(), chunk->track(), "digest and scatter", range.nbytes);
    Findings findings = no_findings();
    // A page that somebody else can write to might be digested as one thing and copied as another.
    const bool distrusted = options_.digest_kind == DigestKind::sha256_128;
    if (ready_ == nullptr && !distrusted) {
        consume(findings, range.begin, cached, false);
    } else { // devices copy from the slot, which is pinned
        for (std::size_t at = 0; at < range.nbytes; at += piece_nbytes) {
            const auto piece = cached.subspan(at, std::min(piece_nbytes, range.nbytes - at));
            std::byte *copy = chunk->slot.data() + at;
            std::memcpy(copy, piece.data(), piece.size());
            consume(findings, range.begin + at, {copy, piece.size()}, false);
        }
    }
    deliver(chunk, range, 0, findings);
}

// Piece by piece, so that each is digested and moved on while it is in this processor's cache, and
// the kernel reads ahead meanwhile.
void ReadJob::read_buffered(const ChunkPtr &chunk, const Range &range) {
    std::byte *target = destinations_.contiguous(range.begin, range.nbytes);
    const bool straight = target != nullptr;
    if (!straight) {
        target = chunk->slot.data();
    }
    Findings findings = no_findings();
    const TraceScope trace(scheduler_.tracer(), chunk->track(), "read", range.nbytes);
    for (std::size_t at = 0; at < range.nbytes; at += read_nbytes) {
        const std::size_t n = std::min(read_nbytes, range.nbytes - at);
        IoRequest request{
            .kind = IoRequest::Kind::read,
            .fd = file_->lane_fd(chunk->ordinal % read_lanes),
            .data = target + at,
            .nbytes = n,
            .offset = range.begin + at,
            .required_nbytes = n,
            .alignment = 1,
            .done = nullptr,
        };
        if (const int error = transfer(request); error != 0) {
            chunk_done(chunk, 0,
                       std::make_exception_ptr(SystemError(error, "pread", file_->path())));
            return;
        }
        consume(findings, range.begin + at, {target + at, n}, straight);
    }
    deliver(chunk, range, 0, findings);
}

void ReadJob::read_direct(const ChunkPtr &chunk, const Range &range) {
    const std::uint64_t skip = range.begin % block_nbytes;
    const std::size_t nbytes =
        (range.nbytes + skip + block_nbytes - 1) / block_nbytes * block_nbytes;
    std::byte *target = destinations_.contiguous(range.begin, range.nbytes);
    const bool straight = target != nullptr && skip == 0 && nbytes == range.nbytes &&
                          reinterpret_cast<std::uintptr_t>(target) % block_nbytes == 0;
    if (!straight) {
        target = chunk->slot.data();
    }
    auto done = [this, chunk, range, target, skip, straight, begin = TraceClock::now()](int error) {
        if (error != 0) {
            chunk_done(chunk, 0,
                       std::make_exception_ptr(SystemError(error, "pread", file_->path())));
            return;
        }
        if (Tracer *tracer = scheduler_.tracer()) {
            tracer->span(chunk->track(), "read", begin, TraceClock::now(), range.nbytes);
        }
        post_front(chunk, [this, chunk, range, target, skip, straight] {
            Findings findings = no_findings();
            {
                const TraceScope trace(scheduler_.tracer(), chunk->track(), "digest and scatter",
                                       range.nbytes);
                consume(findings, range.begin, {target + skip, range.nbytes}, straight);
            }
            deliver(chunk, range, skip, findings);
        });
    };
    scheduler_.io().submit(std::make_unique<IoRequest>(IoRequest{
        .kind = IoRequest::Kind::read,
        .fd = file_->fd(),
        .data = target,
        .nbytes = nbytes,
        .offset = range.begin - skip,
        .required_nbytes = range.nbytes + skip,
        .alignment = block_nbytes,
        .done = std::move(done),
    }));
}

void ReadJob::consume(Findings &findings, std::uint64_t offset, std::span<const std::byte> bytes,
                      bool in_place) const {
    for (std::size_t at = 0; at < bytes.size(); at += piece_nbytes) {
        const auto piece = bytes.subspan(at, std::min(piece_nbytes, bytes.size() - at));
        if (!options_.digests.empty()) {
            findings.digester.update(piece);
        }
        if (options_.crc32) {
            extend_crcs(findings.crc_parts, offset + at, piece);
        }
        if (!in_place) {
            destinations_.scatter(offset + at, piece);
        }
    }
}

void ReadJob::deliver(const ChunkPtr &chunk, const Range &range, std::size_t skip,
                      const Findings &findings) {
    std::vector<DevicePart> parts = destinations_.device_parts(range.begin, range.nbytes);
    if (parts.empty()) {
        conclude(chunk, range, findings);
        return;
    }
    for (DevicePart &part : parts) { // the range begins at this byte of the slot
        part.offset += skip;
    }
    scheduler_.counters().to_device_nbytes += sucrose::nbytes_of(parts);
    copy_from_slot(scheduler_, *ready_, parts, chunk->slot, chunk->track(),
                   [this, chunk, range, findings](std::exception_ptr error) {
                       if (error) {
                           chunk_done(chunk, 0, std::move(error));
                       } else {
                           conclude(chunk, range, findings);
                       }
                   });
}

void ReadJob::conclude(const ChunkPtr &chunk, const Range &range, const Findings &findings) {
    scheduler_.counters().read_nbytes += range.nbytes;
    {
        const std::lock_guard lock(findings_mutex_);
        crc_parts_.insert(crc_parts_.end(), findings.crc_parts.begin(), findings.crc_parts.end());
        if (!options_.digests.empty()) {
            const std::uint64_t index = chunks_[chunk->ordinal];
            const Digest found = findings.digester.finish();
            if (found != options_.digests[index]) {
                corrupt_.push_back({index, options_.digests[index], found, {}});
            }
        }
    }
    chunk_done(chunk, range.nbytes, nullptr);
}

void ReadJob::extend_crcs(std::vector<CrcPart> &parts, std::uint64_t offset,
                          std::span<const std::byte> piece) const {
    destinations_.for_each_part(
        offset, piece, [&](std::size_t extent, std::span<const std::byte> part) {
            if (parts.empty() || parts.back().extent != extent) {
                const auto skip = static_cast<std::uint64_t>(part.data() - piece.data());
                parts.push_back({extent, offset + skip, 0, 0});
            }
            parts.back().crc = crc32(parts.back().crc, part);
            parts.back().nbytes += part.size();
        });
}

std::vector<CorruptChunk> ReadJob::corrupt() const {
    std::vector<CorruptChunk> sorted;
    {
        const std::lock_guard lock(findings_mutex_);
        sorted = corrupt_;
    }
    std::sort(sorted.begin(), sorted.end(),
              [](const CorruptChunk &a, const CorruptChunk &b) { return a.index < b.index; });
    return sorted;
}

std::vector<std::uint32_t> ReadJob::crc32s() const {
    if (!options_.crc32) {
        return {};
    }
    std::vector<CrcPart> parts;
    {
        const std::lock_guard lock(findings_mutex_);
        parts = crc_parts_;
    }
    std::sort(parts.begin(), parts.end(),
              [](const CrcPart &a, const CrcPart &b) { return a.offset < b.offset; });
    std::vector<std::uint32_t> crcs(destinations_.all().size(), 0);
    for (const CrcPart &part : parts) {
        std::uint32_t &crc = crcs[part.extent];
        crc = crc32_combine(crc, part.crc, part.nbytes);
    }
    return crcs;
}

std::uint64_t ReadJob::nbytes() const noexcept {
    if (options_.whole_file) {
        return options_.file_nbytes;
    }
    std::uint64_t sum = 0;
    for (const Extent &extent : destinations_.all()) {
        sum += extent.nbytes;
    }
    return sum;
}

} // namespace sucrose
