// Move-only owners of system resources. Destructors never throw.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <utility>

namespace sucrose {

// Traits give `value_type`, `invalid()`, `close(value) noexcept` and `==` on the value.
template <typename Traits> class UniqueHandle {
public:
    using value_type = typename Traits::value_type;

    UniqueHandle() noexcept : value_(Traits::invalid()) {}
    explicit UniqueHandle(value_type value) noexcept : value_(value) {}
    UniqueHandle(UniqueHandle &&other) noexcept
        : value_(std::exchange(other.value_, Traits::invalid())) {}
    UniqueHandle &operator=(UniqueHandle &&other) noexcept {
        if (this != &other) {
            reset();
            value_ = std::exchange(other.value_, Traits::invalid());
        }
        return *this;
    }
    UniqueHandle(const UniqueHandle &) = delete;
    UniqueHandle &operator=(const UniqueHandle &) = delete;
    ~UniqueHandle() { reset(); }

    explicit operator bool() const noexcept { return !(value_ == Traits::invalid()); }
    const value_type &get() const noexcept { return value_; }
    // Gives the resource away without closing it.
    value_type release() noexcept { return std::exchange(value_, Traits::invalid()); }
    void reset() noexcept {
        if (*this) {
            Traits::close(std::exchange(value_, Traits::invalid()));
        }
    }

private:
    value_type value_;
};

struct FdTraits {
    using value_type = int;
    static int invalid() noexcept { return -1; }
    static void close(int fd) noexcept { ::close(fd); }
};
using UniqueFd = UniqueHandle<FdTraits>;

struct Mapping {
    std::byte *data = nullptr;
    std::size_t nbytes = 0;
    bool operator==(const Mapping &) const = default;
};
struct MappingTraits {
    using value_type = Mapping;
    static Mapping invalid() noexcept { return {}; }
    static void close(const Mapping &mapping) noexcept { ::munmap(mapping.data, mapping.nbytes); }
};
using UniqueMapping = UniqueHandle<MappingTraits>;

} // namespace sucrose
