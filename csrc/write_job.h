// Creates one file from extents, or hands its bytes to the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codec/encoded_write.h"
#include "extents.h"
#include "hash/digest.h"
#include "pipeline.h"

namespace sucrose {

// What becomes of sources that the program may change while they are written.
enum class Staging {
    none,      // it may not
    automatic, // device, where every device has room, else host
    host,      // copied to host memory
    device,    // those on devices are copied there, the others to host memory
};

// What came of it: `blocking` where host memory did not suffice for all that had to go there.
enum class Staged { not_asked, on_device, on_host, blocking };

class WriteJob final : public Job {
public:
    struct Options {
        bool digest = true;
        DigestKind digest_kind = DigestKind::xxh3_128;
        bool durable = true;
        std::uint64_t direct_min_nbytes = 0;
        Staging staging = Staging::none;
        std::uint64_t staging_nbytes = 0; // bound of the host memory that all staging takes
        std::optional<Encoding> encoding{};
        // The caller carries the bytes, and the path is but the file's name in errors.
        bool relayed = false;
        std::size_t max_in_flight = 0; // chunks in the ring; 0: as many as there is room for
    };
    // On the caller's thread, since it may have to look at the caller's streams.
    static std::shared_ptr<WriteJob> create(Scheduler &scheduler, std::string path,
                                            ExtentList sources,
                                            std::span<const CallerStream> streams,
                                            const Options &options);

    std::uint64_t nbytes() const noexcept { return sources_.end(); }
    // One for each chunk; valid once the job has finished.
    const std::vector<Digest> &digests() const noexcept { return digests_; }
    // How the file is encoded; nullptr where it is not. Valid likewise.
    const EncodedWrite *encoded() const noexcept { return encoded_.get(); }

    // Until the program may change the sources: from host memory they have been copied, and on
    // devices whatever the program puts on its streams comes after the copy. False on time-out.
    bool wait_safe(std::chrono::milliseconds timeout);
    // Until nothing of the sources is needed any more, so that they may be freed.
    bool wait_staged(std::chrono::milliseconds timeout);
    Staged staged() const noexcept { return staged_; }

private:
    WriteJob(Scheduler &scheduler, std::string path, ExtentList sources, const Options &options);
    void prepare(std::span<const CallerStream> streams, const Options &options);
    bool try_stage_on_devices(std::span<const CallerStream> streams);
    void put_staged_chunks_first();

    void process(const ChunkPtr &chunk) override;
    void complete() override;
    void release() noexcept override;
    bool chunks_wait() const noexcept override { return encoded_ != nullptr || relay_ != nullptr; }
    void drop_waiting() noexcept override;

    std::uint64_t offset_of(const ChunkPtr &chunk) const noexcept;
    std::size_t nbytes_of(const ChunkPtr &chunk) const noexcept;
    void gather_and_digest(const ChunkPtr &chunk);
    void copy_from_devices(const ChunkPtr &chunk, std::span<const DevicePart> parts);
    void note_safe();
    void digest_and_write(const ChunkPtr &chunk);
    void write(const ChunkPtr &chunk);

    // Calls then() when it is written, on any thread; where that fails the chunk is done. Where the
    // file is direct a piece is of whole blocks.
    void write_out(const ChunkPtr &chunk, const Piece &piece, std::function<void()> then);

    // Through the caller's hands; `memory` keeps what of the pieces is not in the slot.
    void relay_out(const ChunkPtr &chunk, std::span<const Piece> pieces,
                   std::shared_ptr<void> memory);
    void relay_frames(const std::shared_ptr<FramePacker::Placed> &placed);

    // With an encoding; see write_job_encoding.cpp.
    struct EncodedChunk;
    void begin_encoding();
    void finish_encoding();
    void encode(const ChunkPtr &chunk);
    void write_frames(const std::shared_ptr<FramePacker::Placed> &placed);

    ExtentList sources_;
    const bool durable_;
    const DigestKind digest_kind_;
    std::vector<Digest> digests_;
    const std::unique_ptr<EncodedWrite> encoded_;
    const std::unique_ptr<OutputFile> file_; // nullptr where the bytes are relayed
    std::vector<std::uint32_t> order_;       // chunks by ordinal; empty: in file order
    std::unique_ptr<CallerOrder> ready_;
    std::vector<std::unique_ptr<DeviceMemory>> on_devices_; // copies of the sources
    Staged staged_ = Staged::not_asked;
    std::size_t unsafe_chunks_ = 0; // whose sources are still read; under the job's lock
};

} // namespace sucrose
