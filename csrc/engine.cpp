#include "engine.h"

#include <algorithm>
#include <exception>
#include <latch>
#include <mutex>
#include <thread>
#include <utility>

#include "error.h"
#include "fingerprint_extents.h"
#include "hash/crc32.h"

namespace sucrose {

namespace {

constexpr std::size_t max_default_workers = 16;

ReadMode parse_read_mode(const std::string &name) {
    if (name == "auto") {
        return ReadMode::automatic;
    }
    if (name == "buffered") {
        return ReadMode::buffered;
    }
    if (name == "direct") {
        return ReadMode::direct;
    }
    throw Error("read mode '" + name + "' is none of auto, buffered, direct");
}

std::unique_ptr<IoBackend> make_backend(const EngineOptions &options, std::string &why_not) {
    if (options.io_backend == "threads") {
        return make_thread_backend(options.io_depth);
    }
    if (options.io_backend != "auto" && options.io_backend != "io_uring") {
        throw Error("I/O backend '" + options.io_backend + "' is none of auto, io_uring, threads");
    }
    if (auto uring = try_make_uring_backend(2 * options.slot_count, why_not)) {
        return uring;
    }
    if (options.io_backend == "io_uring") {
        throw Error("io_uring was asked for and cannot be used: " + why_not);
    }
    return make_thread_backend(options.io_depth);
}

std::size_t default_worker_count() noexcept {
    return std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, max_default_workers);
}

} // namespace

Engine::Engine(const EngineOptions &options)
    : direct_min_nbytes_(options.direct_min_nbytes),
      relay_slot_count_(std::max<std::size_t>(1, options.slot_count / 2)),
      read_mode_(parse_read_mode(options.read_mode)) {
    if (options.slot_count == 0 || options.io_depth == 0) {
        throw Error("the engine needs at least one slot and an I/O depth of at least one");
    }
    auto backend = make_backend(options, fallback_reason_);
    scheduler_ = std::make_unique<Scheduler>(
        SchedulerOptions{
            .ring_slot_count = options.slot_count,
            .worker_count =
                options.worker_count == 0 ? default_worker_count() : options.worker_count,
            .cuda_driver = options.cuda_driver,
            .trace = options.trace,
        },
        std::move(backend));
}

Engine::~Engine() {
    if (!process_.same_process()) {
        static_cast<void>(scheduler_.release()); // its threads were never here
        return;
    }
    for (const std::weak_ptr<Job> &relayed : relayed_) {
        if (const std::shared_ptr<Job> job = relayed.lock()) {
            job->cancel();
        }
    }
}

Scheduler &Engine::scheduler() const {
    process_.check();
    return *scheduler_;
}

std::shared_ptr<WriteJob> Engine::write(std::string path, ExtentList sources,
                                        std::span<const CallerStream> streams,
                                        WriteJob::Options options) {
    options.direct_min_nbytes = direct_min_nbytes_;
    if (options.relayed && options.max_in_flight == 0) {
        options.max_in_flight = relay_slot_count_;
    }
    auto job = WriteJob::create(scheduler(), std::move(path), std::move(sources), streams, options);
    if (options.relayed) {
        remember(job);
    }
    scheduler().submit(job);
    return job;
}

std::shared_ptr<ReadJob> Engine::read(std::string path, ExtentList destinations,
                                      std::span<const CallerStream> streams,
                                      ReadJob::Options options) {
    options.mode = read_mode_;
    if (options.relayed && options.max_in_flight == 0) {
        options.max_in_flight = relay_slot_count_;
    }
    auto job = ReadJob::create(scheduler(), std::move(path), std::move(destinations), streams,
                               std::move(options));
    if (job->relay() != nullptr) {
        remember(job);
    }
    scheduler().submit(job);
    return job;
}

void Engine::remember(const std::shared_ptr<Job> &job) {
    const std::lock_guard lock(relayed_mutex_);
    std::erase_if(relayed_, [](const std::weak_ptr<Job> &other) { return other.expired(); });
    relayed_.push_back(job);
}

std::size_t Engine::kept_staging_nbytes() const {
    return scheduler().kept_staging_nbytes();
}

bool Engine::reaches_device(std::int32_t ordinal) {
    return scheduler().devices().reaches(ordinal);
}

std::vector<std::pair<std::string, std::string>> Engine::cuda_fallbacks() const {
    return scheduler().devices().fallbacks();
}

Tracer *Engine::tracer() const {
    return scheduler().tracer();
}

std::vector<std::uint32_t> Engine::crc32(const ExtentList &sources) {
    struct Piece {
        std::size_t extent;
        std::span<const std::byte> bytes;
        std::uint32_t crc = 0;
    };
    std::vector<Piece> pieces;
    const std::span<const Extent> extents = sources.all();
    for (std::size_t i = 0; i < extents.size(); ++i) {
        if (extents[i].layout >= 0 || !extents[i].on_host()) {
            throw Error("crc32 takes contiguous extents of host memory");
        }
        for (std::uint64_t at = 0; at < extents[i].nbytes; at += chunk_nbytes) {
            const std::size_t n = std::min<std::uint64_t>(chunk_nbytes, extents[i].nbytes - at);
            pieces.push_back({i, {extents[i].host() + at, n}});
        }
    }
    Scheduler &on = scheduler();
    std::atomic<std::size_t> next = 0;
    const std::size_t helpers = std::min(on.workers().thread_count(), pieces.size());
    std::latch finished(static_cast<std::ptrdiff_t>(helpers));
    for (std::size_t i = 0; i < helpers; ++i) {
        on.workers().post([&] {
            for (std::size_t k = next++; k < pieces.size(); k = next++) {
                pieces[k].crc = sucrose::crc32(0, pieces[k].bytes);
            }
            finished.count_down();
        });
    }
    finished.wait();
    std::vector<std::uint32_t> result(extents.size(), 0);
    for (const Piece &piece : pieces) {
        std::uint32_t &crc = result[piece.extent];
        crc = crc32_combine(crc, piece.crc, piece.bytes.size());
    }
    return result;
}

std::vector<Fingerprint> Engine::fingerprint(const ExtentList &sources,
                                             std::span<const std::uint64_t> piece_nbytes,
                                             std::span<const CallerStream> streams,
                                             const std::function<void()> &poll) {
    return fingerprint_extents(scheduler(), sources, piece_nbytes, streams, poll);
}

void Engine::sync(const std::vector<std::string> &paths) {
    Scheduler &on = scheduler();
    std::mutex mutex;
    std::exception_ptr first_error;
    std::latch finished(static_cast<std::ptrdiff_t>(paths.size()));
    for (const std::string &path : paths) {
        on.syncers().post([&] {
            try {
                sync_path(path);
            } catch (...) {
                const std::lock_guard lock(mutex);
                if (!first_error) {
                    first_error = std::current_exception();
                }
            }
            finished.count_down();
        });
    }
    finished.wait();
    if (first_error) {
        std::rethrow_exception(first_error);
    }
}

const Counters &Engine::counters() const {
    return scheduler().counters();
}

const Codecs &Engine::codecs() const {
    return scheduler().codecs();
}

std::string_view Engine::io_backend() const {
    return scheduler().io().name();
}

std::size_t Engine::worker_count() const {
    return scheduler().workers().thread_count();
}

} // namespace sucrose
