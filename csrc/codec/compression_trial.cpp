#include "codec/compression_trial.h"

#include <algorithm>

namespace sucrose {

namespace {

// Chunks and written bytes that a decision takes.
constexpr std::size_t sampled_chunks = 8;
constexpr std::uint64_t sampled_write_nbytes = std::uint64_t{8} << 20;

// Files that go by the figures of an earlier one before the next is measured.
constexpr std::size_t files_between_measurements = 15;

double in_seconds(CompressionTrial::Clock::duration duration) noexcept {
    return std::max(1e-9, std::chrono::duration<double>(duration).count());
}

} // namespace

bool CompressionFigures::pays() const noexcept {
    if (write_rate <= 0) {
        return ratio < 1;
    }
    const double compressed = std::min(compress_rate * static_cast<double>(worker_count),
                                       write_rate / std::max(ratio, 1e-6));
    return compressed > write_rate;
}

std::optional<CompressionFigures> CompressionHistory::recall(dev_t storage) {
    const std::lock_guard lock(mutex_);
    const auto found = records_.find(storage);
    if (found == records_.end() || ++found->second.files > files_between_measurements) {
        return std::nullopt;
    }
    return found->second.figures;
}

void CompressionHistory::remember(dev_t storage, const CompressionFigures &figures) {
    const std::lock_guard lock(mutex_);
    records_[storage] = {figures, 0};
    latest_ = figures;
}

std::optional<CompressionFigures> CompressionHistory::latest() const {
    const std::lock_guard lock(mutex_);
    return latest_;
}

CompressionTrial::CompressionTrial(CompressionHistory &history, dev_t storage,
                                   std::size_t worker_count, bool written_through)
    : history_(history), storage_(storage), worker_count_(worker_count),
      written_through_(written_through) {
    if (const auto known = history_.recall(storage_)) {
        measuring_ = false;
        compressing_ = known->pays();
    }
}

void CompressionTrial::chunk_compressed(std::size_t raw_nbytes, std::size_t nbytes,
                                        Clock::duration took) {
    const std::lock_guard lock(mutex_);
    ++chunks_;
    raw_nbytes_ += raw_nbytes;
    compressed_nbytes_ += nbytes;
    compressing_time_ += took;
}

void CompressionTrial::write_began() {
    const std::lock_guard lock(mutex_);
    if (writes_under_way_++ == 0) {
        busy_since_ = Clock::now();
    }
}

void CompressionTrial::write_ended(std::size_t nbytes) {
    const std::lock_guard lock(mutex_);
    written_nbytes_ += nbytes;
    const auto now = Clock::now();
    busy_ += now - busy_since_;
    busy_since_ = now;
    --writes_under_way_;
    if (!measuring_ || !written_through_ || chunks_ < sampled_chunks ||
        written_nbytes_ < sampled_write_nbytes) {
        return;
    }
    if (const auto figures = figures_locked()) {
        measuring_ = false;
        compressing_ = figures->pays();
        history_.remember(storage_, *figures);
    }
}

void CompressionTrial::file_ended(Clock::duration sync) {
    const std::lock_guard lock(mutex_);
    busy_ += sync;
    if (!measuring_ || written_nbytes_ < sampled_write_nbytes) {
        return;
    }
    if (const auto figures = figures_locked()) {
        measuring_ = false;
        history_.remember(storage_, *figures);
    }
}

std::optional<CompressionFigures> CompressionTrial::figures_locked() const {
    if (raw_nbytes_ == 0) {
        return std::nullopt;
    }
    return CompressionFigures{
        .ratio = static_cast<double>(compressed_nbytes_) / static_cast<double>(raw_nbytes_),
        .compress_rate = static_cast<double>(raw_nbytes_) / in_seconds(compressing_time_),
        .write_rate = static_cast<double>(written_nbytes_) / in_seconds(busy_),
        .worker_count = worker_count_,
    };
}

} // namespace sucrose
