#include "io/journal.h"

#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <utility>

#include "io/fault.h"

namespace sucrose::journal {

namespace {

constinit std::atomic<std::uint64_t> ticks = 0;
constinit std::atomic<bool> kept = false;
constinit std::mutex mutex;
constinit std::vector<Entry> *entries = nullptr; // never destroyed: threads may outlive statics

} // namespace

std::uint64_t tick() noexcept {
    return ticks.fetch_add(1) + 1;
}

void start() {
    const std::lock_guard lock(mutex);
    if (entries == nullptr) {
        entries = new std::vector<Entry>();
    }
    entries->clear();
    if (!kept.exchange(true)) {
        fault::listen(true);
    }
}

std::vector<Entry> stop() {
    const std::lock_guard lock(mutex);
    if (kept.exchange(false)) {
        fault::listen(false);
    }
    return entries == nullptr ? std::vector<Entry>() : std::exchange(*entries, {});
}

bool is_kept() noexcept {
    return kept.load(std::memory_order_relaxed);
}

void note(Kind kind, int fd, std::uint64_t begin, std::uint64_t offset, const void *data,
          std::size_t nbytes, const char *path) noexcept {
    const int kept_errno = errno; // of the call that this is about
    struct stat status {};
    const bool is_known = is_kept() && ::fstat(fd, &status) == 0;
    errno = kept_errno;
    if (!is_known) {
        return;
    }
    Entry entry{.kind = kind,
                .begin = begin,
                .end = tick(),
                .device = status.st_dev,
                .inode = status.st_ino,
                .path = path,
                .offset = offset,
                .bytes =
                    std::string(static_cast<const char *>(data), data == nullptr ? 0 : nbytes)};
    const std::lock_guard lock(mutex);
    if (kept) {
        entries->push_back(std::move(entry));
    }
}

} // namespace sucrose::journal
