#include "pipeline.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace sucrose {

namespace {

constexpr std::size_t syncer_count = 8;

// As many as there could ever be; the memory is only reserved.
std::size_t staging_slot_count() noexcept {
    const auto pages = static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES));
    return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / chunk_nbytes + 1;
}

} // namespace

Scheduler::Scheduler(const SchedulerOptions &options, std::unique_ptr<IoBackend> io)
    : tracer_(options.trace.empty() ? nullptr : std::make_unique<Tracer>(options.trace)),
      devices_(options.cuda_driver), ring_(options.ring_slot_count), staging_(staging_slot_count()),
      io_(std::move(io)), readers_("sucrose-read", read_lanes),
      syncers_("sucrose-sync", syncer_count), workers_("sucrose-worker", options.worker_count) {}

Scheduler::~Scheduler() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return unfinished_ == 0; });
}

void Scheduler::submit(std::shared_ptr<Job> job) {
    // Here the caller can be told that there are no threads, later on nobody could.
    workers_.start();
    syncers_.start();
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_back(job);
        ++unfinished_;
    }
    job->begin();
    pump();
}

void Scheduler::pump() {
    const std::lock_guard lock(mutex_);
    for (auto job = jobs_.begin(); job != jobs_.end();) {
        bool started = false;
        if (!start_one_locked(**job, started)) {
            job = jobs_.erase(job);
        } else if (!started) {
            ++job;
        }
    }
}

bool Scheduler::start_one_locked(Job &job, bool &started) {
    const Job::Needs needs = job.needs();
    try {
        started = (needs.staging_slot && try_start_locked(job, staging_)) ||
                  (needs.ring_slot && try_start_locked(job, ring_));
    } catch (...) { // no memory for slots
        job.fail(std::current_exception());
        return false;
    }
    return needs.staging_slot || needs.ring_slot || needs.patience;
}

bool Scheduler::try_start_locked(Job &job, BufferPool &slots) {
    SlotLease slot = slots.try_lease();
    return slot && job.try_start(std::move(slot), &slots == &staging_);
}

void Scheduler::retire(const Job &job) noexcept {
    const std::lock_guard lock(mutex_);
    std::erase_if(jobs_, [&job](const std::shared_ptr<Job> &other) { return other.get() == &job; });
    if (--unfinished_ == 0) {
        idle_.notify_all();
    }
}

std::size_t Scheduler::limit_staging(std::uint64_t nbytes) {
    staging_.set_limit(std::max<std::uint64_t>(1, nbytes / chunk_nbytes));
    return staging_.available();
}

Job::Job(Scheduler &scheduler, std::size_t chunk_count, std::size_t max_in_flight,
         std::uint64_t total_nbytes, std::shared_ptr<Relay> relay)
    : scheduler_(scheduler), relay_(std::move(relay)), chunk_count_(chunk_count),
      max_in_flight_(max_in_flight), total_nbytes_(total_nbytes) {}

bool Job::wait_for(std::chrono::milliseconds timeout) {
    return wait_until(timeout, [] { return false; });
}

void Job::stage_first(std::size_t staged_chunk_count, bool beside_others) noexcept {
    staged_chunk_count_ = staged_chunk_count;
    staged_beside_others_ = beside_others;
    next_ = staged_chunk_count;
}

void Job::fail(std::exception_ptr error) {
    std::unique_lock lock(mutex_);
    if (!error_ && !concluding_) {
        error_ = std::move(error);
    }
    if (concluding_ || !chunks_wait()) {
        conclude_if_over(std::move(lock));
        return;
    }
    ++side_work_;
    lock.unlock();
    if (relay_ != nullptr) {
        relay_->stop();
    }
    // Not here: the caller may hold the scheduler's lock, which chunk_done() takes.
    scheduler_.workers().post_front([self = shared_from_this()] {
        self->drop_waiting();
        self->end_side_work(nullptr);
    });
}

void Job::begin_side_work() {
    const std::lock_guard lock(mutex_);
    ++side_work_;
}

void Job::end_side_work(std::exception_ptr error) {
    std::unique_lock lock(mutex_);
    --side_work_;
    const bool failed = error != nullptr;
    if (error && !error_) {
        error_ = std::move(error);
    }
    changed_.notify_all();
    conclude_if_over(std::move(lock));
    if (failed) {
        drop_waiting();
    }
}

Job::Needs Job::needs() noexcept {
    const std::lock_guard lock(mutex_);
    if (error_ || all_started_locked()) {
        return {};
    }
    const bool to_stage = next_staged_ != staged_chunk_count_;
    const bool to_ring = next_ != chunk_count_ && (!to_stage || staged_beside_others_);
    const bool ring_is_full = in_ring_ == max_in_flight_;
    return {.staging_slot = to_stage,
            .ring_slot = to_ring && !ring_is_full,
            .patience = to_ring && ring_is_full};
}

bool Job::all_started_locked() const noexcept {
    return next_staged_ == staged_chunk_count_ && next_ == chunk_count_;
}

// False where an error came since needs().
bool Job::try_start(SlotLease slot, bool staged) {
    ChunkPtr chunk;
    {
        const std::lock_guard lock(mutex_);
        if (error_) {
            return false;
        }
        std::size_t &next = staged ? next_staged_ : next_;
        chunk = std::make_shared<Chunk>(Chunk{shared_from_this(), std::move(slot), next, staged});
        ++next;
        ++in_flight_;
        in_ring_ += staged ? 0 : 1;
    }
    post(chunk, [this, chunk] { process(chunk); });
    return true;
}

void Job::begin() {
    std::unique_lock lock(mutex_);
    begun_ = true;
    conclude_if_over(std::move(lock)); // a file without chunks
}

void Job::chunk_done(const ChunkPtr &chunk, std::uint64_t nbytes,
                     std::exception_ptr error) noexcept {
    chunk->slot.reset();
    done_nbytes_ += nbytes;
    const bool failed = error != nullptr;
    {
        std::unique_lock lock(mutex_);
        --in_flight_;
        in_ring_ -= chunk->staged ? 0 : 1;
        if (error && !error_) {
            error_ = std::move(error);
        }
        conclude_if_over(std::move(lock));
    }
    if (failed) {
        drop_waiting();
    }
    scheduler_.pump();
}

void Job::conclude_if_over(std::unique_lock<std::mutex> lock) {
    const bool over =
        begun_ && in_flight_ == 0 && side_work_ == 0 && (error_ || all_started_locked());
    if (!over || concluding_) {
        return;
    }
    concluding_ = true;
    lock.unlock();
    scheduler_.syncers().post([self = shared_from_this()] {
        std::exception_ptr error;
        {
            const std::lock_guard guard(self->mutex_);
            error = self->error_;
        }
        if (!error) {
            try {
                self->complete();
            } catch (...) {
                error = std::current_exception();
            }
        }
        self->release();
        Scheduler &scheduler = self->scheduler_;
        if (Tracer *tracer = scheduler.tracer()) {
            tracer->flush();
        }
        {
            const std::lock_guard guard(self->mutex_);
            self->error_ = std::move(error);
            self->finished_ = true;
            self->changed_.notify_all();
        }
        scheduler.retire(*self);
    });
}

} // namespace sucrose
