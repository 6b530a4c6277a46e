#include "lifecycle.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "error.h"

namespace sucrose {

namespace {

// Changed as one, since a signal handler may change it in the middle of a change.
struct Failure {
    pid_t process;
    int status;
};

std::atomic<Failure> failure{};
static_assert(std::atomic<Failure>::is_always_lock_free);

void apply_failure(int status, void *) {
    const Failure found = failure;
    if (status == 0 && found.process == ::getpid()) {
        std::fflush(nullptr);
        ::_exit(found.status);
    }
}

} // namespace

ProcessGuard::ProcessGuard() noexcept : owner_(::getpid()) {}

bool ProcessGuard::same_process() const noexcept {
    return ::getpid() == owner_;
}

void ProcessGuard::check() const {
    if (!same_process()) {
        throw ForkedProcess("the engine was started in process " + std::to_string(owner_) +
                            " and does not work in its forked child " + std::to_string(::getpid()) +
                            ": start worker processes with the 'spawn' or 'forkserver' method, or "
                            "save from the parent");
    }
}

void watch_exit() noexcept {
    ::on_exit(apply_failure, nullptr);
}

void fail_exit(int status) noexcept {
    const pid_t process = ::getpid();
    Failure found = failure;
    while ((found.process != process || found.status > status) &&
           !failure.compare_exchange_weak(found, {process, status})) {
    }
}

} // namespace sucrose
