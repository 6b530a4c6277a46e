#include "lifecycle.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "error.h"

namespace sucrose {

namespace {

std::atomic<pid_t> failed_process = 0;

void apply_failure(int status, void *) {
    if (status == 0 && failed_process == ::getpid()) {
        std::fflush(nullptr);
        ::_exit(1);
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

void fail_exit() noexcept {
    failed_process = ::getpid();
}

} // namespace sucrose
