#include "trace.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "error.h"

namespace sucrose {

namespace {

constexpr std::size_t flush_nbytes = 64 << 10;
constexpr std::uint64_t tracks_per_kind = 1000000;

const char *name_of(TraceTrack::Kind kind) noexcept {
    switch (kind) {
    case TraceTrack::Kind::program:
        return "program";
    case TraceTrack::Kind::ring:
        return "ring slot";
    case TraceTrack::Kind::staging:
        return "staging slot";
    case TraceTrack::Kind::files:
        return "files";
    }
    return "";
}

double microseconds(TraceClock::duration duration) noexcept {
    return std::chrono::duration<double, std::micro>(duration).count();
}

std::string with_process_id(std::string path) {
    if (const std::size_t at = path.find("%p"); at != std::string::npos) {
        path.replace(at, 2, std::to_string(::getpid()));
    }
    return path;
}

} // namespace

Tracer::Tracer(const std::string &path) {
    const std::string file = with_process_id(path);
    fd_ = UniqueFd(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!fd_) {
        throw SystemError(errno, "open", file);
    }
}

Tracer::~Tracer() {
    pending_ += "\n]\n";
    flush_locked();
}

void Tracer::span(TraceTrack track, std::string_view name, TraceClock::time_point begin,
                  TraceClock::time_point end, std::uint64_t nbytes) {
    const std::uint64_t id = static_cast<std::uint64_t>(track.kind) * tracks_per_kind + track.index;
    const std::lock_guard lock(mutex_);
    if (named_.insert(id).second) {
        name_track_locked(track, id);
    }
    std::array<char, 256> line{};
    std::snprintf(line.data(), line.size(),
                  ",\n{\"name\":\"%.*s\",\"ph\":\"X\",\"ts\":%.3f,\"dur\":%.3f,\"pid\":%d,"
                  "\"tid\":%llu,\"args\":{\"nbytes\":%llu}}",
                  static_cast<int>(name.size()), name.data(),
                  microseconds(begin.time_since_epoch()), microseconds(end - begin),
                  static_cast<int>(::getpid()), static_cast<unsigned long long>(id),
                  static_cast<unsigned long long>(nbytes));
    pending_ += line.data();
    if (pending_.size() >= flush_nbytes) {
        flush_locked();
    }
}

void Tracer::name_track_locked(TraceTrack track, std::uint64_t id) {
    const bool numbered =
        track.kind == TraceTrack::Kind::ring || track.kind == TraceTrack::Kind::staging;
    std::array<char, 32> number{};
    if (numbered) {
        std::snprintf(number.data(), number.size(), " %zu", track.index);
    }
    std::array<char, 192> line{};
    std::snprintf(line.data(), line.size(),
                  "%s\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":%llu,"
                  "\"args\":{\"name\":\"%s%s\"}}",
                  named_.size() == 1 ? "" : ",", static_cast<int>(::getpid()),
                  static_cast<unsigned long long>(id), name_of(track.kind), number.data());
    pending_ += line.data();
}

void Tracer::flush() noexcept {
    const std::lock_guard lock(mutex_);
    flush_locked();
}

void Tracer::flush_locked() noexcept {
    std::string_view left = pending_;
    while (fd_ && !left.empty()) {
        const ssize_t n = ::write(fd_.get(), left.data(), left.size());
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            fd_.reset();
            break;
        }
        left.remove_prefix(static_cast<std::size_t>(n));
    }
    pending_.clear();
}

} // namespace sucrose
