// Fills extents from one file, or from what the caller brings, checking digests on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codec/chunk_table.h"
#include "extents.h"
#include "hash/digest.h"
#include "io/file_io.h"
#include "pipeline.h"

namespace sucrose {

struct CorruptChunk {
    std::uint64_t index;
    std::optional<Digest> expected; // nullopt: unchecked
    Digest found;
    std::string undecodable{}; // why its frames have no raw bytes; `found` says nothing then
};

enum class ReadMode { automatic, buffered, direct };

class ReadJob final : public Job {
public:
    struct Options {
        std::uint64_t file_nbytes = 0; // of an encoded file: before that
        // Of an encoded file; extents and digests are of its raw bytes.
        std::optional<ChunkTable> stored{};
        std::vector<Digest> digests; // empty: unchecked
        DigestKind digest_kind = DigestKind::xxh3_128;
        bool crc32 = false;      // tell the CRC-32 of each extent
        bool whole_file = false; // check every chunk, wanted by an extent or not
        bool fresh = false;      // the destinations' pages do not exist yet
        // The caller brings the file's bytes, and the path is but its name in errors.
        bool relayed = false;
        std::size_t max_in_flight = 0;
        ReadMode mode = ReadMode::automatic;
    };
    // On the caller's thread, since it may have to look at the caller's streams.
    static std::shared_ptr<ReadJob> create(Scheduler &scheduler, std::string path,
                                           ExtentList destinations,
                                           std::span<const CallerStream> streams, Options options);

    // Valid once the job has finished; in file order.
    std::vector<CorruptChunk> corrupt() const;
    // zlib's CRC-32 of what each extent received; empty where not asked for. Valid likewise.
    std::vector<std::uint32_t> crc32s() const;
    // Bytes that were delivered; of a check of the whole file, its size.
    std::uint64_t nbytes() const noexcept;

private:
    struct Range {
        std::uint64_t begin;
        std::size_t nbytes;
    };
    struct Plan {
        std::vector<std::uint64_t> chunks; // indices of those to read
        std::uint64_t nbytes = 0;
    };
    static Plan plan(const ExtentList &destinations, const Options &options);
    ReadJob(Scheduler &scheduler, std::string path, ExtentList destinations, Options options,
            Plan plan);

    // The CRC-32 of a part of an extent, from the byte `offset` of the file on.
    struct CrcPart {
        std::size_t extent;
        std::uint64_t offset;
        std::uint64_t nbytes;
        std::uint32_t crc;
    };

    bool whole_chunks() const noexcept { return options_.stored || !options_.digests.empty(); }
    Range range_of(std::size_t ordinal) const noexcept;
    void process(const ChunkPtr &chunk) override;
    void release() noexcept override;
    bool chunks_wait() const noexcept override { return relay_ != nullptr; }
    void drop_waiting() noexcept override;
    void read_buffered(const ChunkPtr &chunk, const Range &range);
    void read_direct(const ChunkPtr &chunk, const Range &range);
    void take_cached(const ChunkPtr &chunk, const Range &range, std::span<const std::byte> cached);
    // From the caller; see read_job_relay.cpp.
    Range stored_range_of(std::size_t ordinal) const noexcept;
    void end_relay();
    void request(const ChunkPtr &chunk);
    void take_relayed(const ChunkPtr &chunk, std::span<const std::byte> bytes);
    // With an encoded file; see read_job_encoding.cpp.
    struct EncodedRange;
    void process_encoded(const ChunkPtr &chunk);
    void read_encoded(const std::shared_ptr<EncodedRange> &range);
    int read_piece(const ChunkPtr &chunk, std::span<std::byte> target, std::uint64_t offset,
                   std::size_t required_nbytes) const noexcept;
    void decode(const ChunkPtr &chunk, std::span<const std::byte> encoded,
                std::span<const std::byte> rest);
    // What the bytes of one chunk turn out to be.
    struct Findings {
        Digester digester;
        std::vector<CrcPart> crc_parts;
    };
    Findings no_findings() const noexcept { return {Digester(options_.digest_kind), {}}; }
    void extend_crcs(std::vector<CrcPart> &parts, std::uint64_t offset,
                     std::span<const std::byte> piece) const;
    // Digests the file's bytes from `offset` and, if they are not there yet, takes them where they
    // are wanted. A chunk's bytes come in order.
    void consume(Findings &findings, std::uint64_t offset, std::span<const std::byte> bytes,
                 bool in_place) const;
    // What a chunk's slot has goes to devices that want some of it; then the chunk is done.
    void deliver(const ChunkPtr &chunk, const Range &range, std::size_t skip,
                 const Findings &findings);
    void conclude(const ChunkPtr &chunk, const Range &range, const Findings &findings);
    void conclude_undecodable(const ChunkPtr &chunk, const Range &range, std::string why);

    const ExtentList destinations_;
    const Options options_;
    const std::vector<std::uint64_t> chunks_;
    const std::unique_ptr<InputFile> file_; // nullptr where the bytes are relayed
    std::unique_ptr<CallerOrder> ready_;
    mutable std::mutex findings_mutex_;
    std::vector<CorruptChunk> corrupt_;
    std::vector<CrcPart> crc_parts_;
};

} // namespace sucrose
