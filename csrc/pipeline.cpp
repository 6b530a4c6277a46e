#include "pipeline.h"

#include <utility>

namespace sucrose {

namespace {
constexpr std::size_t syncer_count = 8;
} // namespace

Scheduler::Scheduler(std::size_t slot_count, std::size_t worker_count,
                     std::unique_ptr<IoBackend> io)
    : slots_(slot_count), io_(std::move(io)), readers_("sucrose-read", read_lanes),
      syncers_("sucrose-sync", syncer_count), workers_("sucrose-worker", worker_count) {}

Scheduler::~Scheduler() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return unfinished_ == 0; });
}

void Scheduler::submit(std::shared_ptr<Job> job) {
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
        std::size_t ordinal = 0;
        SlotLease slot;
        try {
            slot = slots_.try_lease();
        } catch (...) { // no memory for the ring
            (*job)->fail(std::current_exception());
            job = jobs_.erase(job);
            continue;
        }
        if (!slot) {
            return;
        }
        switch ((*job)->try_start(ordinal)) {
        case Job::StartResult::started:
            (*job)->start(std::move(slot), ordinal);
            break;
        case Job::StartResult::not_now:
            ++job;
            break;
        case Job::StartResult::no_more:
            job = jobs_.erase(job);
            break;
        }
    }
}

void Scheduler::retire(const Job &job) noexcept {
    const std::lock_guard lock(mutex_);
    std::erase_if(jobs_, [&job](const std::shared_ptr<Job> &other) { return other.get() == &job; });
    if (--unfinished_ == 0) {
        idle_.notify_all();
    }
}

Job::Job(Scheduler &scheduler, std::size_t chunk_count, std::size_t max_in_flight,
         std::uint64_t total_nbytes)
    : scheduler_(scheduler), chunk_count_(chunk_count), max_in_flight_(max_in_flight),
      total_nbytes_(total_nbytes) {}

bool Job::wait_for(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    if (!finished_changed_.wait_for(lock, timeout, [this] { return finished_; })) {
        return false;
    }
    if (error_) {
        std::rethrow_exception(error_);
    }
    return true;
}

void Job::fail(std::exception_ptr error) {
    std::unique_lock lock(mutex_);
    if (!error_ && !concluding_) {
        error_ = std::move(error);
    }
    conclude_if_over(std::move(lock));
}

Job::StartResult Job::try_start(std::size_t &ordinal) noexcept {
    const std::lock_guard lock(mutex_);
    if (error_ || next_ == chunk_count_) {
        return StartResult::no_more;
    }
    if (in_flight_ == max_in_flight_) {
        return StartResult::not_now;
    }
    ordinal = next_++;
    ++in_flight_;
    return StartResult::started;
}

void Job::start(SlotLease slot, std::size_t ordinal) {
    auto chunk = std::make_shared<Chunk>(Chunk{shared_from_this(), std::move(slot), ordinal});
    scheduler_.workers().post([chunk = std::move(chunk)] {
        try {
            chunk->job->process(chunk);
        } catch (...) {
            chunk->job->chunk_done(chunk, 0, std::current_exception());
        }
    });
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
    {
        std::unique_lock lock(mutex_);
        --in_flight_;
        if (error && !error_) {
            error_ = std::move(error);
        }
        conclude_if_over(std::move(lock));
    }
    scheduler_.pump();
}

void Job::conclude_if_over(std::unique_lock<std::mutex> lock) {
    const bool over = begun_ && in_flight_ == 0 && (error_ || next_ == chunk_count_);
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
        Scheduler &scheduler = self->scheduler_;
        {
            const std::lock_guard guard(self->mutex_);
            self->error_ = std::move(error);
            self->finished_ = true;
            self->finished_changed_.notify_all();
        }
        scheduler.retire(*self);
    });
}

} // namespace sucrose
