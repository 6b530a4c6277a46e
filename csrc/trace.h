// What the pipeline did when, as a file that Perfetto and chrome://tracing show.
//
// The format is the JSON array of Chrome's Trace Event Format, whose closing bracket may be
// missing: a trace of a process that was killed can be read too.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "handle.h"

namespace sucrose {

using TraceClock = std::chrono::steady_clock;

// A row of the picture. Spans of one row do not overlap, or lie within each other.
struct TraceTrack {
    enum class Kind { program, ring, staging, files };
    Kind kind;
    std::size_t index = 0; // of the slot
};

// Thread-safe.
class Tracer {
public:
    // "%p" in `path` becomes the process id. Throws SystemError where the file cannot be made.
    explicit Tracer(const std::string &path);
    ~Tracer();
    Tracer(const Tracer &) = delete;
    Tracer &operator=(const Tracer &) = delete;

    void span(TraceTrack track, std::string_view name, TraceClock::time_point begin,
              TraceClock::time_point end, std::uint64_t nbytes = 0);
    // Writes what was collected. An error ends the trace, not the program.
    void flush() noexcept;

private:
    void name_track_locked(TraceTrack track, std::uint64_t id);
    void flush_locked() noexcept;

    std::mutex mutex_;
    UniqueFd fd_;
    std::string pending_ = "[";
    std::set<std::uint64_t> named_;
};

// A span from here to the end of the scope. Does nothing without a tracer.
class TraceScope {
public:
    TraceScope(Tracer *tracer, TraceTrack track, std::string_view name, std::uint64_t nbytes = 0)
        : tracer_(tracer), track_(track), name_(name), nbytes_(nbytes) {
        if (tracer_ != nullptr) {
            begin_ = TraceClock::now();
        }
    }
    ~TraceScope() {
        if (tracer_ != nullptr) {
            tracer_->span(track_, name_, begin_, TraceClock::now(), nbytes_);
        }
    }
    TraceScope(const TraceScope &) = delete;
    TraceScope &operator=(const TraceScope &) = delete;

private:
    Tracer *tracer_;
    TraceTrack track_;
    std::string_view name_;
    std::uint64_t nbytes_;
    TraceClock::time_point begin_;
};

} // namespace sucrose
