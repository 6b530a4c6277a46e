// Waiting for jobs as Python waits: without the GIL, and with an ear for Ctrl-C. A part of
// bindings.cpp.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "error.h"
#include "pipeline.h"

namespace sucrose {

namespace py = pybind11;

// How long Ctrl-C may have to wait.
inline constexpr std::chrono::milliseconds signal_interval{50};

// Waits without the GIL, for wait(interval) to return true. Ctrl-C cancels the job, waits until it
// no longer touches the caller's memory, and only then raises KeyboardInterrupt. False on time-out.
template <typename Wait>
bool wait_interruptibly(Job &job, std::optional<double> timeout_s, Wait wait) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    for (;;) {
        auto interval = signal_interval;
        if (timeout_s) {
            const std::chrono::duration<double> left =
                std::chrono::duration<double>(*timeout_s) - (Clock::now() - start);
            interval = std::chrono::ceil<std::chrono::milliseconds>(
                std::clamp(left, std::chrono::duration<double>::zero(),
                           std::chrono::duration<double>(signal_interval))); // may be infinite
        }
        bool finished = false;
        {
            const py::gil_scoped_release unlocked;
            finished = wait(interval);
        }
        if (finished) {
            return true;
        }
        if (PyErr_CheckSignals() != 0) {
            py::error_already_set interrupt;
            const py::gil_scoped_release unlocked;
            job.cancel();
            try {
                while (!job.wait_for(signal_interval)) {
                }
            } catch (const Error &) { // the interrupt is what the caller hears of
            }
            throw interrupt;
        }
        if (timeout_s &&
            std::chrono::duration<double>(Clock::now() - start).count() >= *timeout_s) {
            return false;
        }
    }
}

inline bool wait_for_end(Job &job, std::optional<double> timeout_s) {
    return wait_interruptibly(job, timeout_s,
                              [&](std::chrono::milliseconds t) { return job.wait_for(t); });
}

} // namespace sucrose
