#include "fingerprint_extents.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

#include "buffer_pool.h"
#include "cuda/device_fingerprints.h"
#include "error.h"

namespace sucrose {

namespace {

constexpr std::chrono::milliseconds poll_interval{50};
constexpr std::size_t copies_under_way = 8; // chunks on their way from a device

// What has a fingerprint of its own: bytes of the sequence that the extents make up.
struct Part {
    std::uint64_t offset;
    std::size_t nbytes;
};

// Keeps count of what is under way and the first error. Thread-safe.
class Progress {
public:
    void begin() {
        const std::lock_guard lock(mutex_);
        ++under_way_;
    }
    void end(std::exception_ptr error) {
        const std::lock_guard lock(mutex_);
        if (error && !error_) {
            error_ = std::move(error);
        }
        --under_way_;
        changed_.notify_all(); // with the lock: the waiter destroys this as soon as it has it
    }
    void fail(std::exception_ptr error) {
        begin();
        end(std::move(error));
    }
    bool has_failed() {
        const std::lock_guard lock(mutex_);
        return error_ != nullptr;
    }
    // Until fewer than `limit` are under way; `poll` may fail them.
    void wait_below(std::size_t limit, const std::function<void()> &poll) {
        std::unique_lock lock(mutex_);
        while (!changed_.wait_for(lock, poll_interval, [&] { return under_way_ < limit; })) {
            if (error_) {
                continue; // it is over soon, and polled enough
            }
            lock.unlock();
            try {
                poll();
            } catch (...) {
                fail(std::current_exception());
            }
            lock.lock();
        }
    }
    void rethrow() {
        const std::lock_guard lock(mutex_);
        if (error_) {
            std::rethrow_exception(error_);
        }
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t under_way_ = 0;
    std::exception_ptr error_;
};

std::vector<Part> cut(const ExtentList &sources, std::span<const std::uint64_t> piece_nbytes) {
    const std::span<const Extent> extents = sources.all();
    if (piece_nbytes.size() != extents.size()) {
        throw Error("there must be one size of pieces for each extent");
    }
    std::vector<Part> parts;
    for (std::size_t i = 0; i < extents.size(); ++i) {
        if (piece_nbytes[i] == 0) {
            throw Error("pieces must have at least one byte");
        }
        for (std::uint64_t piece = 0; piece < extents[i].nbytes; piece += piece_nbytes[i]) {
            const std::uint64_t end = piece + std::min(piece_nbytes[i], extents[i].nbytes - piece);
            for (std::uint64_t at = piece; at < end; at += chunk_nbytes) {
                parts.push_back(
                    {extents[i].offset + at, std::min<std::uint64_t>(chunk_nbytes, end - at)});
            }
        }
    }
    return parts;
}

Fingerprint fingerprint_on_host(const ExtentList &sources, const Part &part,
                                std::vector<std::byte> &scratch) {
    if (const std::byte *bytes = sources.contiguous(part.offset, part.nbytes)) {
        return fingerprint_chunk({bytes, part.nbytes});
    }
    scratch.resize(chunk_nbytes);
    sources.gather(part.offset, part.nbytes, scratch.data());
    return fingerprint_chunk({scratch.data(), part.nbytes});
}

// Step 2: of `indices`, each worker takes the next until none is left.
class HostWork {
public:
    HostWork(const ExtentList &sources, std::span<const Part> parts,
             std::vector<std::size_t> indices, std::span<Fingerprint> results)
        : sources_(sources), parts_(parts), indices_(std::move(indices)), results_(results) {}

    void start(WorkerPool &workers, Progress &progress) {
        const std::size_t count = std::min(workers.thread_count(), indices_.size());
        for (std::size_t i = 0; i < count; ++i) {
            progress.begin();
            try {
                workers.post([this, &progress] { run(progress); });
            } catch (...) {
                progress.end(std::current_exception());
            }
        }
    }

private:
    void run(Progress &progress) noexcept {
        std::exception_ptr error;
        try {
            std::vector<std::byte> scratch;
            for (std::size_t k = next_++; k < indices_.size() && !progress.has_failed();
                 k = next_++) {
                results_[indices_[k]] = fingerprint_on_host(sources_, parts_[indices_[k]], scratch);
            }
        } catch (...) {
            error = std::current_exception();
        }
        progress.end(std::move(error));
    }

    const ExtentList &sources_;
    const std::span<const Part> parts_;
    const std::vector<std::size_t> indices_;
    const std::span<Fingerprint> results_;
    std::atomic<std::size_t> next_ = 0;
};

// Step 4, for one device at a time.
class CopiedWork {
public:
    CopiedWork(Scheduler &scheduler, CudaLanes &lanes, const CudaEvent &after)
        : scheduler_(scheduler), lanes_(lanes), after_(after) {
        for (std::size_t i = 0; i < copies_under_way; ++i) {
            // Pageable memory is only slower.
            std::unique_ptr<PinnedMemory> pinned =
                PinnedMemory::try_allocate(lanes.pinner(), chunk_nbytes);
            if (pinned == nullptr) {
                pageable_.emplace_back(chunk_nbytes);
            }
            free_.push_back(pinned ? pinned->data() : pageable_.back().data());
            pinned_.push_back(std::move(pinned));
        }
    }

