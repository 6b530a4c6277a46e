#include "host_memory.h"

#include <algorithm>

#include "errors.h"

namespace fake_cuda {

using namespace sucrose::cuda;

namespace {

bool overlaps(std::uint64_t begin, std::size_t nbytes, const HostAccess &access) {
    return begin < access.end && access.begin < begin + nbytes;
}

} // namespace

CUresult HostMemory::add(std::uint64_t address, std::size_t nbytes, int device, bool portable) {
    for (const auto &[begin, registration] : registrations_) {
        if (address < begin + registration.nbytes && begin < address + nbytes) {
            return error_host_memory_already_registered;
        }
    }
    registrations_[address] = {nbytes, device, portable};
    return success;
}

CUresult HostMemory::remove(std::uint64_t address, std::unique_lock<std::mutex> &lock,
                            std::condition_variable &changed, bool &interrupted) {
    const auto found = registrations_.find(address);
    if (found == registrations_.end()) {
        return error_host_memory_not_registered;
    }
    const std::size_t nbytes = found->second.nbytes;
    registrations_.erase(found);
    for (const std::shared_ptr<HostAccess> &access : pending_) {
        if (!access->cancelled && overlaps(address, nbytes, *access)) {
            interrupted = true;
            access->cancelled = true;
        }
    }
    changed.wait(lock, [&] {
        return std::ranges::none_of(pending_, [&](const std::shared_ptr<HostAccess> &access) {
            return access->running && overlaps(address, nbytes, *access);
        });
    });
    return success;
}

void HostMemory::remove_all(int device) {
    std::erase_if(registrations_, [&](const auto &item) { return item.second.device == device; });
}

Pinned HostMemory::pinned(std::uint64_t address, std::size_t nbytes, int device) const {
    for (const auto &[begin, registration] : registrations_) {
        const std::uint64_t end = begin + registration.nbytes;
        if (address >= end || begin >= address + nbytes ||
            !(registration.portable || registration.device == device)) {
            continue;
        }
        return address >= begin && address + nbytes <= end ? Pinned::wholly : Pinned::partly;
    }
    return Pinned::not_at_all;
}

std::size_t HostMemory::registered_nbytes() const {
    std::size_t nbytes = 0;
    for (const auto &[begin, registration] : registrations_) {
        nbytes += registration.nbytes;
    }
    return nbytes;
}

std::shared_ptr<HostAccess> HostMemory::open(std::uint64_t address, std::size_t nbytes,
                                             bool writes) {
    return pending_.emplace_back(
        std::make_shared<HostAccess>(HostAccess{address, address + nbytes, writes, false, false}));
}

bool HostMemory::access_pending(std::uint64_t address, std::size_t nbytes) const {
    return std::ranges::any_of(pending_, [&](const std::shared_ptr<HostAccess> &access) {
        return !access->cancelled && overlaps(address, nbytes, *access);
    });
}

bool HostMemory::write_pending(std::uint64_t address, std::size_t nbytes) const {
    return std::ranges::any_of(pending_, [&](const std::shared_ptr<HostAccess> &access) {
        return access->writes && !access->cancelled && overlaps(address, nbytes, *access);
    });
}

} // namespace fake_cuda
