// Host memory that is registered (pinned), and the asynchronous copies that are going to touch it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>

#include "cuda/cuda_driver.h"

namespace fake_cuda {

// The part that a pending copy has in host memory.
struct HostAccess {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    bool writes = false;
    bool running = false;
    bool cancelled = false;
};

enum class Pinned { not_at_all, partly, wholly };

// Guarded by the driver's mutex.
class HostMemory {
public:
    // CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED where part of it is.
    sucrose::cuda::CUresult add(std::uint64_t address, std::size_t nbytes, int device,
                                bool portable);
    // CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED where no registration begins there. Copies that are
    // pending are cancelled, since the program may unmap the memory next; `interrupted` says so.
    sucrose::cuda::CUresult remove(std::uint64_t address, std::unique_lock<std::mutex> &lock,
                                   std::condition_variable &changed, bool &interrupted);
    void remove_all(int device);

    // As copies of that device see the range.
    Pinned pinned(std::uint64_t address, std::size_t nbytes, int device) const;
    std::size_t count() const { return registrations_.size(); }
    std::size_t registered_nbytes() const;

    // An access that is pending until it is closed.
    std::shared_ptr<HostAccess> open(std::uint64_t address, std::size_t nbytes, bool writes);
    void close(const std::shared_ptr<HostAccess> &access) { pending_.remove(access); }
    bool access_pending(std::uint64_t address, std::size_t nbytes) const;
    bool write_pending(std::uint64_t address, std::size_t nbytes) const;

private:
    struct Registration {
        std::size_t nbytes = 0;
        int device = 0;
        bool portable = false;
    };

    std::map<std::uint64_t, Registration> registrations_;
    std::list<std::shared_ptr<HostAccess>> pending_;
};

} // namespace fake_cuda
