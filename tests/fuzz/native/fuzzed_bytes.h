// The input of a fuzzer, taken apart from its front.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sucrose {

// Zeros where there are no bytes left.
class FuzzedBytes {
public:
    FuzzedBytes(const std::uint8_t *data, std::size_t nbytes) noexcept : left_(data, nbytes) {}

    std::uint8_t byte() noexcept { return static_cast<std::uint8_t>(number(1)); }

    // Little-endian.
    std::uint64_t number(std::size_t nbytes) noexcept {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < std::min(nbytes, left_.size()); ++i) {
            value |= std::uint64_t{left_[i]} << (8 * i);
        }
        left_ = left_.subspan(std::min(nbytes, left_.size()));
        return value;
    }

    std::span<const std::byte> rest() const noexcept { return std::as_bytes(left_); }

private:
    std::span<const std::uint8_t> left_;
};

inline constexpr std::size_t fuzzed_itemsizes[] = {0, 2, 4, 8};

} // namespace sucrose
