// What happens to the engine when its process forks, and to the process when work was lost.
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

// To be called once, early: handlers of exit() run in reverse order, and this one ends the process.
void watch_exit() noexcept;
// An exit of this process (not of its children) with status 0 gets `status` from now on. Of several
// calls the lowest counts: 1, a failure, outweighs 128 + n, which only says what signal came.
void fail_exit(int status) noexcept;

} // namespace sucrose
