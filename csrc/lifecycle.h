// What happens to the engine when its process forks.
#pragma once

#include <sys/types.h>

namespace sucrose {

// Remembers the process that it was made in. A forked child inherits the engine's memory but none
// of its threads, so that any use there would wait for ever: `check` throws instead.
class ProcessGuard {
public:
    ProcessGuard() noexcept;

    bool same_process() const noexcept;
    // Throws ForkedProcess, naming both processes.
    void check() const;

private:
    pid_t owner_;
};

} // namespace sucrose
