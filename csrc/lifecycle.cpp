#include "lifecycle.h"

#include <unistd.h>

#include <string>

#include "error.h"

namespace sucrose {

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

} // namespace sucrose