    void start(const DevicePart &part, Fingerprint &result, Progress &progress,
               const std::function<void()> &poll) {
        progress.wait_below(copies_under_way, poll);
        if (progress.has_failed()) {
            return;
        }
        std::byte *buffer = take();
        progress.begin();
        try {
            lanes_.to_host().to_host(std::span(&part, 1), buffer, after_,
                                     [this, buffer, nbytes = part.nbytes, &result,
                                      &progress](std::exception_ptr error) noexcept {
                                         if (error) {
                                             give_back(buffer);
                                             return progress.end(std::move(error));
                                         }
                                         finish(buffer, nbytes, result, progress);
                                     });
        } catch (...) {
            give_back(buffer);
            progress.end(std::current_exception());
        }
    }

private:
    // On the lane's thread, which must not be kept.
    void finish(std::byte *buffer, std::size_t nbytes, Fingerprint &result,
                Progress &progress) noexcept {
        const auto task = [this, buffer, nbytes, &result, &progress] {
            result = fingerprint_chunk({buffer, nbytes});
            give_back(buffer);
            progress.end(nullptr);
        };
        try {
            scheduler_.workers().post_front(task);
        } catch (...) {
            task(); // no thread can be had: slowly, then
        }
    }
    std::byte *take() {
        const std::lock_guard lock(mutex_);
        std::byte *buffer = free_.back();
        free_.pop_back();
        return buffer;
    }
    void give_back(std::byte *buffer) {
        const std::lock_guard lock(mutex_);
        free_.push_back(buffer); // within its capacity
    }

    Scheduler &scheduler_;
    CudaLanes &lanes_;
    const CudaEvent &after_;
    std::vector<std::unique_ptr<PinnedMemory>> pinned_;
    std::vector<std::vector<std::byte>> pageable_;
    std::mutex mutex_;
    std::vector<std::byte *> free_;
};

// Steps 3 and 4 for the parts `indices` of `device`.
void fingerprint_of_device(Scheduler &scheduler, const ExtentList &sources,
                           std::span<const Part> parts, std::span<const std::size_t> indices,
                           std::int32_t device, const CudaEvent &after,
                           std::span<Fingerprint> results, Progress &progress,
                           const std::function<void()> &poll) {
    CudaLanes &lanes = scheduler.devices()[device];
    std::vector<std::size_t> left;
    std::vector<DeviceChunk> chunks;
    std::vector<std::size_t> of_chunks;
    for (const std::size_t index : indices) {
        const DevicePart part = sources.device_parts(parts[index].offset, parts[index].nbytes)[0];
        if (part.layout != nullptr) {
            left.push_back(index);
        } else {
            chunks.push_back({part.tensor + part.begin, part.nbytes});
            of_chunks.push_back(index);
        }
    }
    std::vector<Fingerprint> found;
    if (!chunks.empty() && !progress.has_failed()) {
        found = try_fingerprint_on_device(lanes, chunks, after);
    }
    for (std::size_t i = 0; i < found.size(); ++i) {
        results[of_chunks[i]] = found[i];
    }
    if (found.empty()) {
        left.insert(left.end(), of_chunks.begin(), of_chunks.end());
    }
    if (left.empty()) {
        return;
    }
    CopiedWork work(scheduler, lanes, after);
    Progress copies; // of these alone: the buffers are theirs
    for (const std::size_t index : left) {
        const DevicePart part = sources.device_parts(parts[index].offset, parts[index].nbytes)[0];
        if (progress.has_failed()) {
            break;
        }
        work.start(part, results[index], copies, poll);
    }
    copies.wait_below(1, poll);
    copies.rethrow();
}

} // namespace

std::vector<Fingerprint> fingerprint_extents(Scheduler &scheduler, const ExtentList &sources,
                                             std::span<const std::uint64_t> piece_nbytes,
                                             std::span<const CallerStream> streams,
                                             const std::function<void()> &poll) {
    const std::vector<Part> parts = cut(sources, piece_nbytes);
    std::vector<Fingerprint> results(parts.size());
    std::vector<std::size_t> on_host;
    std::vector<std::vector<std::size_t>> on_devices(sources.devices().size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const Extent &extent = sources.all()[sources.first_after(parts[i].offset)];
        if (extent.on_host()) {
            on_host.push_back(i);
        } else {
            const auto place = std::ranges::find(sources.devices(), extent.device);
            on_devices[static_cast<std::size_t>(place - sources.devices().begin())].push_back(i);
        }
    }
    const CallerOrder order(scheduler.devices(), sources.devices(), streams);
    Progress progress;
    HostWork host(sources, parts, std::move(on_host), results);
    host.start(scheduler.workers(), progress);
    for (std::size_t i = 0; i < on_devices.size(); ++i) {
        const std::int32_t device = sources.devices()[i];
        try {
            fingerprint_of_device(scheduler, sources, parts, on_devices[i], device,
                                  order.on(device), results, progress, poll);
        } catch (...) {
            progress.fail(std::current_exception());
        }
    }
    progress.wait_below(1, poll);
    progress.rethrow();
    return results;
}

} // namespace sucrose
